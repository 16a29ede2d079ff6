// SPDX-License-Identifier: MIT
// Derivatives of exact coverage on the GPU. The contour edges and the lists of the rows are kept from the forward pass, and
// the pieces of the outline are found anew: that takes less time than storing them would, and no memory.
#pragma once
#include "cuda_coverage.h"
#include "cuda_coverage_samples.h"
#include "cuda_jacobian.h"

namespace softras::SOFTRAS_ISA {

// Numbers of the gradient of an end: of the camera-space points of its vertices a and b (x, y, z each), and of rows 0 and 1 of
// K.
constexpr int kEndGradient = 12;

// Calls visit(pixel, w) for the pieces of the outline (coverage.h) in the rows of a contour edge that this thread takes. The
// pixel is counted in all views.
template <class Visit>
__device__ inline void visit_pieces(const CoverageCall& call, Own& own, Visit visit) {
  for (; own.row < own.last; own.row += kShare) {
    const long long row = pixel_index(call, own.view, own.row, 0);
    auto piece = [&](int column, double ta, double tb, double side) {
      double w[2];
      weigh_piece(ta, tb, side, w);
      visit(row + column, w);
    };
    if (is_sampled(call, own.view, own.row)) {
      sampled_outline(call, own, piece);
      continue;
    }
    exact_outline(call, own, [&](double ya, double yb, double xa, double xb, double side) {
      cut_at_columns(own.c, ya, yb, xa, xb, call.scene.width,
                     [&](int column, double, double, double ta, double tb, bool any) {
                       if (any && column >= 0) piece(column, ta, tb, side);
                     });
    });
  }
}

// A kernel: finds the gradients of the ends of the contour edges. The threads of an edge add up its weights in a fixed order,
// and the first two of them take them to the two ends.
template <class T>
__device__ void outline_backward(const CoverageCall& call) {
  const Call& scene = call.scene;
  double weight[2] = {};
  Own own;
  const bool exists = own_rows(call, own);
  if (exists)
    visit_pieces(call, own, [&](long long pixel, const double* w) {
      const double g = ((const T*)scene.grad_alpha)[pixel];
      weight[0] += g * w[0], weight[1] += g * w[1];
    });
  for (int o = kShare / 2; o > 0; o /= 2) {
    weight[0] += __shfl_xor_sync(kAll, weight[0], o);
    weight[1] += __shfl_xor_sync(kAll, weight[1], o);
  }
  const int k = threadIdx.x % kShare;
  if (!exists || k >= 2) return;
  const Camera camera = camera_of<T>(scene, own.view);
  const Vec2 slope = end_slope(own.c);
  const End end = k == 0 ? own.c.end[0] : own.c.end[1];
  const double g = k == 0 ? weight[0] : weight[1];
  const Vec3 point[2] = {to_camera(camera, position_of<T>(scene, own.view, end.a)),
                         to_camera(camera, position_of<T>(scene, own.view, end.b))};
  const Corner corner = {0, end.a == end.b ? 0 : 1, end.s};
  Vec3 moved[2] = {};
  double gk[6] = {};
  if (g != 0)
    corner_backward(point, corner, project_backward(camera, corner_point(point, corner), {g * slope.x, g * slope.y}, gk), moved);
  const long long i = 2LL * own.contour + k, base = (long long)own.view * scene.vertices;
  double* out = call.end_gradients + kEndGradient * i;
  for (int e = 0; e < 2; e++) out[3 * e] = moved[e].x, out[3 * e + 1] = moved[e].y, out[3 * e + 2] = moved[e].z;
  for (int e = 0; e < 6; e++) out[6 + e] = gk[e];
  call.end_vertices[2 * i] = base + end.a, call.end_vertices[2 * i + 1] = base + end.b;
}

// A kernel: marks the pixels on the outline.
template <class T>
__device__ void mark_outline(const CoverageCall& call) {
  Own own;
  if (own_rows(call, own))
    visit_pieces(call, own, [&](long long pixel, const double*) { call.on_outline[pixel] = 1; });
}

// A kernel: finds how the ends of the contour edges move with the parameters of this call, a thread for each edge and
// parameter.
template <class T>
__device__ void move_ends(const CoverageCall& call) {
  const Call& scene = call.scene;
  const long long thread = blockIdx.x * (long long)kBlock + threadIdx.x, i = thread / call.block, P = call.parameters;
  if (i >= call.count) return;
  const int number = (int)(thread % call.block), parameter = call.first_parameter + number, view = (int)call.found[2 * i];
  const Camera camera = camera_of<T>(scene, view);
  const Contour& c = call.contours[i];
  const Vec2 by = end_slope(c);
  for (int k = 0; k < 2; k++) {
    const End end = c.end[k];
    const Vec3 a = position_of<T>(scene, view, end.a), b = position_of<T>(scene, view, end.b);
    double sum = 0;
    for (int axis = 0; axis < 2; axis++) {
      double slope[kSlope] = {}, moved = 0;
      corner_slope(camera, axis, {end.a, end.b, end.s}, a, b, slope);
      if (call.d_positions) {
        combine<T>(call.d_positions, 3 * position_index(scene, view, end.a), 3, P, parameter, slope, moved);
        if (end.a != end.b)
          combine<T>(call.d_positions, 3 * position_index(scene, view, end.b), 3, P, parameter, slope + 3, moved);
      }
      if (call.d_intrinsics) combine<T>(call.d_intrinsics, 9LL * view, 6, P, parameter, slope + kSlopeIntrinsics, moved);
      if (call.d_world_to_camera)
        combine<T>(call.d_world_to_camera, 16LL * view, 12, P, parameter, slope + kSlopeMatrix, moved);
      sum += (axis == 0 ? by.x : by.y) * moved;
    }
    call.motions[(2 * i + k) * call.block + number] = sum;
  }
}

// A kernel: adds the pieces of the outline to the rows of their pixels.
template <class T>
__device__ void add_pieces(const CoverageCall& call) {
  Own own;
  if (!own_rows(call, own)) return;
  const double* motion = call.motions + 2LL * own.contour * call.block;
  visit_pieces(call, own, [&](long long pixel, const double* w) {
    T* out = (T*)call.rows + (long long)call.row_of[pixel] * call.parameters + call.first_parameter;
    for (int p = 0; p < call.block; p++) atomicAdd(out + p, T(w[0] * motion[p] + w[1] * motion[call.block + p]));
  });
}

}  // namespace softras::SOFTRAS_ISA
