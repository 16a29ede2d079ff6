// SPDX-License-Identifier: MIT
// The mathematics of the soft silhouette, once, for every backend. engine/softras/raster/silhouettes/reference.py is its
// readable definition. No standard headers, so that any C++17 compiler, nvcc and NVRTC take it as it is.
//
// Per face (double precision): camera coordinates -> near clip -> pixels -> polygon with oriented edges.
// Per pixel (scalar V, or a SIMD vector of them): distances to the edges -> exponent -> product.
// The backward functions mirror these, last to first.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define SR_HD __host__ __device__ inline
#else
#define SR_HD inline __attribute__((always_inline))
#endif

namespace softras::SOFTRAS_ISA {

constexpr double kCutoff = 9.210240366975849;  // ln(1 / 1e-4 - 1): a face counts outside while d^2 < kCutoff sigma
constexpr double kDegenerate = 1e-8;           // 2 area <= kDegenerate extent^2: no area
constexpr double kShort = 1e-9;                // an edge shorter than kShort extent is no edge
constexpr double kLog2e = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;

struct Vec2 { double x, y; };
struct Vec3 { double x, y, z; };

SR_HD Vec2 operator-(Vec2 a, Vec2 b) { return {a.x - b.x, a.y - b.y}; }
SR_HD double cross(Vec2 a, Vec2 b) { return a.x * b.y - a.y * b.x; }
template <class V>
SR_HD V max(V a, V b) { return a > b ? a : b; }
template <class V>
SR_HD V min(V a, V b) { return a < b ? a : b; }
#if defined(__CUDACC_RTC__)  // not every NVRTC knows the builtins
SR_HD double square_root(double a) { return sqrt(a); }
SR_HD double absolute(double a) { return fabs(a); }
SR_HD double round_up(double a) { return ceil(a); }
SR_HD double round_down(double a) { return floor(a); }
#else
SR_HD double square_root(double a) { return __builtin_sqrt(a); }  // also of vectors: simd.h
SR_HD double absolute(double a) { return __builtin_fabs(a); }
SR_HD double round_up(double a) { return __builtin_ceil(a); }
SR_HD double round_down(double a) { return __builtin_floor(a); }
#endif

// ---------------------------------------------------------------------------------------------- camera

// u = (k[0] x + k[1] y) / z + k[2], v = (k[3] x + k[4] y) / z + k[5]; no division when orthographic.
struct Camera {
  double k[6];
  double m[12];  // rows of [R | t], world to camera
  double near;
  bool orthographic;
};

SR_HD Vec3 to_camera(const Camera& c, Vec3 p) {
  return {c.m[0] * p.x + c.m[1] * p.y + c.m[2] * p.z + c.m[3],
          c.m[4] * p.x + c.m[5] * p.y + c.m[6] * p.z + c.m[7],
          c.m[8] * p.x + c.m[9] * p.y + c.m[10] * p.z + c.m[11]};
}

// Gradient g of the camera-space point -> of the world point, added to gm (3 x 4).
template <class S>
SR_HD Vec3 to_camera_backward(const Camera& c, Vec3 p, Vec3 g, S* gm) {
  const double row[3] = {g.x, g.y, g.z};
  for (int r = 0; r < 3; r++) {
    gm[4 * r] += row[r] * p.x, gm[4 * r + 1] += row[r] * p.y, gm[4 * r + 2] += row[r] * p.z, gm[4 * r + 3] += row[r];
  }
  return {c.m[0] * g.x + c.m[4] * g.y + c.m[8] * g.z, c.m[1] * g.x + c.m[5] * g.y + c.m[9] * g.z,
          c.m[2] * g.x + c.m[6] * g.y + c.m[10] * g.z};
}

SR_HD Vec2 project(const Camera& c, Vec3 p) {
  const double w = c.orthographic ? 1.0 : 1.0 / p.z;
  const double x = p.x * w, y = p.y * w;
  return {c.k[0] * x + c.k[1] * y + c.k[2], c.k[3] * x + c.k[4] * y + c.k[5]};
}

// Gradient g of the pixel -> of the camera-space point, added to gk (6).
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

// A corner of a clipped triangle: a + s (b - a) on the edge from corner a to corner b (s = 0: corner a itself).
struct Corner {
  int a, b;
  double s;
};

// The part of a triangle with z > near: 0, 3 or 4 corners, in the triangle's order.
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

SR_HD Vec3 corner_point(const Vec3* v, Corner c) {
  const Vec3 a = v[c.a], b = v[c.b];
  return {a.x + c.s * (b.x - a.x), a.y + c.s * (b.y - a.y), a.z + c.s * (b.z - a.z)};
}

// Gradient g of the corner, added to those of the triangle's corners.
SR_HD void corner_backward(const Vec3* v, Corner c, Vec3 g, Vec3* gv) {
  const Vec3 a = v[c.a], b = v[c.b];
  gv[c.a].x += (1 - c.s) * g.x, gv[c.a].y += (1 - c.s) * g.y, gv[c.a].z += (1 - c.s) * g.z;
  if (c.a == c.b) return;
  gv[c.b].x += c.s * g.x, gv[c.b].y += c.s * g.y, gv[c.b].z += c.s * g.z;
  const double gs = (g.x * (b.x - a.x) + g.y * (b.y - a.y) + g.z * (b.z - a.z)) / (b.z - a.z);
  gv[c.a].z += (c.s - 1) * gs;  // s = (near - a.z) / (b.z - a.z)
  gv[c.b].z -= c.s * gs;
}

// How the pixel of a corner moves in x or in y: the gradient with respect to vertices a and b in the world (x, y, z
// each; none for b if it is a), to rows 0 and 1 of K, and to rows 0 to 2 of world_to_camera.
constexpr int kSlopeIntrinsics = 6, kSlopeMatrix = 12, kSlope = 24;

// The reverse mode for one number. axis: 0 for x, 1 for y; a, b: those of the corner, in the world; slope: kSlope
// numbers, zero before.
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

// The outline of a face in one view: 0, 3 or 4 corners and their pixels.
struct Outline {
  Corner corner[4];
  Vec3 point[4];
  Vec2 pixel[4];
  int corners;
};

struct Bounds {
  double x0, y0, x1, y1;
};

SR_HD Bounds bounds_of(const Vec2* q, int n) {
  Bounds b = {q[0].x, q[0].y, q[0].x, q[0].y};
  for (int k = 1; k < n; k++) b = {min(b.x0, q[k].x), min(b.y0, q[k].y), max(b.x1, q[k].x), max(b.y1, q[k].y)};
  return b;
}
SR_HD double extent_of(const Bounds& b) { return max(b.x1 - b.x0, b.y1 - b.y0); }

struct Rect {
  int x0, y0, x1, y1;  // pixels, inclusive
};

// The pixels of an image whose centres are within radius of the bounds; false: none.
SR_HD bool reach(const Bounds& b, double radius, int width, int height, Rect& out) {
  const double x0 = round_up(b.x0 - radius - 0.5), x1 = round_down(b.x1 + radius - 0.5);
  const double y0 = round_up(b.y0 - radius - 0.5), y1 = round_down(b.y1 + radius - 0.5);
  if (!(x0 <= x1 && y0 <= y1 && x1 >= 0 && y1 >= 0 && x0 < width && y0 < height)) return false;
  out = {(int)max(x0, 0.0), (int)max(y0, 0.0), (int)min(x1, width - 1.0), (int)min(y1, height - 1.0)};
  return true;
}

// A triangle entirely in front of the near plane: its corners are its vertices.
SR_HD Outline whole_outline(const Vec3 v[3], const Vec2 pixel[3]) {
  Outline o;
  o.corners = 3;
  for (int k = 0; k < 3; k++) o.corner[k] = {k, k, 0.0}, o.point[k] = v[k], o.pixel[k] = pixel[k];
  return o;
}

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
  for (int k = 0; k < n; k++) {  // leave out the end of an edge too short to have a direction
    const Vec2 d = pixel[k] - pixel[k == 0 ? n - 1 : k - 1];
    if (d.x * d.x + d.y * d.y <= shortest * shortest) continue;
    o.corner[o.corners] = corner[k], o.point[o.corners] = point[k], o.pixel[o.corners] = pixel[k];
    o.corners++;
  }
  return o;
}

// An edge in its own axes (or several, with E a vector): the distance of a pixel (x, y) from its line, positive inside
// the polygon, is nx x + ny y + c; the position along it, from its middle, is ny x - nx y + e; it spans [-h, h] of that,
// and t = 1/2 + r position runs from 0 at corner k to 1 at corner k + 1.
template <class E>
struct Edges {
  E nx, ny, c, e, h, r;
};

// The same about a point, in units of 1 / kappa pixels, for pixels within kNear of it: small numbers, safe in float. Of
// an edge that reaches far beyond them only the part that can be nearest is kept; t at its middle is `t`.
template <class E>
struct LocalEdges {
  E nx, ny, c, e, h, r, t;
};

constexpr double kNear = 32;  // pixels

template <class E, class B>
SR_HD LocalEdges<E> localize(const Edges<E>& g, double x, double y, const B& blur) {
  const double kappa = blur.kappa;
  const E middle = -kappa * (g.ny * x - g.nx * y + g.e), half = kappa * g.h, r = g.r * blur.inverse_kappa;
  const E end = E(kappa * kNear + blur.far);
  const E low = min(max(middle - half, -end), end), high = min(max(middle + half, -end), end);
  const E e = -0.5 * (low + high);
  return {kappa * g.nx, kappa * g.ny, kappa * (g.nx * x + g.ny * y + g.c), e, 0.5 * (high - low), r, 0.5 - r * (middle + e)};
}

// The edges from a to b; sign: 1 for a polygon of positive area in y-down pixels, else -1.
template <class E>
SR_HD Edges<E> make_edges(E ax, E ay, E bx, E by, double sign) {
  const E dx = bx - ax, dy = by - ay, length = square_root(dx * dx + dy * dy), unit = sign / length;
  const E nx = -dy * unit, ny = dx * unit;
  return {nx, ny, -(nx * ax + ny * ay), 0.5 * (nx * (ay + by) - ny * (ax + bx)), 0.5 * length, unit};
}

// Twice the signed area of a polygon of 3 or 4 corners.
SR_HD double doubled_area(const Vec2* q, int n) { return cross(q[2] - q[0], (n == 4 ? q[3] : q[0]) - q[1]); }

// Whether a polygon counts. With cull, those seen from behind (positive area in y-down pixels) do not.
SR_HD bool visible(double area2, const Bounds& bounds, bool cull) {
  const double extent = extent_of(bounds);
  return absolute(area2) > kDegenerate * extent * extent && !(cull && area2 > 0);
}

// ---------------------------------------------------------------------------------------------- pixel

// Pixel and edge: `across` is the signed distance from the line, `along` the position of the nearest point of the
// edge, `past` how far the pixel lies beyond its end; the squared distance is across^2 + past^2.
template <class V>
SR_HD V nearest_along(V position, V half) {
  return min(max(position, -half), half);
}
template <class V>
SR_HD V squared_distance(V across, V past) {
  return across * across + past * past;
}
// The same without a need for the sign of `past`.
template <class V>
SR_HD V squared_distance(V across, V position, V half) {
  return squared_distance(across, positive_part(magnitude(position) - half));
}

// alpha = 1 - 1 / prod (1 + 2^x), and d alpha / d x = ln 2 * transmittance * 2^x / (1 + 2^x), with
// x = +-d^2 log2(e) / sigma; coordinates are scaled by kappa so that x = +-squared.
constexpr double kCutoffLog2 = kCutoff * kLog2e;
template <class T>
constexpr T kSaturated = sizeof(T) == 4 ? T(1e8) : T(1e16);  // 1 / transmittance that counts as opaque
template <class T>
constexpr T kMostExponent = sizeof(T) == 4 ? T(27) : T(54);  // so does 2^x beyond it

// What the blur makes of a pixel.
template <class T>
struct Blur {
  double radius;                // the cut-off in pixels
  double kappa, inverse_kappa;  // the unit of length is 1 / kappa pixels
  T reach;                      // the cut-off in that unit, and more than rounding can add to a distance
  double far;                   // units beyond which it does not matter how far an edge is
};
template <class T>
SR_HD Blur<T> blur_of(double radius, double kappa, double far, int width) {
  return {radius, kappa, 1 / kappa, T(kappa * (radius * 1.0001 + 0.01 + 1e-6 * width)), far};
}
constexpr double kFar = 8;  // beyond the cut-off, and where 2^x is kMostExponent
template <class T>
SR_HD Blur<T> blur_of(double sigma, int height, int width) {  // sigma in squared NDC
  const double half = 0.5 * min(height, width), pixels = sigma * half * half;
  return blur_of<T>(square_root(kCutoff * pixels), square_root(kLog2e / pixels), kFar, width);
}

// The nearest point of an edge is (1 - t) a + t b, and d squared / d point = -2 (pixel - point), where pixel - point =
// across (nx, ny) + past (ny, -nx). So dL/d(squared) = g moves the corners of the nearest edge by this, times (1 - t)
// for corner k and times t for corner k + 1; in pixels, since localize() has multiplied the normal by kappa.
template <class V>
struct Vector2 {
  V x, y;
};
template <class V>
SR_HD Vector2<V> nearest_point_gradient(V g, V across, V past, V nx, V ny) {
  const V a = -2 * g * across, b = -2 * g * past;
  return {a * nx + b * ny, a * ny - b * nx};
}

}  // namespace softras::SOFTRAS_ISA
