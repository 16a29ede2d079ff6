// SPDX-License-Identifier: MIT
// Fragments, in one copy for every backend. A fragment is what a pixel gets from one face: the point of the face that is
// seen at the pixel, its coverage, and its weight among the other fragments. The readable definition is
// engine/softras/raster/images/reference.py.
#pragma once
#include "softras_math.h"
#include "softras_modes.h"

namespace softras::SOFTRAS_ISA {

SR_HD Vec3 cross(Vec3 a, Vec3 b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
SR_HD double dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

// The homogeneous pixel (w u, w v, w) of a camera-space point whose pixel is (u, v). w is the depth of the point, or 1 for
// an orthographic camera.
SR_HD Vec3 homogeneous_pixel(const Camera& c, Vec3 p) {
  const double w = c.orthographic ? 1.0 : p.z;
  return {c.k[0] * p.x + c.k[1] * p.y + c.k[2] * w, c.k[3] * p.x + c.k[4] * p.y + c.k[5] * w, w};
}

// The homogeneous pixel from the pixel and the depth, which must not be 0.
SR_HD Vec3 homogeneous_pixel(const Camera& c, Vec2 pixel, double z) {
  const double w = c.orthographic ? 1.0 : z;
  return {pixel.x * w, pixel.y * w, w};
}

// From the gradient g with respect to the homogeneous pixel: returns the gradient with respect to the camera-space point
// p, and adds the gradient with respect to rows 0 and 1 of K to gk (6).
template <class S>
SR_HD Vec3 homogeneous_pixel_backward(const Camera& c, Vec3 p, Vec3 g, S* gk) {
  const double w = c.orthographic ? 1.0 : p.z;
  gk[0] += g.x * p.x, gk[1] += g.x * p.y, gk[2] += g.x * w;
  gk[3] += g.y * p.x, gk[4] += g.y * p.y, gk[5] += g.y * w;
  return {g.x * c.k[0] + g.y * c.k[3], g.x * c.k[1] + g.y * c.k[4],
          c.orthographic ? 0.0 : g.x * c.k[2] + g.y * c.k[5] + g.z};
}

// Three linear functions of the pixel (x, y): g_k = row[k] . (x, y, 1). Inside the face, g_k is the barycentric coordinate
// of corner k, correct under perspective, divided by the depth.
struct Planes {
  Vec3 row[3];
};

// The planes of a face with homogeneous pixels h: the inverse of the matrix with columns h. The face must not be seen
// edge-on.
SR_HD Planes planes_of(const Vec3 h[3]) {
  const Vec3 a = cross(h[1], h[2]), b = cross(h[2], h[0]), c = cross(h[0], h[1]);
  const double r = 1 / dot(h[0], a);
  return {{{a.x * r, a.y * r, a.z * r}, {b.x * r, b.y * r, b.z * r}, {c.x * r, c.y * r, c.z * r}}};
}

// From the gradient with respect to the rows, the gradient with respect to column k, which is the homogeneous pixel of
// corner k: -sum_a row_a (gradient_a . row_k).
SR_HD Vec3 planes_backward(const Planes& p, const Vec3 gradient[3], int k) {
  Vec3 out = {0, 0, 0};
  for (int a = 0; a < 3; a++) {
    const double s = -dot(gradient[a], p.row[k]);
    out.x += s * p.row[a].x, out.y += s * p.row[a].y, out.z += s * p.row[a].z;
  }
  return out;
}

// The point of a face that is seen at a pixel. Outside of the face it is a point of its border: the barycentric
// coordinates are max(g_k, 0) divided by their sum.
template <class T>
struct SeenPoint {
  T positive[3];  // max(g_k, 0)
  T inverse;      // 1 / their sum
  T z;            // the depth of the point, at least that of the near plane
  bool shown;     // whether the sum is positive; otherwise there is no such point
};
// depth: of the corners.
template <class T>
SR_HD SeenPoint<T> seen_point(const T g[3], const T depth[3], T near) {
  SeenPoint<T> out;
  for (int k = 0; k < 3; k++) out.positive[k] = positive_part(g[k]);
  const T total = out.positive[0] + out.positive[1] + out.positive[2];
  out.shown = total > T(0);
  out.inverse = T(1) / (out.shown ? total : T(1));
  const T z = out.positive[0] * depth[0] + out.positive[1] * depth[1] + out.positive[2] * depth[2];
  out.z = max(out.shown ? z * out.inverse : T(0), near);
  return out;
}

// ---------------------------------------------------------------------------------------------- coverage

// How the distance of a pixel from a face is measured; in the order of DISTANCES in modes.py. kHard measures nothing: a
// face covers a pixel's centre or not.
enum Distance { kEuclidean, kBarycentric, kHard };

// The blur of an image whose modes are not plain. The unit of Euclidean distances is the one in which the distribution
// takes them. radius: the cut-off distance in NDC or in barycentric coordinates. Edges are kept as far as a face counts
// outside, and for 1e4 units inside.
template <class T>
SR_HD Blur<T> blur_of_modes(int distance, bool squared, double sigma, double radius, int height, int width) {
  if (distance != kEuclidean) return blur_of<T>(0, 1, 1e4, width);
  const double half = 0.5 * min(height, width), unit = half * (squared ? square_root(sigma) : sigma);
  return blur_of<T>(radius * half, 1 / unit, max(1e4, radius * half / unit), width);
}

// The signed distance u from its signed square; and from the derivative g of the loss with respect to u, the derivative
// with respect to the square, which is taken to be zero on the outline itself.
template <class T>
SR_HD T signed_root(T squared) {
  const T root = sqrt(fabs(squared));
  return squared < 0 ? -root : root;
}
template <class T>
SR_HD T signed_root_backward(T g, T u) { return u != 0 ? g / (2 * fabs(u)) : T(0); }

// The coverage of a pixel where there is no blur: whole if the face covers the pixel's centre.
template <class T>
SR_HD Coverage<T> hard_coverage(bool inside) { return {inside ? T(1) : T(0), inside ? T(0) : T(1), T(0)}; }

// ---------------------------------------------------------------------------------------------- blending

// How fragments blend by depth. A fragment with coverage D at depth z has the weight D 2^((z0 - z) scale), relative to a
// fragment with coverage 1 at depth z0. The background counts as a fragment with coverage 1 at its own depth.
struct Blend {
  double scale, background, near, far;  // all but the scale are depths, in scene units
};
SR_HD Blend blend_of(double gamma, double eps, double near, double far) {
  return {kLog2e / (gamma * (far - near)), far - eps * (far - near), near, far};
}
// The least exponent: for smaller ones, 2^x is not a normal number.
template <class T>
constexpr T kLeastExponent = sizeof(T) == 4 ? T(-126) : T(-1022);
// A fragment whose weight is 2^-kHidden times its coverage, or less, is hidden, whatever its coverage.
template <class T>
constexpr T kHidden = sizeof(T) == 4 ? T(45) : T(75);
// A weight that changes no sum of weights, as a share of that sum.
template <class T>
constexpr T kNegligible = sizeof(T) == 4 ? T(1e-9) : T(1e-18);
// A weight that changes no sum of weights, however small the coverages in that sum are.
template <class T>
constexpr T kNothing = sizeof(T) == 4 ? T(1e-13) : T(1e-22);

// ---------------------------------------------------------------------------------------------- barycentric distance

// The barycentric distance of a pixel from a polygon, positive inside. For each edge, the signed distance of the pixel from
// the edge's line is divided by the altitude of the polygon over that line, the distance of its farthest corner; the
// least of these quotients is m. In a triangle, m is the least barycentric coordinate. The edge with the least quotient
// goes from corner a to corner b, and corner c is the farthest from it.
struct Barycentric {
  double m;
  int a, b, c;
};
// q: the n corners; sign: as for make_edges(); p: the pixel's centre.
SR_HD Barycentric barycentric_distance(const Vec2* q, int n, double sign, Vec2 p) {
  Barycentric least = {0, -1, 0, 0};
  for (int a = 0; a < n; a++) {
    const int b = a + 1 == n ? 0 : a + 1;
    const Vec2 edge = q[b] - q[a];
    double altitude = 0;
    int c = a;
    for (int k = 0; k < n; k++) {
      const double h = sign * cross(edge, q[k] - q[a]);
      if (h > altitude) altitude = h, c = k;
    }
    const double m = sign * cross(edge, p - q[a]) / altitude;
    if (least.a < 0 || m < least.m) least = {m, a, b, c};
  }
  return least;
}

// Adds dm times the gradient of m with respect to the corners. m is a barycentric coordinate of the triangle of corners a,
// b and c: moving one of these by d changes m by -w (grad m . d), where w is the moved corner's own coordinate.
SR_HD void barycentric_backward(const Vec2* q, const Barycentric& at, Vec2 p, double dm, Vec2* gradient) {
  const Vec2 edge = q[at.b] - q[at.a];
  const double area2 = cross(edge, q[at.c] - q[at.a]);
  const Vec2 slope = {-edge.y / area2, edge.x / area2};
  const double wa = cross(q[at.c] - q[at.b], p - q[at.b]) / area2;
  const double w[3] = {wa, 1 - wa - at.m, at.m};
  const int corner[3] = {at.a, at.b, at.c};
  for (int i = 0; i < 3; i++) gradient[corner[i]].x -= dm * w[i] * slope.x, gradient[corner[i]].y -= dm * w[i] * slope.y;
}

}  // namespace softras::SOFTRAS_ISA
