// SPDX-License-Identifier: MIT
// Derivatives of exact coverage, from the pieces of the outline that the forward pass has kept: the reverse mode, which
// gives gradients, and the forward mode, which gives rows of the Jacobian for P parameters.
#pragma once
#include <string.h>

#include "coverage.h"
#include "scene.h"

namespace softras::SOFTRAS_ISA {

// The contour edges and pieces of one view.
struct Slice {
  const Contour* contours;
  const Piece* pieces;
  int64_t contour_count, piece_count;
};

inline Slice slice(const softras_coverage_call& c, int view) {
  const OutlineSize* size = (const OutlineSize*)c.outline;
  const char* at = (const char*)(size + c.scene.views);
  for (int v = 0; v < view; v++) at += size[v].contours * sizeof(Contour) + size[v].pieces * sizeof(Piece);
  const int64_t contours = size[view].contours;
  return {(const Contour*)at, (const Piece*)(at + contours * sizeof(Contour)), contours, size[view].pieces};
}

// The gradients with respect to vertices, K and world_to_camera.
template <class T>
int backward(const softras_coverage_call& coverage) {
  const softras_call& call = coverage.scene;
  const Scene<T> scene(coverage.scene);
  const int64_t sets = call.shared_vertices ? 1 : call.views;
  T* positions = (T*)call.grad_positions;
  if (positions) zero(positions, sets * call.vertices * 3);
  Buffer<double> weight;
  for (int view = 0; view < call.views; view++) {
    const Slice s = slice(coverage, view);
    const Camera cam = scene.camera(view);
    const T* grad = (const T*)call.grad_alpha + (int64_t)view * call.height * call.width;
    double gk[6] = {}, gm[12] = {};
    if (!weight.reserve(2 * s.contour_count)) return SOFTRAS_OUT_OF_MEMORY;
    zero(weight.data, 2 * s.contour_count);
    for (int64_t i = 0; i < s.piece_count; i++) {
      const Piece& p = s.pieces[i];
      const double g = grad[p.pixel];
      weight[2 * p.contour] += g * p.w[0], weight[2 * p.contour + 1] += g * p.w[1];
    }
    T* out = positions && !call.shared_vertices ? positions + 3 * (int64_t)view * call.vertices : positions;
    for (int64_t i = 0; i < s.contour_count; i++) {
      const Contour& c = s.contours[i];
      const Vec2 slope = end_slope(c);
      for (int k = 0; k < 2; k++) {
        const double g = weight[2 * i + k];
        if (g == 0) continue;
        const End& end = c.end[k];
        const Vec3 world[2] = {scene.position(view, end.a), scene.position(view, end.b)};
        const Vec3 point[2] = {to_camera(cam, world[0]), to_camera(cam, world[1])};
        const int ends = end.a == end.b ? 1 : 2;
        const Corner corner = {0, ends - 1, end.s};
        Vec3 gv[2] = {};
        const Vec2 pixel = {g * slope.x, g * slope.y};
        corner_backward(point, corner, project_backward(cam, corner_point(point, corner), pixel, gk), gv);
        for (int e = 0; e < ends; e++) {
          const Vec3 moved = to_camera_backward(cam, world[e], gv[e], gm);
          if (!positions) continue;
          T* at = out + 3 * (int64_t)(e ? end.b : end.a);
          at[0] += T(moved.x), at[1] += T(moved.y), at[2] += T(moved.z);
        }
      }
    }
    T* k = call.grad_intrinsics ? (T*)call.grad_intrinsics + 9 * view : nullptr;
    T* m = call.grad_world_to_camera ? (T*)call.grad_world_to_camera + 16 * view : nullptr;
    for (int i = 0; k && i < 9; i++) k[i] = i < 6 ? T(gk[i]) : T(0);
    for (int i = 0; m && i < 16; i++) m[i] = i < 12 ? T(gm[i]) : T(0);
  }
  // Of coincident vertices, faces name the first alone, which has the gradient of the whole group: it is shared equally.
  for (int64_t set = 0; positions && set < sets; set++)
    for (int64_t g = 0; g < coverage.groups; g++) {
      const int64_t begin = coverage.group_ends[g], end = coverage.group_ends[g + 1];
      const T* first = positions + 3 * (set * call.vertices + coverage.copies[begin]);
      const T x = first[0] / T(end - begin), y = first[1] / T(end - begin), z = first[2] / T(end - begin);
      for (int64_t i = begin; i < end; i++) {
        T* at = positions + 3 * (set * call.vertices + coverage.copies[i]);
        at[0] = x, at[1] = y, at[2] = z;
      }
    }
  return SOFTRAS_OK;
}

// Numbers the pixels on the outline: `pixels`, `row_of_piece` and `row_count`.
inline int number_pixels(softras_coverage_call& c) {
  const int64_t size = (int64_t)c.scene.height * c.scene.width, words = (size + 63) / 64;
  Buffer<uint64_t> set;      // a bit for each pixel of a view
  Buffer<int32_t> in_order;  // the number of the first pixel of each word
  if (!set.reserve(words) || !in_order.reserve(words)) return SOFTRAS_OUT_OF_MEMORY;
  int32_t* row = c.row_of_piece;
  c.row_count = 0;
  for (int view = 0; view < c.scene.views; view++) {
    const Slice s = slice(c, view);
    zero(set.data, words);
    for (int64_t i = 0; i < s.piece_count; i++) set[s.pieces[i].pixel / 64] |= uint64_t(1) << s.pieces[i].pixel % 64;
    for (int64_t w = 0; w < words; w++) {
      in_order[w] = (int32_t)c.row_count;
      for (uint64_t bits = set[w]; bits; bits &= bits - 1) c.pixels[c.row_count++] = view * size + 64 * w + __builtin_ctzll(bits);
    }
    for (int64_t i = 0; i < s.piece_count; i++) {
      const int pixel = s.pieces[i].pixel;
      *row++ = in_order[pixel / 64] + __builtin_popcountll(set[pixel / 64] & ((uint64_t(1) << pixel % 64) - 1));
    }
  }
  return SOFTRAS_OK;
}

// Adds to `out` (P) the derivatives of a pixel's coverage through one end of an edge, by the chain rule. rows (n,P): the
// derivatives of n inputs with respect to the parameters; by_u and by_v (n): those of the end's pixel coordinates x and y
// with respect to the inputs; gx and gy: those of the coverage with respect to x and y.
template <class T>
void combine(int n, const double* by_u, const double* by_v, const T* rows, int64_t P, double gx, double gy, double* out) {
  for (int i = 0; i < n; i++) {
    const double g = gx * by_u[i] + gy * by_v[i];
    if (g == 0) continue;
    for (int64_t p = 0; p < P; p++) out[p] += g * rows[i * P + p];
  }
}

// The rows of the Jacobian.
template <class T>
int jacobian(const softras_coverage_call& coverage) {
  const softras_call& call = coverage.scene;
  const Scene<T> scene(coverage.scene);
  const int64_t P = coverage.parameters;
  T* rows = (T*)coverage.rows;
  zero(rows, coverage.row_count * P);
  Buffer<double> motion;
  Buffer<bool> known;
  const T *dv = (const T*)coverage.d_positions, *dk = (const T*)coverage.d_intrinsics;
  const T* dm = (const T*)coverage.d_world_to_camera;
  const int32_t* next_row = coverage.row_of_piece;
  for (int view = 0; view < call.views; view++) {
    const Slice s = slice(coverage, view);
    const Camera cam = scene.camera(view);
    const int32_t* row_of = next_row;
    next_row += s.piece_count;
    if (!motion.reserve(2 * P * s.contour_count) || !known.reserve(s.contour_count)) return SOFTRAS_OUT_OF_MEMORY;
    zero(known.data, s.contour_count);
    for (int64_t i = 0; i < s.piece_count; i++) {
      const Piece& piece = s.pieces[i];
      double* moved = motion.data + 2 * P * piece.contour;
      if (!known[piece.contour]) {
        known[piece.contour] = true;
        const Contour& c = s.contours[piece.contour];
        const Vec2 slope = end_slope(c);
        zero(moved, 2 * P);
        for (int k = 0; k < 2; k++) {
          const End& end = c.end[k];
          double u[kSlope] = {}, v[kSlope] = {};
          const Vec3 a = scene.position(view, end.a), b = scene.position(view, end.b);
          corner_slope(cam, 0, {end.a, end.b, end.s}, a, b, u);
          corner_slope(cam, 1, {end.a, end.b, end.s}, a, b, v);
          const int64_t base = call.shared_vertices ? 0 : (int64_t)view * call.vertices;
          double* out = moved + k * P;
          if (dv) combine<T>(3, u, v, dv + 3 * P * (base + end.a), P, slope.x, slope.y, out);
          if (dv && end.a != end.b) combine<T>(3, u + 3, v + 3, dv + 3 * P * (base + end.b), P, slope.x, slope.y, out);
          if (dk) combine<T>(6, u + kSlopeIntrinsics, v + kSlopeIntrinsics, dk + 9 * P * view, P, slope.x, slope.y, out);
          if (dm) combine<T>(12, u + kSlopeMatrix, v + kSlopeMatrix, dm + 16 * P * view, P, slope.x, slope.y, out);
        }
      }
      T* row = rows + row_of[i] * P;
      for (int64_t p = 0; p < P; p++) row[p] += T(piece.w[0] * moved[p] + piece.w[1] * moved[P + p]);
    }
  }
  return SOFTRAS_OK;
}

}  // namespace softras::SOFTRAS_ISA
