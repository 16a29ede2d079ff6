// SPDX-License-Identifier: MIT
// The backward pass of images on the GPU. A warp goes through the pixels of a face once for every kGroup attributes. Each
// time it gathers as many numbers as it has threads: those of FaceSum, and the gradients of the attributes at three corners.
// Each thread then adds the sum of one of these numbers to memory. The kernel `corners_backward` takes them to the vertices
// of the faces, from where vertices_backward and sum_gradients continue as for silhouettes.
#pragma once
#include "cuda_image.h"

namespace softras::SOFTRAS_ISA {

// Where each part of the gradient of a face begins: of the corners of its outline (x, y each); of its three Planes, first
// their factors of 1, then those of x, then those of y; of the depths of its three corners. The gradients of attributes
// follow.
enum FaceSum { kOutline, kOnes = 8, kRight = 11, kDown = 14, kDepth = 17, kFaceSums = 20 };
// The number of attributes whose gradients are gathered each time.
constexpr int kGroup = (kWarp - kFaceSums) / 3;

// Thread i gets the sum over the threads of the warp of v[i].
template <class T>
__device__ inline T warp_sums(T* v) {
  const int lane = lane_of_thread();
#pragma unroll
  for (int o = kWarp / 2; o > 0; o /= 2) {
    const bool upper = lane & o;
#pragma unroll
    for (int j = 0; j < o; j++) {
      const T keep = upper ? v[j + o] : v[j], give = upper ? v[j] : v[j + o];
      v[j] = keep + __shfl_xor_sync(kAll, give, o);
    }
  }
  return v[0];
}

// The coverage of a pixel by a face, and its derivatives. With plain modes x, as exponent() gives it, takes the place of the
// signed distance u.
template <class T>
struct Covering {
  T covered;   // D
  T by_log;    // d log D / du
  T by_alpha;  // dL/du, as far as it comes through alpha
  T u;
};

template <class T, bool plain>
__device__ inline Covering<T> covering_of(const Drawn<T, plain>& drawn, const Pixel<T>& p, T x) {
  const ImageCall& call = drawn.call;
  Covering<T> out = {T(0), T(0), T(0), x};
  const T grad_alpha = ((const T*)call.scene.grad_alpha)[p.index];
  if (plain) {
    const T e = exponential(x), clear = T(1) / (e + T(1));
    out.covered = e * clear, out.by_log = T(kLn2) * clear;
    out.by_alpha = slope_of<T>(call.scene, p.index) * grad_alpha * out.covered;
    return out;
  }
  out.u = drawn.distance(p, x);
  const Coverage<T> here = drawn.coverage_at(out.u, x >= 0);
  out.covered = here.covered;
  if (!(here.covered > 0) || here.density == 0) return out;
  out.by_log = here.density / here.covered;
  const double state = ((const double*)call.scene.transmittance)[p.index];
  if (conorm_is_largest(call.conorm)) {
    if ((Conorm)call.conorm == Conorm::max && state == drawn.number) out.by_alpha = grad_alpha * here.density;
  } else if (grad_alpha != 0) {
    const Opacity<T> pixel = conorm_opacity<T>(call.conorm, call.power, state);
    out.by_alpha = grad_alpha * conorm_factor(call.conorm, call.power, here, pixel) * here.density;
  }
  return out;
}

// The gradients through the colours of a fragment.
template <class T, bool textured>
struct ColourGradients {
  const Colours<T, textured>& colours;
  const T* wanted;     // dL / d(channel 0) of the pixel; the next channel is `size` further
  long long size;      // pixels of an image
  T share;             // the weight of the fragment divided by the sum of the weights
  T u, v, level;       // the gradients of the texture coordinates and of the mip level, which read_texture() finds

  // dL / d(colour in channel c) and dL / d(attribute c).
  __device__ T of_channel(int c) const { return share * wanted[c * size]; }
  __device__ T of_attribute(int c) const {
    if (!textured) return of_channel(c);
    const int light = colours.first_light(), other = colours.first_other();
    if (c < light) return c == 0 ? u : v;
    if (c < other) return of_channel(c - light) * colours.texel(c - light);
    return of_channel(colours.call.texture_channels + c - other);
  }

  // Adds the gradients of the texels, and finds those of u, v and the level.
  __device__ void read_texture(const Texture& texture) {
    const ImageCall& call = colours.call;
    const Taps<T>& taps = colours.taps;
    u = v = level = T(0);
    T pull[8] = {};
    const T per_texel = call.grad_texels ? T(1) / T(*call.texel_unit) : T(0);
    for (int c = 0; c < call.texture_channels; c++) {
      const T g = of_channel(c) * colours.light(c);
      for (int k = 0; k < taps.count; k++) {
        pull[k] += g * colours.tap(k, c);
        const long long at = (colours.first_texel + taps.index[k]) * call.texture_channels + c;
        if (call.grad_texels) atomicAdd(call.grad_texels + at, whole(g * taps.weight[k] * per_texel));
      }
    }
    if (call.texture != 2) return;
    const TextureGradient<T> g = texture_backward(texture, taps, pull);
    u = g.u, v = g.v, level = g.level;
  }
};

// Goes once through the pixels of a face with n corners and adds the gradients of kGroup attributes from `start` on. The
// first time (`first_walk`) all other gradients of the face are added too.
template <int n, bool first_walk, class T, bool plain, bool textured>
__device__ inline void gather_face(const Drawn<T, plain>& drawn, Shared<T>& shared, const Texture& texture,
                                   const Face<T>& face, int first, int start) {
  const ImageCall& call = drawn.call;
  const long long size = (long long)call.scene.height * call.scene.width;
  const long long to_channels = drawn.view * (call.channels - 1) * size;
  LocalPlanes<T> planes(drawn.shown.planes);
  Colours<T, textured> colours(call, drawn.view, drawn.number, drawn.shown);
  T v[kWarp] = {}, level = T(0);
  // Here the edges are read from shared memory, since the registers are needed for the sums.
  const Edge<T>* edge = face.single ? face.single_edge : shared.edge[warp_of_thread()];
  const auto enter = [&](const Cell& cell) { planes.enter(drawn.shown.planes, cell); };
  walk<n>(call.scene, shared, face, drawn.view, first, enter, [&](const Pixel<T>& p, const Edge<T>*) {
    const SeenPoint<T> at = planes.at(p, drawn.shown.depth, drawn.depths.near);
    const Nearest<T> nearest = nearest_of<n>(p, edge);
    Covering<T> covering = {};
    T share = T(0);
    if (p.exists && at.z <= drawn.depths.far) {
      covering = covering_of(drawn, p, nearest.x);
      if (at.shown && covering.covered > 0)
        share = drawn.weight(((const T*)call.depth)[p.index], at.z, covering.covered) / ((const T*)call.weight)[p.index];
      if (!(share > kNegligible<T>)) share = T(0);
    }
    if (!__any_sync(kAll, share != T(0) || (first_walk && covering.by_alpha != T(0)))) return;

    T towards = T(0);  // dL / d log(weight)
    if (share != T(0)) {
      colours.set(at, texture, shared.camera.orthographic);
      ColourGradients<T, textured> gradients = {colours, (const T*)call.grad_image + to_channels + p.index, size, share};
      if (first_walk && textured && call.texture) gradients.read_texture(texture);
      T by_corner[3] = {};
#pragma unroll
      for (int j = 0; j < kGroup; j++) {
        const int c = start + j;
        if (c >= call.width) break;
        const T g = gradients.of_attribute(c);
        for (int k = 0; k < 3; k++) v[kFaceSums + kGroup * k + j] += colours.b[k] * g;
        if (first_walk)
          for (int k = 0; k < 3; k++) by_corner[k] += g * colours.corner[k][c];
      }
      if (first_walk) {
#pragma unroll 1
        for (int c = kGroup; c < call.width; c++) {
          const T g = gradients.of_attribute(c);
          for (int k = 0; k < 3; k++) by_corner[k] += g * colours.corner[k][c];
        }
        const T* image = (const T*)call.image + to_channels + p.index;
#pragma unroll 1
        for (int c = 0; c < call.channels; c++)
          towards += gradients.of_channel(c) * ((textured ? colours.channel(c) : T(0)) - image[c * size]);
        if (!textured)
          for (int k = 0; k < 3; k++) towards += colours.b[k] * by_corner[k];
        T by_depth = -towards * drawn.depths.scale * T(kLn2);
        if (textured && call.texture == 2) {
          level += gradients.level;
          if (!shared.camera.orthographic) by_depth += gradients.level * pixel_level_slope(at.z);
        }
        if (!(at.z > drawn.depths.near)) by_depth = T(0);
        T mean = T(0);
        for (int k = 0; k < 3; k++) {
          by_corner[k] += by_depth * drawn.shown.depth[k];
          mean += colours.b[k] * by_corner[k];
          v[kDepth + k] += by_depth * colours.b[k];
        }
        for (int k = 0; k < 3; k++) {
          const T g = at.positive[k] > T(0) ? (by_corner[k] - mean) * at.inverse : T(0);
          v[kOnes + k] += g, v[kRight + k] += g * T(p.column - face.rect.x0), v[kDown + k] += g * T(p.row - face.rect.y0);
        }
      }
    }
    if (!first_walk) return;

    const T pull = covering.by_alpha + (covering.covered > T(0) ? towards * covering.by_log : T(0));
    if (!plain && call.distance != kEuclidean) {
      if (call.distance != kBarycentric || pull == T(0)) return;
      const Barycentric least = drawn.barycentric(p);
      const double slope = call.squared ? 2 * absolute(least.m) : 1.0;
      Vec2 moved[4] = {};
      barycentric_backward(drawn.outline.pixel, least, {p.column + 0.5, p.row + 0.5}, pull * slope / call.scene.sigma, moved);
      for (int k = 0; k < n; k++) v[kOutline + 2 * k] += T(moved[k].x), v[kOutline + 2 * k + 1] += T(moved[k].y);
      return;
    }
    const Pull<T> by_outline = pull_of(nearest, plain || call.squared ? pull : signed_root_backward(pull, covering.u));
    for (int k = 0; k < n; k++) {
      const T part = share_of<n>(by_outline, k);
      v[kOutline + 2 * k] += by_outline.move.x * part, v[kOutline + 2 * k + 1] += by_outline.move.y * part;
    }
  });

  const int lane = lane_of_thread();
  const T total = warp_sums(v);
  const long long entry = (long long)drawn.view * call.scene.faces + drawn.number;
  if (first_walk) {
    const T one = __shfl_sync(kAll, total, lane < kRight ? 0 : kOnes + (lane - kOnes) % 3);
    double sum = total;  // x and y of the planes become those from the corner of the image
    if (lane >= kRight && lane < kDown) sum += (face.rect.x0 + 0.5) * one;
    if (lane >= kDown && lane < kDepth) sum += (face.rect.y0 + 0.5) * one;
    if (lane < kFaceSums && sum != 0) atomicAdd(call.face_sums + kFaceSums * entry + lane, sum);
    if (textured && call.grad_levels) {
      level = warp_sum(level);
      if (lane == 0 && level != T(0)) atomicAdd((T*)call.grad_levels + entry, level);
    }
  }
  const int corner = (lane - kFaceSums) / kGroup, c = start + (lane - kFaceSums) % kGroup;
  if (lane >= kFaceSums && c < call.width && total != T(0))
    atomicAdd((T*)call.grad_corners + (3 * entry + corner) * call.width + c, total);
}

// Goes through the pixels of a face as often as its attributes demand.
template <int n, class T, bool plain, bool textured>
__device__ inline void gather_walks(const Drawn<T, plain>& drawn, Shared<T>& shared, const Texture& texture,
                                    const Face<T>& face, int first) {
  gather_face<n, true, T, plain, textured>(drawn, shared, texture, face, first, 0);
  for (int start = kGroup; start < drawn.call.width; start += kGroup)
    gather_face<n, false, T, plain, textured>(drawn, shared, texture, face, first, start);
}

// A kernel: gathers the gradients of all faces.
template <class T, bool plain, bool textured>
__device__ void gather(const ImageCall& call) {
  __shared__ Shared<T> shared;
  __shared__ Texture texture;
  if (textured && threadIdx.x == 0)
    texture = texture_of(call.texture_height, call.texture_width, call.levels, call.wrap);
  draw_faces<T, plain>(call, shared, [&](const Drawn<T, plain>& drawn, const Face<T>& face, int first) {
    face.corners == 3 ? gather_walks<3, T, plain, textured>(drawn, shared, texture, face, first)
                      : gather_walks<4, T, plain, textured>(drawn, shared, texture, face, first);
  });
}

// A kernel: takes the gradient of each face of each view to the camera-space points of its vertices and to K, by one thread
// each.
template <class T>
__device__ void corners_backward(const ImageCall& call) {
  __shared__ Camera camera;
  const Call& scene = call.scene;
  const int view = blockIdx.y;
  load_camera<T>(scene, view, camera);
  __syncthreads();
  const long long face = blockIdx.x * (long long)kBlock + threadIdx.x, entry = (long long)view * scene.faces + face;
  const double* sums = call.face_sums + kFaceSums * entry;
  bool moves = false;
  for (int i = 0; face < scene.faces && i < kFaceSums; i++) moves = moves || sums[i] != 0;
  double gk[6] = {};
  if (moves) {
    Vec3 point[3], moved[3] = {}, planes[3];
    const Outline outline = outline_of<T>(scene, camera, view, face, point);
    for (int k = 0; k < outline.corners; k++) {
      const Vec2 g = {sums[kOutline + 2 * k], sums[kOutline + 2 * k + 1]};
      corner_backward(point, outline.corner[k], project_backward(camera, outline.point[k], g, gk), moved);
    }
    for (int k = 0; k < 3; k++) planes[k] = {sums[kRight + k], sums[kDown + k], sums[kOnes + k]};
    const Planes& rows = ((const ShownFace<T>*)call.shown_faces)[entry].planes;
    for (int k = 0; k < 3; k++) {
      const Vec3 g = homogeneous_pixel_backward(camera, point[k], planes_backward(rows, planes, k), gk);
      const Vec3 corner = {moved[k].x + g.x, moved[k].y + g.y, moved[k].z + g.z + sums[kDepth + k]};
      double* out = scene.corner_gradients
                        ? corner_of(scene, view, face) + kCornerPoint + 3 * k
                        : scene.point_gradients + 3 * ((long long)view * scene.vertices + vertex_of(scene, 3 * face + k));
      atomicAdd(out, corner.x), atomicAdd(out + 1, corner.y), atomicAdd(out + 2, corner.z);
    }
  }
  for (int i = 0; i < 6; i++) {
    if (scene.corner_gradients) {
      if (moves) corner_of(scene, view, face)[kCornerIntrinsics + i] = gk[i];
      continue;
    }
    const double sum = warp_sum(gk[i]);
    if (lane_of_thread() == 0 && sum != 0) atomicAdd(scene.clipped_intrinsics + 6LL * view + i, sum);
  }
}

}  // namespace softras::SOFTRAS_ISA
