// SPDX-License-Identifier: MIT
// The CUDA backend. It consists of kernels alone, which NVRTC compiles on the user's machine
// (engine/softras/raster/native/nvrtc.py); the tests' emulator compiles the same text for the CPU. docs/cuda.md says why the
// kernels are as they are.
//
// A warp takes 32 faces of a view. Each thread sets up one of them in double precision, and then the warp goes through the
// pixels of one face after another, cell by cell. In the forward pass each pixel adds up log2(1 + 2^x) = -log2(1 - D) of its
// faces in integers, whose sum does not depend on the order. In the backward pass the warp gathers the gradient of the
// face's corners from the pixels. No lists of faces or pixels are kept. Where there are few faces, several warps share the
// cells of the same faces.
// The Jacobian is in cuda_jacobian.h, images are in cuda_image.h and cuda_image_backward.h, and exact coverage is in
// cuda_coverage.h, cuda_coverage_samples.h and cuda_coverage_backward.h.
#include "cuda_coverage.h"
#include "cuda_coverage_backward.h"
#include "cuda_coverage_samples.h"
#include "cuda_faces.h"
#include "cuda_image.h"
#include "cuda_image_backward.h"
#include "cuda_jacobian.h"

namespace softras::SOFTRAS_ISA {

// ---------------------------------------------------------------------------------------------- forward

// Adds a face with n corners to the sums of its pixels.
template <int n, class T>
__device__ void add(const Call& call, Shared<T>& shared, const Face<T>& face, int view, int first) {
  walk<n>(call, shared, face, view, first, [&](const Pixel<T>& p, const Edge<T>* edge) {
    Sum* sum = call.sums + p.index;
    const bool open = p.exists && *(volatile Sum*)sum < kOpaque<T>;
    if (!__any_sync(kAll, open)) return;
    const T e = exponential(exponent<n>(p, edge));
    if (open && e > 0) add_to(sum, e);
  });
}

// A kernel: adds all faces to the sums of the pixels.
template <class T>
__device__ void draw(const Call& call) {
  __shared__ Shared<T> shared;
  const int view = blockIdx.z;
  for_faces(call, shared, view, [&](long long, const Face<T>& face, int first) {
    face.corners == 3 ? add<3>(call, shared, face, view, first) : add<4>(call, shared, face, view, first);
  });
}

// A kernel: finds alpha and transmittance from the sums of the pixels. Both are NaN if the inputs have a fault.
template <class T>
__device__ void finish(const Call& call) {
  const long long i = blockIdx.x * (long long)kBlock + threadIdx.x;
  if (i >= (long long)call.views * call.height * call.width) return;
  const T zero = 0;
  const T left = transmittance_of<T>(call.sums[i]);
  ((T*)call.transmittance)[i] = left;
  ((T*)call.alpha)[i] = *call.status ? zero / zero : T(1) - left;
}

// ---------------------------------------------------------------------------------------------- backward

// Takes the gradient g of the corners of a clipped face, in pixels, to the camera-space points of its vertices and to K.
// One thread does it.
template <class T>
__device__ inline void clipped_backward(const Call& call, const Camera& camera, int view, long long face,
                                        const Vec2* g) {
  Vec3 point[3], moved[3] = {};
  for (int k = 0; k < 3; k++) point[k] = to_camera(camera, position_of<T>(call, view, vertex_of(call, 3 * face + k)));
  const Outline outline = clipped_outline(camera, point);
  double gk[6] = {};
  for (int k = 0; k < outline.corners; k++)
    corner_backward(point, outline.corner[k], project_backward(camera, outline.point[k], g[k], gk), moved);
  for (int k = 0; k < 3; k++) {
    double* out = call.corner_gradients
                      ? corner_of(call, view, face) + kCornerPoint + 3 * k
                      : call.point_gradients + 3 * ((long long)view * call.vertices + vertex_of(call, 3 * face + k));
    atomicAdd(out, moved[k].x), atomicAdd(out + 1, moved[k].y), atomicAdd(out + 2, moved[k].z);
  }
  double* out = call.corner_gradients ? corner_of(call, view, face) + kCornerIntrinsics
                                      : call.clipped_intrinsics + 6LL * view;
  for (int i = 0; i < 6; i++) atomicAdd(out + i, gk[i]);
}

// Finds the gradient of the corners of a face, in pixels: the sum over its pixels, by all threads of the warp.
template <int n, class T>
__device__ inline void gather(const Call& call, Shared<T>& shared, const Face<T>& face, int view, int first,
                              Vector2<T>* out) {
  T x[n], y[n];
  for (int k = 0; k < n; k++) x[k] = y[k] = T(0);
  walk<n>(call, shared, face, view, first, [&](const Pixel<T>& p, const Edge<T>* edge) {
    T weight = T(0);  // dL/dx divided by the coverage D
    if (p.exists) weight = slope_of<T>(call, p.index) * ((const T*)call.grad_alpha)[p.index];
    if (!__any_sync(kAll, weight != T(0))) return;
    const Pull<T> pull = pull_of<n>(p, edge, weight);
    for (int k = 0; k < n; k++) {
      const T share = share_of<n>(pull, k);
      x[k] += pull.move.x * share, y[k] += pull.move.y * share;
    }
  });
  for (int k = 0; k < n; k++) out[k] = {warp_sum(x[k]), warp_sum(y[k])};
}

// A kernel: finds the gradients of the corners of all faces and adds them to those of their vertices.
template <class T>
__device__ void faces_backward(const Call& call) {
  __shared__ Shared<T> shared;
  const int view = blockIdx.z, lane = lane_of_thread();
  for_faces(call, shared, view, [&](long long number, const Face<T>& face, int first) {
    Vector2<T> g[4];
    face.corners == 3 ? gather<3>(call, shared, face, view, first, g) : gather<4>(call, shared, face, view, first, g);
    if (face.clipped) {
      const Vec2 moved[4] = {{g[0].x, g[0].y}, {g[1].x, g[1].y}, {g[2].x, g[2].y}, {g[3].x, g[3].y}};
      if (lane == 0) clipped_backward<T>(call, shared.camera, view, number, moved);
    } else if (lane < 6) {
      const int corner = lane / 2;
      const Vector2<T> moved = corner == 0 ? g[0] : corner == 1 ? g[1] : g[2];
      const long long v = (long long)view * call.vertices + vertex_of(call, 3 * number + corner);
      double* out = call.corner_gradients ? corner_of(call, view, number) + lane
                                          : call.pixel_gradients + 2 * v + lane % 2;
      atomicAdd(out, (double)(lane % 2 == 0 ? moved.x : moved.y));
    }
  });
}

// A kernel: takes the gradients of the vertices' pixels and camera-space points to the positions in the world, and finds the
// part of each block in the gradient of the camera.
template <class T>
__device__ void vertices_backward(const Call& call) {
  __shared__ Camera camera;
  __shared__ double of_warp[kWarps][kPartial];
  const int view = blockIdx.y, lane = lane_of_thread();
  load_camera<T>(call, view, camera);
  __syncthreads();
  double sum[kPartial] = {};
  for (int v = blockIdx.x * kBlock + threadIdx.x; v < call.vertices; v += gridDim.x * kBlock) {
    const long long i = (long long)view * call.vertices + v;
    const Vec3 p = position_of<T>(call, view, v), point = to_camera(camera, p);
    double* out = call.point_gradients + 3 * i;
    Vec3 g = {out[0], out[1], out[2]};
    if (point.z > camera.near) {
      const double* pixel = call.pixel_gradients + 2 * i;
      const Vec3 whole = project_backward(camera, point, {pixel[0], pixel[1]}, sum);
      g = {g.x + whole.x, g.y + whole.y, g.z + whole.z};
    }
    g = to_camera_backward(camera, p, g, sum + 6);
    out[0] = g.x, out[1] = g.y, out[2] = g.z;
  }
  for (int k = 0; k < kPartial; k++) {
    const double s = warp_sum(sum[k]);
    if (lane == 0) of_warp[warp_of_thread()][k] = s;
  }
  __syncthreads();
  if (const int k = threadIdx.x; k < kPartial) {
    double s = 0;
    for (int w = 0; w < kWarps; w++) s += of_warp[w][k];
    call.partial_gradients[((long long)view * call.partials + blockIdx.x) * kPartial + k] = s;
  }
}

// A kernel: adds up gradients and writes them. Each of the first `views` blocks adds up the parts of one camera; the others
// add up the gradients of positions over the views that share them.
template <class T>
__device__ void sum_gradients(const Call& call) {
  if (blockIdx.x < (unsigned)call.views) {
    const int view = blockIdx.x;
    T* k = (T*)call.grad_intrinsics + 9LL * view;
    T* m = (T*)call.grad_world_to_camera + 16LL * view;
    for (int i = warp_of_thread(); i < 25; i += kWarps) {
      const int part = i < 6 ? i : i - 3;  // i from 6 to 8 is the last row of K, from 21 to 24 that of world_to_camera
      const bool moves = i < 6 || (i >= 9 && i < 21);
      double s = 0;
      for (int b = lane_of_thread(); moves && b < call.partials; b += kWarp)
        s += call.partial_gradients[((long long)view * call.partials + b) * kPartial + part];
      s = warp_sum(s);
      if (i < 6) s += call.clipped_intrinsics[6LL * view + i];
      if (lane_of_thread() == 0) *(i < 9 ? k + i : m + (i - 9)) = T(s);
    }
    return;
  }
  const long long i = (blockIdx.x - call.views) * (long long)kBlock + threadIdx.x, each = 3LL * call.vertices;
  if (i >= each * (call.shared_vertices ? 1 : call.views)) return;
  double s = 0;
  for (int view = 0; view < (call.shared_vertices ? call.views : 1); view++) s += call.point_gradients[view * each + i];
  T* out = (T*)call.grad_positions + i;
  *out = call.add ? T(*out + s) : T(s);
}

}  // namespace softras::SOFTRAS_ISA

// Defines a kernel. `blocks` is the number of blocks whose registers shall fit into a multiprocessor at once: 4 for float,
// for which shared memory suffices from compute capability 8.0 on, and 2 for double.
#define KERNEL_FOR(blocks, name, scalar, Argument, ...)                     \
  extern "C" __global__ void __launch_bounds__(softras::cuda::kBlock, blocks) \
      softras_##name##_##scalar(const softras::cuda::Argument call) {       \
    softras::cuda::__VA_ARGS__(call);                                       \
  }
#define KERNEL(name, scalar, T, Argument, ...) KERNEL_FOR(16 / sizeof(T), name, scalar, Argument, __VA_ARGS__)
#define KERNEL_OF(name, scalar, T, Argument) KERNEL(name, scalar, T, Argument, name<T>)
#define KERNELS_silhouettes(scalar, T)                                                                  \
  KERNEL_OF(check, scalar, T, Call) KERNEL_OF(draw, scalar, T, Call) KERNEL_OF(finish, scalar, T, Call) \
  KERNEL_OF(faces_backward, scalar, T, Call) KERNEL_OF(vertices_backward, scalar, T, Call)              \
  KERNEL_OF(sum_gradients, scalar, T, Call) KERNEL_OF(jacobian, scalar, T, JacobianCall)
// The kernels of exact coverage, which are used together with check, vertices_backward and sum_gradients.
#define KERNELS_coverage(scalar, T)                                                                         \
  KERNEL_OF(known, scalar, T, CoverageCall) KERNEL_OF(project_vertices, scalar, T, CoverageCall)            \
  KERNEL_OF(face_signs, scalar, T, CoverageCall) KERNEL_OF(edge_windings, scalar, T, CoverageCall)          \
  KERNEL_OF(make_contours, scalar, T, CoverageCall) KERNEL_OF(list_rows, scalar, T, CoverageCall)          \
  KERNEL_OF(sweep, scalar, T, CoverageCall) KERNEL_OF(add_changes, scalar, T, CoverageCall)                 \
  KERNEL_OF(draw_samples, scalar, T, CoverageCall) KERNEL_OF(finish_coverage, scalar, T, CoverageCall)      \
  KERNEL_OF(outline_backward, scalar, T, CoverageCall) KERNEL_OF(mark_outline, scalar, T, CoverageCall)     \
  KERNEL_FOR(2, move_ends, scalar, CoverageCall, move_ends<T>) KERNEL_OF(add_pieces, scalar, T, CoverageCall)
// The kernels of one kind of images (cuda_image.h), which are used together with check, vertices_backward and sum_gradients.
#define KERNELS_of_images(kind, scalar, T, plain, textured)                            \
  KERNEL(measure_##kind, scalar, T, ImageCall, measure<T>)                             \
  KERNEL(prepare_face_##kind, scalar, T, ImageCall, prepare_face<T>)                   \
  KERNEL(cover_##kind, scalar, T, ImageCall, cover<T, plain>)                          \
  KERNEL(blend_##kind, scalar, T, ImageCall, blend<T, plain, textured>)                \
  KERNEL(finish_##kind, scalar, T, ImageCall, finish_image<T, plain>)                  \
  KERNEL_FOR(sizeof(T) == 4 ? 3 : 2, gather_##kind, scalar, ImageCall, gather<T, plain, textured>) \
  KERNEL(corners_backward_##kind, scalar, T, ImageCall, corners_backward<T>)
#define KERNELS_plain(scalar, T) KERNELS_of_images(plain, scalar, T, true, false)
#define KERNELS_textured(scalar, T) KERNELS_of_images(textured, scalar, T, true, true)
#define KERNELS_any(scalar, T) KERNELS_of_images(any, scalar, T, false, true)
#define KERNELS_float32(part) KERNELS_##part(float32, float)
#define KERNELS_float64(part) KERNELS_##part(float64, double)
#define KERNELS(scalar, part) KERNELS_##scalar(part)
#define KERNELS_NAMED(scalar, part) KERNELS(scalar, part)
KERNELS_NAMED(SOFTRAS_SCALAR, SOFTRAS_PART)  // macros that the compiler is given
