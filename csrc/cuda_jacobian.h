// SPDX-License-Identifier: MIT
// The Jacobian of silhouettes on the GPU, by the forward mode: the rows of the pixels that are asked for. Each thread of a
// warp takes parameters and finds how the corners of a face move with them. Then the warp goes through the pixels of the
// face as in the other passes, and for one pixel after another the threads add the pixel's pull times those motions to its
// row, atomically.
#pragma once
#include "cuda_faces.h"

namespace softras::SOFTRAS_ISA {

// The parameters that a thread takes while the warp goes once through the pixels of a face. The motions with more of them
// would not fit into its registers.
constexpr int kEach = 2;

// The argument of the kernel `jacobian`, which engine/softras/raster/native/cuda_structures.py declares too. It means what
// softras_jacobian_call (softras.h) does, but that pixels are told by their rows.
struct JacobianCall {
  Call scene;
  int parameters;     // P
  const int* row_of;  // (N,H,W): the row of each pixel, negative where it has none
  const void *d_positions, *d_intrinsics, *d_world_to_camera;
  void* rows;         // (M,P): added to
};

// The slopes of a corner of a face, as softras_math.h defines them.
template <class T>
struct Slopes {
  int a, b;         // the corner lies on the edge between these corners of the triangle
  T of[2][kSlope];  // of the pixel's x and of its y
};

// Corner k of the outline of a face.
template <class T>
__device__ inline Corner corner_of_face(const Call& call, const Camera& camera, const Face<T>& face, int view,
                                        long long number, int k) {
  if (!face.clipped) return {k, k, 0.0};
  Vec3 point[3];
  for (int i = 0; i < 3; i++) point[i] = to_camera(camera, position_of<T>(call, view, vertex_of(call, 3 * number + i)));
  return clipped_outline(camera, point).corner[k];
}

// Finds the slopes of all corners of a face; one thread for each corner and axis.
template <class T>
__device__ void find_slopes(const Call& call, const Camera& camera, const Face<T>& face, int view, long long number,
                            Slopes<T>* out) {
  const int k = lane_of_thread() / 2, axis = lane_of_thread() % 2;
  if (k >= face.corners) return;
  const Corner corner = corner_of_face(call, camera, face, view, number, k);
  const Vec3 a = position_of<T>(call, view, vertex_of(call, 3 * number + corner.a));
  const Vec3 b = position_of<T>(call, view, vertex_of(call, 3 * number + corner.b));
  T* slope = out[k].of[axis];
  for (int i = 0; i < kSlope; i++) slope[i] = T(0);
  corner_slope(camera, axis, corner, a, b, slope);
  if (axis == 0) out[k].a = corner.a, out[k].b = corner.b;
}

// Adds to `sum`, for one parameter, `count` rows of `parameters` derivatives from row `first` on, each times its number in
// `by`.
template <class T, class S>
__device__ inline void combine(const void* rows, long long first, int count, long long parameters, int parameter,
                               const S* by, S& sum) {
  const T* d = (const T*)rows + first * parameters + parameter;
  for (int i = 0; i < count; i++) sum += by[i] * d[i * parameters];
}

// The derivative of a corner's x (axis 0) or y (axis 1) with respect to one parameter.
template <class T>
__device__ inline T motion(const JacobianCall& call, int view, long long number, const Slopes<T>& corner, int axis,
                           int parameter) {
  const Call& scene = call.scene;
  const T* slope = corner.of[axis];
  const long long P = call.parameters;
  T sum = 0;
  if (call.d_positions) {
    const long long a = vertex_of(scene, 3 * number + corner.a), b = vertex_of(scene, 3 * number + corner.b);
    combine<T>(call.d_positions, 3 * position_index(scene, view, a), 3, P, parameter, slope, sum);
    if (corner.a != corner.b) combine<T>(call.d_positions, 3 * position_index(scene, view, b), 3, P, parameter, slope + 3, sum);
  }
  if (call.d_intrinsics) combine<T>(call.d_intrinsics, 9LL * view, 6, P, parameter, slope + kSlopeIntrinsics, sum);
  if (call.d_world_to_camera) combine<T>(call.d_world_to_camera, 16LL * view, 12, P, parameter, slope + kSlopeMatrix, sum);
  return sum;
}

// Whether any pixel has a row in the cells of a face that walk() goes through.
template <class T>
__device__ bool any_row(const JacobianCall& call, const Face<T>& f, int view, int first) {
  const Call& scene = call.scene;
  const int columns = (f.rect.x1 - f.rect.x0) / kCell + 1, rows = (f.rect.y1 - f.rect.y0) / kCell + 1;
  bool found = false;
  for (int i = first; i < columns * rows && !found; i += scene.splits) {
    const Cell cell = cell_at(f.rect, f.rect.x0 + i % columns * kCell, f.rect.y0 + i / columns * kCell);
    const int x = cell.x + lane_of_thread() % kCell, lower = lane_of_thread() / kCell;
    bool mine = false;
    for (int y = lower; y < cell.height; y += kWarp / kCell)
      mine = mine || (x < cell.x + cell.width &&
                      call.row_of[((long long)view * scene.height + cell.y + y) * scene.width + x] >= 0);
    found = __any_sync(kAll, mine);
  }
  return found;
}

// Adds a face with n corners to the rows of its pixels.
template <int n, class T>
__device__ void add_rows(const JacobianCall& call, Shared<T>& shared, const Slopes<T>* slopes, const Face<T>& face,
                         int view, long long number, int first) {
  const int lane = lane_of_thread();
  for (int start = lane; start - lane < call.parameters; start += kEach * kWarp) {
    T x[n][kEach], y[n][kEach];  // the derivatives of each corner with respect to the thread's parameters
    for (int c = 0; c < kEach; c++) {
      const int parameter = start + c * kWarp;
      for (int k = 0; k < n; k++) {
        const bool exists = parameter < call.parameters;
        x[k][c] = exists ? motion(call, view, number, slopes[k], 0, parameter) : T(0);
        y[k][c] = exists ? motion(call, view, number, slopes[k], 1, parameter) : T(0);
      }
    }
    walk<n>(call.scene, shared, face, view, first, [&](const Pixel<T>& p, const Edge<T>* edge) {
      const int row = p.exists ? call.row_of[p.index] : -1;
      const T weight = row < 0 ? T(0) : slope_of<T>(call.scene, p.index);
      if (!__any_sync(kAll, weight != T(0))) return;
      const Pull<T> pull = pull_of<n>(p, edge, weight);
      const unsigned pulled = __ballot_sync(kAll, pull.move.x != T(0) || pull.move.y != T(0));
      for (int i = 0; i < kWarp; i++) {
        if (!(pulled >> i & 1)) continue;
        const Pull<T> one = {{__shfl_sync(kAll, pull.move.x, i), __shfl_sync(kAll, pull.move.y, i)},
                             __shfl_sync(kAll, pull.t, i), __shfl_sync(kAll, pull.edge, i)};
        T* out = (T*)call.rows + (long long)__shfl_sync(kAll, row, i) * call.parameters;
        for (int c = 0; c < kEach; c++) {
          T right = 0, down = 0;
          for (int k = 0; k < n; k++) {
            const T share = share_of<n>(one, k);
            right += share * x[k][c], down += share * y[k][c];
          }
          const int parameter = start + c * kWarp;
          if (parameter < call.parameters) atomicAdd(out + parameter, one.move.x * right + one.move.y * down);
        }
      }
    });
  }
}

// A kernel: adds all faces to the rows of the Jacobian.
template <class T>
__device__ void jacobian(const JacobianCall& call) {
  __shared__ Shared<T> shared;
  __shared__ Slopes<T> slopes[kWarps][4];
  const int view = blockIdx.z;
  Slopes<T>* own = slopes[warp_of_thread()];
  for_faces(call.scene, shared, view, [&](long long number, const Face<T>& face, int first) {
    if (!any_row(call, face, view, first)) return;
    __syncwarp();  // until all threads have read the slopes of the face before
    find_slopes(call.scene, shared.camera, face, view, number, own);
    __syncwarp();
    face.corners == 3 ? add_rows<3>(call, shared, own, face, view, number, first)
                      : add_rows<4>(call, shared, own, face, view, number, first);
  });
}

}  // namespace softras::SOFTRAS_ISA
