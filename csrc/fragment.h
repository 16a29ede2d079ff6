// SPDX-License-Identifier: MIT
// A fragment: a face at a pixel, the point of it that is seen there, and how fragments blend, once for every backend.
// engine/softras/raster/images/reference.py is the readable definition.
#pragma once
#include "softras_math.h"
#include "softras_modes.h"

namespace softras::SOFTRAS_ISA {

SR_HD Vec3 cross(Vec3 a, Vec3 b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
SR_HD double dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

// (w u, w v, w) of a camera-space point with pixel (u, v); w is its depth, or 1 when orthographic.
SR_HD Vec3 homogeneous_pixel(const Camera& c, Vec3 p) {
  const double w = c.orthographic ? 1.0 : p.z;
  return {c.k[0] * p.x + c.k[1] * p.y + c.k[2] * w, c.k[3] * p.x + c.k[4] * p.y + c.k[5] * w, w};
}

// The same from the pixel and the depth, which must not be 0.
SR_HD Vec3 homogeneous_pixel(const Camera& c, Vec2 pixel, double z) {
  const double w = c.orthographic ? 1.0 : z;
  return {pixel.x * w, pixel.y * w, w};
}

// Gradient g of it -> of the camera-space point, added to gk (6).
template <class S>
SR_HD Vec3 homogeneous_pixel_backward(const Camera& c, Vec3 p, Vec3 g, S* gk) {
  const double w = c.orthographic ? 1.0 : p.z;
  gk[0] += g.x * p.x, gk[1] += g.x * p.y, gk[2] += g.x * w;
  gk[3] += g.y * p.x, gk[4] += g.y * p.y, gk[5] += g.y * w;
  return {g.x * c.k[0] + g.y * c.k[3], g.x * c.k[1] + g.y * c.k[4],
          c.orthographic ? 0.0 : g.x * c.k[2] + g.y * c.k[5] + g.z};
}

// g_k = row[k] . (x, y, 1) at pixel (x, y): inside the face its perspective-correct barycentrics over the depth.
struct Planes {
  Vec3 row[3];
};

// The inverse of the matrix with columns h. The face must not be seen edge-on.
SR_HD Planes planes_of(const Vec3 h[3]) {
  const Vec3 a = cross(h[1], h[2]), b = cross(h[2], h[0]), c = cross(h[0], h[1]);
  const double r = 1 / dot(h[0], a);
  return {{{a.x * r, a.y * r, a.z * r}, {b.x * r, b.y * r, b.z * r}, {c.x * r, c.y * r, c.z * r}}};
}

// Gradient of the rows -> of column k: -sum_a row_a (gradient_a . row_k).
SR_HD Vec3 planes_backward(const Planes& p, const Vec3 gradient[3], int k) {
  Vec3 out = {0, 0, 0};
  for (int a = 0; a < 3; a++) {
    const double s = -dot(gradient[a], p.row[k]);
    out.x += s * p.row[a].x, out.y += s * p.row[a].y, out.z += s * p.row[a].z;
  }
  return out;
}

// The point of a face that is seen at a pixel.
template <class T>
struct SeenPoint {
  T positive[3], inverse, z;  // max(g, 0), 1 / their sum, the depth
  bool shown;                 // some of them are positive
};
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

enum Distance { kEuclidean, kBarycentric, kHard };  // in the order of DISTANCES in modes.py

// What the blur makes of a pixel where the modes are not plain: the unit of Euclidean distances is that of the
// distribution. radius: the cut-off in NDC or barycentric. An edge matters as far as a face counts, and 1e4 units inside.
template <class T>
SR_HD Blur<T> blur_of_modes(int distance, bool squared, double sigma, double radius, int height, int width) {
  if (distance != kEuclidean) return blur_of<T>(0, 1, 1e4, width);
  const double half = 0.5 * min(height, width), unit = half * (squared ? square_root(sigma) : sigma);
  return blur_of<T>(radius * half, 1 / unit, max(1e4, radius * half / unit), width);
}

// The signed distance from its signed square, and dL/d(squared) from dL/du: none on the outline itself.
template <class T>
SR_HD T signed_root(T squared) {
  const T root = sqrt(fabs(squared));
  return squared < 0 ? -root : root;
}
template <class T>
SR_HD T signed_root_backward(T g, T u) { return u != 0 ? g / (2 * fabs(u)) : T(0); }

// What a face that covers a pixel's centre (inside) or not does to it where there is no blur.
template <class T>
SR_HD Coverage<T> hard_coverage(bool inside) { return {inside ? T(1) : T(0), inside ? T(0) : T(1), T(0)}; }

// ---------------------------------------------------------------------------------------------- blending

// A fragment at depth z weighs D 2^((z0 - z) scale) beside one at z0; the background is one with D = 1 at `background`.
struct Blend {
  double scale, background, near, far;
};
SR_HD Blend blend_of(double gamma, double eps, double near, double far) {
  return {kLog2e / (gamma * (far - near)), far - eps * (far - near), near, far};
}
template <class T>
constexpr T kLeastExponent = sizeof(T) == 4 ? T(-126) : T(-1022);  // 2^x of what is less is nothing
template <class T>
constexpr T kHidden = sizeof(T) == 4 ? T(45) : T(75);  // so many powers of 2 behind, no D brings a fragment back
template <class T>
constexpr T kNegligible = sizeof(T) == 4 ? T(1e-9) : T(1e-18);  // a weight that no sum of weights notices
template <class T>
constexpr T kNothing = sizeof(T) == 4 ? T(1e-13) : T(1e-22);  // the same where the sum is as small as a D can be

// ---------------------------------------------------------------------------------------------- barycentric distance

// The least distance of a pixel from the lines of a polygon (n corners q; sign as for make_edges), positive inside,
// relative to how far the polygon reaches from that line: that of the edge from corner a to b, reaching to corner c.
struct Barycentric {
  double m;
  int a, b, c;
};
SR_HD Barycentric barycentric_distance(const Vec2* q, int n, double sign, Vec2 p) {
  Barycentric least = {0, -1, 0, 0};
  for (int a = 0; a < n; a++) {
    const int b = a + 1 == n ? 0 : a + 1;
    const Vec2 edge = q[b] - q[a];
    double reach = 0;
    int c = a;
    for (int k = 0; k < n; k++) {
      const double h = sign * cross(edge, q[k] - q[a]);
      if (h > reach) reach = h, c = k;
    }
    const double m = sign * cross(edge, p - q[a]) / reach;
    if (least.a < 0 || m < least.m) least = {m, a, b, c};
  }
  return least;
}

// Adds dm times the gradient to the corners: where m is a barycentric coordinate of a triangle, moving a corner by d
// takes (its own coordinate) (grad m . d) from it.
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
