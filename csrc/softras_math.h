// SPDX-License-Identifier: MIT
// The mathematics of the soft silhouette, in one copy for every backend. Its readable definition is
// engine/softras/raster/silhouettes/reference.py. The file includes no standard header, so that every C++17 compiler,
// nvcc and NVRTC can compile it as it is.
//
// For each face, in double precision: vertices go to camera space, are clipped at the near plane and projected to pixels,
// and make a polygon with oriented edges. For each pixel, with V a number or a SIMD vector of numbers: the distances to
// the edges give an exponent, and the exponents of all faces a product. The functions whose names end in `backward` take
// gradients the same way back, from the last step to the first.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define SR_HD __host__ __device__ inline
#else
#define SR_HD inline __attribute__((always_inline))
#endif

namespace softras::SOFTRAS_ISA {

// Outside of a face, the face counts at a pixel while d^2 < kCutoff sigma: ln(1 / 1e-4 - 1), where its coverage is 1e-4.
constexpr double kCutoff = 9.210240366975849;
// A polygon has no area if twice its area is at most kDegenerate times the square of its extent.
constexpr double kDegenerate = 1e-8;
// An edge has no direction if it is shorter than kShort times the extent of its polygon.
constexpr double kShort = 1e-9;
constexpr double kLog2e = 1.4426950408889634;  // log2(e)
constexpr double kLn2 = 0.6931471805599453;    // ln(2)

struct Vec2 { double x, y; };
struct Vec3 { double x, y, z; };

SR_HD Vec2 operator-(Vec2 a, Vec2 b) { return {a.x - b.x, a.y - b.y}; }
SR_HD double cross(Vec2 a, Vec2 b) { return a.x * b.y - a.y * b.x; }
template <class V>
SR_HD V max(V a, V b) { return a > b ? a : b; }
template <class V>
SR_HD V min(V a, V b) { return a < b ? a : b; }
#if defined(__CUDACC_RTC__)  // some versions of NVRTC do not know the builtins
SR_HD double square_root(double a) { return sqrt(a); }
SR_HD double absolute(double a) { return fabs(a); }
SR_HD double round_up(double a) { return ceil(a); }
SR_HD double round_down(double a) { return floor(a); }
#else
SR_HD double square_root(double a) { return __builtin_sqrt(a); }  // simd.h has the one for vectors
SR_HD double absolute(double a) { return __builtin_fabs(a); }
SR_HD double round_up(double a) { return __builtin_ceil(a); }
SR_HD double round_down(double a) { return __builtin_floor(a); }
#endif

// ---------------------------------------------------------------------------------------------- camera

// A camera takes a point (x, y, z) of camera space to the pixel u = (k[0] x + k[1] y) / z + k[2],
// v = (k[3] x + k[4] y) / z + k[5]; an orthographic camera does not divide by z.
struct Camera {
  double k[6];        // rows 0 and 1 of K
  double m[12];       // rows 0 to 2 of world_to_camera
  double near;        // depth of the near plane, in scene units
  bool orthographic;
};

// A point of the world in camera space.
SR_HD Vec3 to_camera(const Camera& c, Vec3 p) {
  return {c.m[0] * p.x + c.m[1] * p.y + c.m[2] * p.z + c.m[3],
          c.m[4] * p.x + c.m[5] * p.y + c.m[6] * p.z + c.m[7],
          c.m[8] * p.x + c.m[9] * p.y + c.m[10] * p.z + c.m[11]};
}

// From the gradient g with respect to the camera-space point: returns the gradient with respect to the world point p, and
// adds the gradient with respect to world_to_camera to gm (3 x 4).
template <class S>
SR_HD Vec3 to_camera_backward(const Camera& c, Vec3 p, Vec3 g, S* gm) {
  const double row[3] = {g.x, g.y, g.z};
  for (int r = 0; r < 3; r++) {
    gm[4 * r] += row[r] * p.x, gm[4 * r + 1] += row[r] * p.y, gm[4 * r + 2] += row[r] * p.z, gm[4 * r + 3] += row[r];
  }
  return {c.m[0] * g.x + c.m[4] * g.y + c.m[8] * g.z, c.m[1] * g.x + c.m[5] * g.y + c.m[9] * g.z,
          c.m[2] * g.x + c.m[6] * g.y + c.m[10] * g.z};
}

// The pixel of a point (x, y) of the plane at depth 1.
SR_HD Vec2 in_plane(const Camera& c, double x, double y) {
  return {c.k[0] * x + c.k[1] * y + c.k[2], c.k[3] * x + c.k[4] * y + c.k[5]};
}

// The pixel of a point of camera space.
SR_HD Vec2 project(const Camera& c, Vec3 p) {
  const double w = c.orthographic ? 1.0 : 1.0 / p.z;
  return in_plane(c, p.x * w, p.y * w);
}

// From the gradient g with respect to the pixel: returns the gradient with respect to the camera-space point p, and adds
// the gradient with respect to rows 0 and 1 of K to gk (6).
template <class S>
SR_HD Vec3 project_backward(const Camera& c, Vec3 p, Vec2 g, S* gk) {
  const double w = c.orthographic ? 1.0 : 1.0 / p.z;
  const double x = p.x * w, y = p.y * w;
  gk[0] += g.x * x, gk[1] += g.x * y, gk[2] += g.x;
  gk[3] += g.y * x, gk[4] += g.y * y, gk[5] += g.y;
  const double gx = (g.x * c.k[0] + g.y * c.k[3]) * w, gy = (g.x * c.k[1] + g.y * c.k[4]) * w;
  return {gx, gy, c.orthographic ? 0.0 : -(gx * x + gy * y)};
}

// ---------------------------------------------------------------------------------------------- near clip

// A corner of a clipped triangle: the point a + s (b - a) on the triangle's edge from its corner a to its corner b. A
// corner of the triangle itself has a = b and s = 0.
struct Corner {
  int a, b;
  double s;
};

// Finds the corners of the part of a triangle with z > near, in the triangle's order; returns how many: 0, 3 or 4.
SR_HD int clip_near(const Vec3 v[3], double near, Corner out[4]) {
  int n = 0;
  for (int i = 0; i < 3; i++) {
    const int j = i == 2 ? 0 : i + 1;
    const bool in_i = v[i].z > near, in_j = v[j].z > near;
    if (in_i) out[n++] = {i, i, 0.0};
    if (in_i != in_j) {
      const int a = in_i ? i : j, b = in_i ? j : i;
      out[n++] = {a, b, (near - v[a].z) / (v[b].z - v[a].z)};
    }
  }
  return n;
}

// The point of a corner, from the corners of the triangle.
SR_HD Vec3 corner_point(const Vec3* v, Corner c) {
  const Vec3 a = v[c.a], b = v[c.b];
  return {a.x + c.s * (b.x - a.x), a.y + c.s * (b.y - a.y), a.z + c.s * (b.z - a.z)};
}

// Adds the gradient g with respect to a corner to the gradients gv with respect to the corners of the triangle.
SR_HD void corner_backward(const Vec3* v, Corner c, Vec3 g, Vec3* gv) {
  const Vec3 a = v[c.a], b = v[c.b];
  gv[c.a].x += (1 - c.s) * g.x, gv[c.a].y += (1 - c.s) * g.y, gv[c.a].z += (1 - c.s) * g.z;
  if (c.a == c.b) return;
  gv[c.b].x += c.s * g.x, gv[c.b].y += c.s * g.y, gv[c.b].z += c.s * g.z;
  const double gs = (g.x * (b.x - a.x) + g.y * (b.y - a.y) + g.z * (b.z - a.z)) / (b.z - a.z);
  gv[c.a].z += (c.s - 1) * gs;  // s = (near - a.z) / (b.z - a.z)
  gv[c.b].z -= c.s * gs;
}

// The slope of a corner: the derivatives of one pixel coordinate of the corner. It has kSlope numbers: the derivatives
// with respect to vertices a and b of the corner in the world (x, y, z each), from kSlopeIntrinsics on with respect to rows
// 0 and 1 of K, and from kSlopeMatrix on with respect to rows 0 to 2 of world_to_camera.
constexpr int kSlopeIntrinsics = 6, kSlopeMatrix = 12, kSlope = 24;

// Adds a corner's slope to `slope`, where zeros are expected; the numbers for b remain zero if b is a. axis: 0 for the
// pixel's x, 1 for its y; a and b: the vertices in the world.
template <class S>
SR_HD void corner_slope(const Camera& camera, int axis, Corner corner, Vec3 a, Vec3 b, S* slope) {
  const Vec3 world[2] = {a, b}, v[2] = {to_camera(camera, a), to_camera(camera, b)};
  const int ends = corner.a == corner.b ? 1 : 2;
  const Corner on_edge = {0, ends - 1, corner.s};
  const Vec2 unit = {axis == 0 ? 1.0 : 0.0, axis == 0 ? 0.0 : 1.0};
  Vec3 g[2] = {};
  corner_backward(v, on_edge, project_backward(camera, corner_point(v, on_edge), unit, slope + kSlopeIntrinsics), g);
  for (int k = 0; k < ends; k++) {
    const Vec3 moved = to_camera_backward(camera, world[k], g[k], slope + kSlopeMatrix);
    slope[3 * k] = S(moved.x), slope[3 * k + 1] = S(moved.y), slope[3 * k + 2] = S(moved.z);
  }
}

// ---------------------------------------------------------------------------------------------- polygon

// The outline of a face in one view.
struct Outline {
  Corner corner[4];
  Vec3 point[4];  // of the corners, in camera space
  Vec2 pixel[4];
  int corners;    // their number: 3 or 4, or 0 where nothing of the face is in front of the near plane
};

// The bounding box of a polygon, in pixel coordinates.
struct Bounds {
  double x0, y0, x1, y1;
};

SR_HD Bounds bounds_of(const Vec2* q, int n) {
  Bounds b = {q[0].x, q[0].y, q[0].x, q[0].y};
  for (int k = 1; k < n; k++) b = {min(b.x0, q[k].x), min(b.y0, q[k].y), max(b.x1, q[k].x), max(b.y1, q[k].y)};
  return b;
}
// The longer side of the bounding box.
SR_HD double extent_of(const Bounds& b) { return max(b.x1 - b.x0, b.y1 - b.y0); }

// A rectangle of pixels: columns x0 to x1 of rows y0 to y1, both inclusive. It is empty if y0 > y1.
struct Rect {
  int x0, y0, x1, y1;
};

// Finds the pixels of an image whose centres are within a margin (in pixels) of a bounding box. False: there are none.
SR_HD bool pixels_within(const Bounds& b, double margin, int width, int height, Rect& out) {
  const double x0 = round_up(b.x0 - margin - 0.5), x1 = round_down(b.x1 + margin - 0.5);
  const double y0 = round_up(b.y0 - margin - 0.5), y1 = round_down(b.y1 + margin - 0.5);
  if (!(x0 <= x1 && y0 <= y1 && x1 >= 0 && y1 >= 0 && x0 < width && y0 < height)) return false;
  out = {(int)max(x0, 0.0), (int)max(y0, 0.0), (int)min(x1, width - 1.0), (int)min(y1, height - 1.0)};
  return true;
}

// The outline of a triangle that is entirely in front of the near plane: its corners are those of the triangle.
SR_HD Outline whole_outline(const Vec3 v[3], const Vec2 pixel[3]) {
  Outline o;
  o.corners = 3;
  for (int k = 0; k < 3; k++) o.corner[k] = {k, k, 0.0}, o.point[k] = v[k], o.pixel[k] = pixel[k];
  return o;
}

// The outline of any triangle, given by its corners in camera space.
SR_HD Outline clipped_outline(const Camera& camera, const Vec3 v[3]) {
  Outline o;
  Corner corner[4];
  const int n = clip_near(v, camera.near, corner);
  o.corners = 0;
  if (n == 0) return o;
  Vec3 point[4];
  Vec2 pixel[4];
  for (int k = 0; k < n; k++) point[k] = corner_point(v, corner[k]), pixel[k] = project(camera, point[k]);
  const double shortest = kShort * extent_of(bounds_of(pixel, n));
  for (int k = 0; k < n; k++) {  // the end of an edge too short to have a direction is left out
    const Vec2 d = pixel[k] - pixel[k == 0 ? n - 1 : k - 1];
    if (d.x * d.x + d.y * d.y <= shortest * shortest) continue;
    o.corner[o.corners] = corner[k], o.point[o.corners] = point[k], o.pixel[o.corners] = pixel[k];
    o.corners++;
  }
  return o;
}

// Edge k of a polygon, from corner k to corner k + 1, in its own axes; several edges at once if E is a vector. At a pixel
// (x, y), nx x + ny y + c is the signed distance from the edge's line, positive on the polygon's side, and
// p = ny x - nx y + e is the position along the line, measured from the edge's middle. The edge spans -h <= p <= h, and
// t = 1/2 + r p runs from 0 at corner k to 1 at corner k + 1. Lengths are in pixels.
template <class E>
struct Edges {
  E nx, ny, c, e, h, r;
};

// The same edges with the origin at a given point and lengths in units of 1 / kappa pixels, for pixels at most kNear away
// from that point. The numbers are small, so that float is precise enough. Of an edge that extends far beyond those
// pixels only the part that can be nearest to one of them is kept, and `t` is the edge's t at the middle of that part.
template <class E>
struct LocalEdges {
  E nx, ny, c, e, h, r, t;
};

constexpr double kNear = 32;  // pixels

// Edges about the point (x, y). B is a Blur.
template <class E, class B>
SR_HD LocalEdges<E> localize(const Edges<E>& g, double x, double y, const B& blur) {
  const double kappa = blur.kappa;
  const E middle = -kappa * (g.ny * x - g.nx * y + g.e), half = kappa * g.h, r = g.r * blur.inverse_kappa;
  const E end = E(kappa * kNear + blur.far);
  const E low = min(max(middle - half, -end), end), high = min(max(middle + half, -end), end);
  const E e = -0.5 * (low + high);
  return {kappa * g.nx, kappa * g.ny, kappa * (g.nx * x + g.ny * y + g.c), e, 0.5 * (high - low), r, 0.5 - r * (middle + e)};
}

// The edges from a to b. sign: 1 for a polygon of positive area in pixels (whose y points down), -1 for others.
template <class E>
SR_HD Edges<E> make_edges(E ax, E ay, E bx, E by, double sign) {
  const E dx = bx - ax, dy = by - ay, length = square_root(dx * dx + dy * dy), unit = sign / length;
  const E nx = -dy * unit, ny = dx * unit;
  return {nx, ny, -(nx * ax + ny * ay), 0.5 * (nx * (ay + by) - ny * (ax + bx)), 0.5 * length, unit};
}

// Twice the signed area of a polygon of 3 or 4 corners: the cross product of its diagonals.
SR_HD double doubled_area(const Vec2* q, int n) { return cross(q[2] - q[0], (n == 4 ? q[3] : q[0]) - q[1]); }

// Whether a polygon counts: it has an area, and with `cull` it is not seen from behind, which is a positive area in pixels
// (whose y points down).
SR_HD bool visible(double area2, const Bounds& bounds, bool cull) {
  const double extent = extent_of(bounds);
  return absolute(area2) > kDegenerate * extent * extent && !(cull && area2 > 0);
}

// ---------------------------------------------------------------------------------------------- pixel

// A pixel and an edge: `across` is the signed distance of the pixel from the edge's line, `position` where the pixel is
// along that line, `along` where the point of the edge nearest to the pixel is, and `past` = position - along how far the
// pixel lies beyond the edge's end. The squared distance of the pixel from the edge is across^2 + past^2.
template <class V>
SR_HD V nearest_along(V position, V half) {
  return min(max(position, -half), half);
}
template <class V>
SR_HD V squared_distance(V across, V past) {
  return across * across + past * past;
}
// The squared distance from position and half length, which does without the sign of `past`.
template <class V>
SR_HD V squared_distance(V across, V position, V half) {
  return squared_distance(across, positive_part(magnitude(position) - half));
}

// With x = +-d^2 log2(e) / sigma, positive inside a face, the face's coverage is D = 2^x / (1 + 2^x). So
// alpha = 1 - 1 / product over the faces of (1 + 2^x), and d alpha / d x = ln 2 * transmittance * D. Lengths are scaled by
// kappa, so that x is + or - the squared distance.
constexpr double kCutoffLog2 = kCutoff * kLog2e;  // outside of a face, the face counts while x > -kCutoffLog2
// A pixel counts as opaque from this value of the product, 1 / transmittance, on: further faces change it no more.
template <class T>
constexpr T kSaturated = sizeof(T) == 4 ? T(1e8) : T(1e16);
// An exponent x that makes a pixel opaque by itself: greater ones are taken for it.
template <class T>
constexpr T kMostExponent = sizeof(T) == 4 ? T(27) : T(54);

// The blur of an image, as the distances need it.
template <class T>
struct Blur {
  double cutoff_pixels;         // the greatest distance outside of a face, in pixels, at which the face counts
  double kappa, inverse_kappa;  // units of length for each pixel, and pixels for each unit
  T cutoff;                     // the cut-off distance in units, plus more than rounding can add to a distance
  double far;                   // an edge farther than this, in units, may as well be farther still
};
template <class T>
SR_HD Blur<T> blur_of(double cutoff_pixels, double kappa, double far, int width) {
  return {cutoff_pixels, kappa, 1 / kappa, T(kappa * (cutoff_pixels * 1.0001 + 0.01 + 1e-6 * width)), far};
}
// Units of length: outside, farther than the cut-off; inside, farther than where x is kMostExponent.
constexpr double kFar = 8;
// The blur of a silhouette. sigma is in squared NDC.
template <class T>
SR_HD Blur<T> blur_of(double sigma, int height, int width) {
  const double half = 0.5 * min(height, width), pixels = sigma * half * half;
  return blur_of<T>(square_root(kCutoff * pixels), square_root(kLog2e / pixels), kFar, width);
}

template <class V>
struct Vector2 {
  V x, y;
};

// The gradient with respect to the point of an edge nearest to a pixel, from the gradient g with respect to the squared
// distance: d squared / d point = -2 (pixel - point), where pixel - point = across (nx, ny) + past (ny, -nx). The point is
// (1 - t) a + t b, so corner k of the edge gets (1 - t) times this gradient and corner k + 1 gets t times it. The gradient
// is per pixel, not per unit, since localize() has multiplied the normal by kappa.
template <class V>
SR_HD Vector2<V> nearest_point_gradient(V g, V across, V past, V nx, V ny) {
  const V a = -2 * g * across, b = -2 * g * past;
  return {a * nx + b * ny, a * ny - b * nx};
}

}  // namespace softras::SOFTRAS_ISA
