// SPDX-License-Identifier: MIT
// Images on the GPU: the colours of faces blended by depth, and alpha by any distance, distribution and T-conorm.
//
// In the forward pass the warps go through the faces twice. The kernel `cover` adds each face to the alpha of its pixels and
// finds the least depth of each pixel. Relative to that depth no weight is greater than 1, so that the kernel `blend` can
// add up weights and weighted colours in integers, whose sum does not depend on the order. `finish_image` divides the
// colours by the weights. In the backward pass (cuda_image_backward.h) a warp gathers the gradient of a face from its
// pixels. No fragments are kept.
//
// plain: the modes are SoftRas's own (Modes.plain of engine/softras/raster/images/modes.py). textured: there may be a texture.
#pragma once
#include "cuda_faces.h"
#include "fragment.h"
#include "softras_texture.h"

namespace softras::SOFTRAS_ISA {

// The argument of the kernels of images, which engine/softras/raster/native/cuda_structures.py declares too. Fields with a
// name of softras_image_call (softras.h) mean the same.
struct ImageCall {
  Call scene;
  int distance, squared, distribution, conorm;
  double shape, shift, power, cutoff, radius, gamma, eps;
  const double* far_planes;
  int channels, rows, width, shared_attributes;
  const void *attributes, *attribute_faces, *background;
  const void* behind;            // (N): depth of the background
  int texture, texture_channels, lit, shared_texels;
  int resolution, texture_height, texture_width, levels, wrap;
  long long texel_count;
  const void *texels, *face_levels;
  void *image, *depth, *weight;  // the caller sets depth to `behind`
  unsigned* nearest;             // (N,H,W): the caller sets it to the greatest number, which stands for no face; or null
  void* shown_faces;             // (N,F): a ShownFace for each face
  void* nearest_depth;           // (N,H,W): depth of the face in `nearest`; the caller sets it to infinity
  unsigned* largest;             // (N,H,W): the first face with the largest coverage, as `nearest`; or null
  Sum *weights, *colours;        // (N,H,W) and (N,C,H,W): the caller sets them to zero
  double* magnitudes;            // the largest absolute value of attributes, of texels and of background: found by `measure`
  const void* grad_image;
  double* face_sums;             // (N,F,kFaceSums): added to, as are the following
  void *grad_corners, *grad_levels;
  Sum* grad_texels;              // in units of texel_unit
  const double* texel_unit;
};

// The units in which weights and colours are added up. They are chosen so that the sums over all faces fit into signed
// integers.
__device__ inline double weight_unit(const ImageCall& call) { return (call.scene.faces + 2) / 4611686018427387904.0; }
__device__ inline double colour_unit(const ImageCall& call) {
  const double attributes = call.magnitudes[0], texels = call.magnitudes[1] * (call.lit ? attributes : 1.0);
  return weight_unit(call) * max(max(attributes, texels), 1e-20);
}
// A signed whole number as a Sum, which wraps around: the sum of all is right as a signed number.
template <class T>
__device__ inline Sum whole(T value) { return Sum((long long)value); }

// Raises `largest` to the greatest absolute value of `count` numbers. If a number is not finite, sets bit `bad` of the
// status.
template <class T>
__device__ void measure(const ImageCall& call, const void* values, long long count, double* largest, int bad) {
  T most = T(0);
  bool finite = true;
  for (long long i = blockIdx.x * (long long)kBlock + threadIdx.x; i < count; i += gridDim.x * (long long)kBlock) {
    const T size = magnitude(((const T*)values)[i]);
    finite = finite && isfinite(size);
    most = max(size, most);
  }
  for (int o = kWarp / 2; o > 0; o /= 2) most = max(__shfl_xor_sync(kAll, most, o), most);
  // The bits of numbers that are not negative compare as integers do.
  if (lane_of_thread() == 0) atomicMax((Sum*)largest, (Sum)__double_as_longlong(most));
  if (!finite) atomicOr(call.scene.status, 1 << bad);
}
// A kernel: finds the magnitudes, and checks whether the inputs are finite.
template <class T>
__device__ void measure(const ImageCall& call) {
  const long long views = call.scene.views;
  measure<T>(call, call.attributes, (call.shared_attributes ? 1 : views) * call.rows * call.width, call.magnitudes, 7);
  const long long texels = (call.shared_texels ? 1 : views) * call.texel_count * call.texture_channels;
  measure<T>(call, call.texels, texels, call.magnitudes + 1, 8);
  measure<T>(call, call.background, views * call.channels, call.magnitudes + 2, 9);
}

// ---------------------------------------------------------------------------------------------- what a face shows

// What the colours of one face in one view depend on.
template <class T>
struct ShownFace {
  Planes planes;  // all zero if the face shows nothing
  T depth[3];     // of the corners
  int row[3];     // the rows of the corners' attributes
};

// A kernel: finds the ShownFace of each face of each view, by one thread each. Sets the bit of the status that stands for
// SOFTRAS_BAD_ATTRIBUTE_INDEX.
template <class T>
__device__ void prepare_face(const ImageCall& call) {
  __shared__ Camera camera;
  const Call& scene = call.scene;
  const int view = blockIdx.y;
  load_camera<T>(scene, view, camera);
  __syncthreads();
  const long long face = blockIdx.x * (long long)kBlock + threadIdx.x;
  if (face >= scene.faces) return;
  ShownFace<T> out = {};
  Vec3 h[3];
  bool exists = true;
  for (int k = 0; k < 3; k++) {
    const long long i = 3 * face + k, v = vertex_of(scene, i);
    const long long row = scene.wide_indices ? ((const long long*)call.attribute_faces)[i]
                                             : ((const int*)call.attribute_faces)[i];
    const bool known = row >= 0 && row < call.rows;
    if (!known) atomicOr(scene.status, 1 << 6);
    exists = exists && known && v >= 0 && v < scene.vertices;
    if (!exists) continue;
    const Vec3 point = to_camera(camera, position_of<T>(scene, view, v));
    h[k] = homogeneous_pixel(camera, point);
    out.depth[k] = T(point.z), out.row[k] = (int)row;
  }
  if (exists) out.planes = planes_of(h);
  ((ShownFace<T>*)call.shown_faces)[(long long)view * scene.faces + face] = out;
}

// The linear functions g_k of Planes in a cell: g_k = x[k] p.x + y[k] p.y + one[k] at a pixel p.
template <class T>
struct LocalPlanes {
  T x[3], y[3], one[3];

  __device__ explicit LocalPlanes(const Planes& planes) {
    for (int k = 0; k < 3; k++) x[k] = T(planes.row[k].x), y[k] = T(planes.row[k].y), one[k] = T(0);
  }
  // Goes to another cell.
  __device__ void enter(const Planes& planes, const Cell& cell) {
    const Vec3 row = planes.row[lane_of_thread() % 3];  // one thread finds one[k] in double precision for all
    const T mine = T(row.x * (cell.x + cell.width / 2 + 0.5) + row.y * (cell.y + cell.height / 2 + 0.5) + row.z);
    for (int k = 0; k < 3; k++) one[k] = __shfl_sync(kAll, mine, k);
  }
  // The point of the face that is seen at a pixel.
  __device__ SeenPoint<T> at(const Pixel<T>& p, const T* depth, T near) const {
    T g[3];
    for (int k = 0; k < 3; k++) g[k] = x[k] * p.x + (y[k] * p.y + one[k]);
    return seen_point(g, depth, near);
  }
};

// The colours of a face at a point: its attributes and texels there.
template <class T, bool textured>
struct Colours {
  const ImageCall& call;
  const T* corner[3];     // attributes of the corners
  const T* texels;        // from the first texel that the face may show on
  T level;                // the face's mip level
  long long first_texel;  // the number of that texel among those of all views
  T b[3];                 // barycentric coordinates of the point
  Taps<T> taps;           // the texels at the point

  __device__ Colours(const ImageCall& c, int view, long long face, const ShownFace<T>& shown) : call(c) {
    for (int k = 0; k < 3; k++) {
      const long long row = shown.row[k] + (call.shared_attributes ? 0 : (long long)view * call.rows);
      corner[k] = (const T*)call.attributes + row * call.width;
    }
    if (!textured) return;
    level = call.texture == 2 ? ((const T*)call.face_levels)[(long long)view * call.scene.faces + face] : T(0);
    first_texel = call.texture == 1 ? face * call.resolution * call.resolution : 0;
    if (!call.shared_texels) first_texel += view * call.texel_count;
    texels = (const T*)call.texels + first_texel * call.texture_channels;
  }

  // Goes to another point.
  __device__ void set(const SeenPoint<T>& at, const Texture& texture, bool orthographic) {
    for (int k = 0; k < 3; k++) b[k] = at.positive[k] * at.inverse;
    if (!textured) return;
    if (call.texture == 2) {
      taps = texture_taps(texture, attribute(0), attribute(1), orthographic ? level : pixel_level(level, at.z));
    } else {
      taps.count = 1, taps.weight[0] = T(1);
      taps.index[0] = call.texture == 1 ? surface_texel(b[0], b[1], call.resolution) : 0;
    }
  }

  // Attribute c, texture channel c, channel c of the texel of tap k.
  __device__ T attribute(int c) const { return b[0] * corner[0][c] + b[1] * corner[1][c] + b[2] * corner[2][c]; }
  __device__ T texel(int c) const {
    T sum = T(0);
    for (int k = 0; k < taps.count; k++) sum += taps.weight[k] * tap(k, c);
    return sum;
  }
  __device__ T tap(int k, int c) const { return texels[(long long)taps.index[k] * call.texture_channels + c]; }
  // Attributes are, in this order: u and v of a UV texture, the light of each texture channel, other channels of the
  // image. These are where the second and the third begin.
  __device__ int first_light() const { return call.texture == 2 ? 2 : 0; }
  __device__ int first_other() const { return first_light() + (call.lit ? call.texture_channels : 0); }
  __device__ T light(int c) const { return call.lit ? attribute(first_light() + c) : T(1); }

  // Channel c of the image.
  __device__ T channel(int c) const {
    if (!textured) return attribute(c);
    return c < call.texture_channels ? texel(c) * light(c) : attribute(first_other() + c - call.texture_channels);
  }
};

// ---------------------------------------------------------------------------------------------- drawing

// The Blend of a view, in numbers of T.
template <class T>
struct Depths {
  T scale, near, far;
};

// A face of a view while a warp goes through its pixels.
template <class T, bool plain>
struct Drawn {
  const ImageCall& call;
  const ShownFace<T>& shown;
  int view;
  long long number;  // of the face
  Depths<T> depths;
  Outline outline;   // set where the distance is barycentric

  __device__ Drawn(const ImageCall& c, const Camera& camera, const Depths<T>& d, int v, long long n)
      : call(c), shown(((const ShownFace<T>*)c.shown_faces)[(long long)v * c.scene.faces + n]), view(v), number(n), depths(d) {
    Vec3 point[3];
    if (!plain && call.distance == kBarycentric) outline = outline_of<T>(call.scene, camera, view, number, point);
  }

  __device__ Barycentric barycentric(const Pixel<T>& p) const {
    const double sign = doubled_area(outline.pixel, outline.corners) < 0 ? -1 : 1;
    return barycentric_distance(outline.pixel, outline.corners, sign, {p.column + 0.5, p.row + 0.5});
  }
  // The signed distance of a pixel in units of the blur. x: the signed square of the Euclidean distance.
  __device__ T distance(const Pixel<T>& p, T x) const {
    if (call.distance == kHard) return x;
    if (call.distance == kEuclidean) return call.squared ? x : signed_root(x);
    const double m = p.exists ? barycentric(p).m : 0.0;
    return T((call.squared ? m * absolute(m) : m) / call.scene.sigma);
  }
  // The coverage at signed distance u, all zero where the face does not count. inside: whether the pixel's centre is covered.
  __device__ Coverage<T> coverage_at(T u, bool inside) const {
    const Coverage<T> none = {};
    if (call.distance == kHard) return inside ? hard_coverage<T>(true) : none;
    return u > T(call.cutoff) ? coverage<T>(call.distribution, call.shape, call.shift, u) : none;
  }
  // The weight of a fragment at depth z, relative to one of coverage 1 at the least depth.
  __device__ T weight(T least, T z, T covered) const {
    return covered * exp2_of(min((least - z) * depths.scale, T(0)));
  }
};

// Calls draw(drawn face, face, first cell) with all threads of a warp for each of its faces in the block's view.
template <class T, bool plain, class Draw>
__device__ inline void draw_faces(const ImageCall& call, Shared<T>& shared, Draw draw) {
  const int view = blockIdx.z;
  const Call& scene = call.scene;
  const bool barycentric = !plain && call.distance == kBarycentric;
  if (threadIdx.x == 0) {
    if (plain) {
      shared.blur = blur_of<T>(scene.sigma, scene.height, scene.width);
    } else {
      shared.blur = blur_of_modes<T>(call.distance, call.squared != 0, scene.sigma, call.radius, scene.height, scene.width);
      if (barycentric) shared.blur.cutoff = T(1e9);  // the whole rectangle of a face
    }
  }
  const Blend blend = blend_of(call.gamma, call.eps, scene.near_planes[view], call.far_planes[view]);
  const Depths<T> depths = {T(blend.scale), T(blend.near), T(blend.far)};
  for_faces(scene, shared, barycentric ? 2 * call.radius : 0.0, view,
            [&](long long number, const Face<T>& face, int first) {
              draw(Drawn<T, plain>(call, shared.camera, depths, view, number), face, first);
            });
}

// ---------------------------------------------------------------------------------------------- forward

// Lowers a number in memory to `value`, atomically. The bits of numbers of the same sign compare as integers do: in the same
// order if the sign is positive, in the opposite one if it is negative.
__device__ inline void lower(float* at, float value) {
  if (value >= 0) atomicMin((int*)at, __float_as_int(value));
  else atomicMax((unsigned*)at, (unsigned)__float_as_int(value));
}
__device__ inline void lower(double* at, double value) {
  if (value >= 0) atomicMin((long long*)at, __double_as_longlong(value));
  else atomicMax((Sum*)at, (Sum)__double_as_longlong(value));
}
// The same for a number of an array, unless it is lower already.
template <class T>
__device__ inline void lower_at(void* plane, long long index, T value) {
  T* at = (T*)plane + index;
  if (value < *(volatile T*)at) lower(at, value);
}

// The relative difference by which two kernels may find the same number, due to rounding.
template <class T>
constexpr T kRounding = sizeof(T) == 4 ? T(4e-7) : T(1e-15);

// Adds one face with n corners to the sums of alpha, and lowers the least depths of its pixels.
template <int n, class T, bool plain>
__device__ inline void cover_face(const Drawn<T, plain>& drawn, Shared<T>& shared, const Face<T>& face, int first) {
  const ImageCall& call = drawn.call;
  LocalPlanes<T> planes(drawn.shown.planes);
  const auto enter = [&](const Cell& cell) { planes.enter(drawn.shown.planes, cell); };
  walk<n>(call.scene, shared, face, drawn.view, first, enter, [&](const Pixel<T>& p, const Edge<T>* edge) {
    const SeenPoint<T> at = planes.at(p, drawn.shown.depth, drawn.depths.near);
    if (!p.exists || !(at.z <= drawn.depths.far)) return;
    const T x = exponent<n>(p, edge);
    if (call.nearest && x >= 0) lower_at(call.nearest_depth, p.index, at.z);
    Sum* sum = call.scene.sums + p.index;
    if (plain) {
      const T e = exponential(x);
      if (!(e > 0)) return;
      if (*(volatile Sum*)sum < kOpaque<T>) add_to(sum, e);
    } else {
      const Coverage<T> here = drawn.coverage_at(drawn.distance(p, x), x >= 0);
      if (!(here.covered > 0)) return;
      const double term = conorm_term(call.conorm, call.power, here);
      if (conorm_is_largest(call.conorm)) atomicMax(sum, (Sum)__double_as_longlong(term));  // term > 0
      else atomicAdd((double*)sum, term);
    }
    if (at.shown) lower_at(call.depth, p.index, at.z);
  });
}

// A kernel: the first time through the faces.
template <class T, bool plain>
__device__ void cover(const ImageCall& call) {
  __shared__ Shared<T> shared;
  draw_faces<T, plain>(call, shared, [&](const Drawn<T, plain>& drawn, const Face<T>& face, int first) {
    face.corners == 3 ? cover_face<3>(drawn, shared, face, first) : cover_face<4>(drawn, shared, face, first);
  });
}

// Writes the number of a face at a pixel, unless a smaller number is there.
__device__ inline void name_first(unsigned* at, long long number) {
  if ((unsigned)number < *(volatile unsigned*)at) atomicMin(at, (unsigned)number);
}

// Adds one face with n corners to the sums of weights and colours.
template <int n, class T, bool plain, bool textured>
__device__ inline void blend_face(const Drawn<T, plain>& drawn, Shared<T>& shared, const Texture& texture,
                                  const Face<T>& face, int first) {
  const ImageCall& call = drawn.call;
  const long long size = (long long)call.scene.height * call.scene.width;
  const T per_weight = T(1 / weight_unit(call)), per_colour = T(1 / colour_unit(call));
  LocalPlanes<T> planes(drawn.shown.planes);
  Colours<T, textured> colours(call, drawn.view, drawn.number, drawn.shown);
  const auto enter = [&](const Cell& cell) { planes.enter(drawn.shown.planes, cell); };
  walk<n>(call.scene, shared, face, drawn.view, first, enter, [&](const Pixel<T>& p, const Edge<T>* edge) {
    const SeenPoint<T> at = planes.at(p, drawn.shown.depth, drawn.depths.near);
    if (!p.exists || !(at.z <= drawn.depths.far)) return;
    const T x = exponent<n>(p, edge);
    if (call.nearest && x >= 0) {
      const T least = ((const T*)call.nearest_depth)[p.index];
      if (at.z <= least + magnitude(least) * kRounding<T>) name_first(call.nearest + p.index, drawn.number);
    }
    Coverage<T> here = {};
    if (plain) {
      const T e = exponential(x);
      here.covered = e / (e + T(1));
    } else {
      here = drawn.coverage_at(drawn.distance(p, x), x >= 0);
    }
    if (!(here.covered > 0)) return;
    if (!plain && call.largest) {
      const double most = ((const double*)call.scene.sums)[p.index];
      if (conorm_term(call.conorm, call.power, here) >= most * (1 - kRounding<T>))
        name_first(call.largest + p.index, drawn.number);
    }
    const T share = at.shown ? drawn.weight(((const T*)call.depth)[p.index], at.z, here.covered) : T(0);
    const Sum weight = Sum(share * per_weight);
    if (weight == 0) return;
    atomicAdd(call.weights + p.index, weight);
    colours.set(at, texture, shared.camera.orthographic);
    Sum* sum = call.colours + drawn.view * (call.channels - 1) * size + p.index;
    for (int c = 0; c < call.channels; c++, sum += size)
      atomicAdd(sum, whole(share * colours.channel(c) * per_colour));
  });
}

// A kernel: the second time through the faces.
template <class T, bool plain, bool textured>
__device__ void blend(const ImageCall& call) {
  __shared__ Shared<T> shared;
  __shared__ Texture texture;
  if (textured && threadIdx.x == 0)
    texture = texture_of(call.texture_height, call.texture_width, call.levels, call.wrap);
  draw_faces<T, plain>(call, shared, [&](const Drawn<T, plain>& drawn, const Face<T>& face, int first) {
    face.corners == 3 ? blend_face<3, T, plain, textured>(drawn, shared, texture, face, first)
                      : blend_face<4, T, plain, textured>(drawn, shared, texture, face, first);
  });
}

// A kernel: finds alpha, what its backward pass needs, the weights and the image from the sums of the pixels. Alpha and the
// image are NaN if the inputs have a fault.
template <class T, bool plain>
__device__ void finish_image(const ImageCall& call) {
  const Call& scene = call.scene;
  const long long i = blockIdx.x * (long long)kBlock + threadIdx.x, size = (long long)scene.height * scene.width;
  if (i >= scene.views * size) return;
  const int view = (int)(i / size);
  const T zero = 0, broken = *scene.status ? zero / zero : T(0);
  T alpha;
  if (plain) {
    const T left = transmittance_of<T>(scene.sums[i]);
    ((T*)scene.transmittance)[i] = left;
    alpha = T(1) - left;
  } else {
    const double folded = ((const double*)scene.sums)[i];
    ((double*)scene.transmittance)[i] = call.largest ? (double)(int)call.largest[i] : folded;
    alpha = conorm_opacity<T>(call.conorm, call.power, folded).alpha;
  }
  ((T*)scene.alpha)[i] = alpha + broken;
  const Blend blend = blend_of(call.gamma, call.eps, scene.near_planes[view], call.far_planes[view]);
  const T behind = exp2_of(min((((const T*)call.depth)[i] - ((const T*)call.behind)[view]) * T(blend.scale), T(0)));
  const T weight = T(call.weights[i]) * T(weight_unit(call)) + behind;
  ((T*)call.weight)[i] = weight;
  const T* background = (const T*)call.background + (long long)view * call.channels;
  const T unit = T(colour_unit(call));
  const long long first = i + view * (call.channels - 1) * size;
  for (int c = 0; c < call.channels; c++) {
    const T sum = T((long long)call.colours[first + c * size]) * unit + behind * background[c];
    ((T*)call.image)[first + c * size] = sum / weight + broken;
  }
}

}  // namespace softras::SOFTRAS_ISA
