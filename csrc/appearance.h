// SPDX-License-Identifier: MIT
// The colours that faces show at the pixels of a run: attributes interpolated between the corners, texels, and light. With
// SIMD over the pixels.
#pragma once
#include "cells.h"
#include "fragment.h"
#include "softras.h"
#include "softras_texture.h"
#include "scene.h"

namespace softras::SOFTRAS_ISA {

// The operations that softras_texture.h needs, for SIMD vectors.
template <class T>
struct NumbersOfVector {
  using V = typename Simd<T>::V;
  using Integer = typename Simd<T>::I;
  static Integer truncate(V a) { return __builtin_convertvector(a, Integer); }
  static V convert(Integer a) { return __builtin_convertvector(a, V); }
  static Integer entry(const int* table, Integer i) {
    Integer out;
    for (int l = 0; l < Simd<T>::lanes; l++) out[l] = table[i[l]];
    return out;
  }
  static bool any(Integer a) { return any_lane<T>(a); }
};
template <> struct Numbers<Simd<float>::V> : NumbersOfVector<float> {};
template <> struct Numbers<Simd<double>::V> : NumbersOfVector<double> {};

// All that the colours of one face in one view depend on.
template <class T>
struct ShownFace {
  Planes planes;
  Blend blend;         // of the view
  T depth[3];          // of the corners
  const T* corner[3];  // attributes of the corners
  int64_t face;        // the face's number
  int view;
  bool orthographic;
  const Outline* outline;
};

template <class T>
struct Appearance {
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  static constexpr int lanes = Simd<T>::lanes;

  const softras_image_call& call;
  Texture texture = {};

  explicit Appearance(const softras_image_call& c) : call(c) {
    if (c.texture == 2) texture = texture_of(c.texture_height, c.texture_width, c.levels, c.wrap);
  }

  // Memory that a thread uses again for each run.
  struct Scratch {
    Buffer<V> values;  // holds the following
    V* attribute;      // (width) attributes at the pixels
    V* gradient;       // (width) gradient with respect to them
    V* colour;         // (channels) colours of the pixels
    V* sums;           // (3,width) gradient with respect to the attributes of the corners
  };
  // False: there is no memory.
  bool reserve(Scratch& s) const {
    if (!s.values.reserve(5 * call.width + call.channels)) return false;
    s.attribute = s.values.data, s.gradient = s.attribute + call.width, s.colour = s.gradient + call.width;
    s.sums = s.colour + call.channels;
    return true;
  }

  // The points of the face that are seen at the pixels of a run: SeenPoint of fragment.h, for vectors.
  struct Point {
    V positive[3], inverse, z;
    I shown;
  };

  // Interpolates the attributes into s.attribute.
  void interpolate(const ShownFace<T>& shown, const Point& at, Scratch& s) const {
    for (int c = 0; c < call.width; c++)
      s.attribute[c] = (at.positive[0] * shown.corner[0][c] + at.positive[1] * shown.corner[1][c] +
                        at.positive[2] * shown.corner[2][c]) * at.inverse;
  }
  // Attributes are, in this order: u and v of a UV texture, the light of each texture channel, other channels of the
  // image. These are where the second and the third begin.
  int first_light() const { return call.texture == 2 ? 2 : 0; }
  int first_other() const { return first_light() + (call.lit ? call.texture_channels : 0); }
  // The first texel that the face may show, among the texels of all views.
  int64_t first_texel(const ShownFace<T>& shown) const {
    const int64_t of_view = call.shared_texels ? 0 : shown.view * call.texel_count;
    return of_view + (call.texture == 1 ? shown.face * call.resolution * call.resolution : 0);
  }
  // The texels that the pixels of a run read, and their weights.
  Taps<V> taps_of(const ShownFace<T>& shown, const Point& at, const Scratch& s) const {
    if (call.texture == 1) {
      Taps<V> taps;
      taps.count = 1, taps.weight[0] = V(T(1));
      taps.index[0] = surface_texel(at.positive[0] * at.inverse, at.positive[1] * at.inverse, call.resolution);
      return taps;
    }
    const V base = V(((const T*)call.face_levels)[(int64_t)shown.view * call.scene.faces + shown.face]);
    return texture_taps(texture, s.attribute[0], s.attribute[1], shown.orthographic ? base : pixel_level(base, at.z));
  }

  // Finds the colours of a run's pixels, in s.colour. For each texture channel it calls each(channel, taps, values of the
  // texels), before the colour is multiplied by the light. Returns the taps.
  template <class Each>
  Taps<V> shade(const ShownFace<T>& shown, const Point& at, Scratch& s, Each each) const {
    interpolate(shown, at, s);
    const int channels = call.texture_channels;
    const T* texels = (const T*)call.texels + first_texel(shown) * channels;
    const Taps<V> taps = taps_of(shown, at, s);
    const T* read[8][lanes];
    for (int k = 0; k < taps.count; k++)
      for (int l = 0; l < lanes; l++) read[k][l] = texels + (int64_t)taps.index[k][l] * channels;
    for (int c = 0; c < channels; c++) {
      V texel[8], sum = V(T(0));
      for (int k = 0; k < taps.count; k++) {
        for (int l = 0; l < lanes; l++) texel[k][l] = read[k][l][c];
        sum += taps.weight[k] * texel[k];
      }
      s.colour[c] = sum;
      each(c, taps, texel);
      if (call.lit) s.colour[c] *= s.attribute[first_light() + c];
    }
    for (int c = channels; c < call.channels; c++) s.colour[c] = s.attribute[first_other() + c - channels];
    return taps;
  }

  // From the gradient with respect to the colours, which for channel c is share * wanted[c * row], finds the gradient with
  // respect to the attributes at the pixels, in s.gradient, and adds those with respect to texels, mip level and depth.
  // Returns the sum over the channels of gradient times colour.
  V backward(const ShownFace<T>& shown, const Point& at, V share, const T* wanted, int64_t row, Scratch& s, V& level,
             V& by_depth) const {
    const int channels = call.texture_channels;
    int64_t* texel_gradients = call.grad_texels ? call.grad_texels + first_texel(shown) * channels : nullptr;
    V pull[8], total = V(T(0));
    for (int k = 0; k < 8; k++) pull[k] = V(T(0));
    const auto each = [&](int c, const Taps<V>& taps, const V* texel) {
      V g = share * load<T>(wanted + c * row);
      if (call.lit) s.gradient[first_light() + c] = g * s.colour[c], g *= s.attribute[first_light() + c];
      total += g * s.colour[c];
      for (int k = 0; k < taps.count; k++) {
        pull[k] += g * texel[k];
        if (texel_gradients) add_texels(texel_gradients + c, taps.index[k], g * taps.weight[k]);
      }
    };
    const Taps<V> taps = shade(shown, at, s, each);
    if (call.texture == 2) {
      const TextureGradient<V> moved = texture_backward(texture, taps, pull);
      s.gradient[0] = moved.u, s.gradient[1] = moved.v;
      level += moved.level;
      if (!shown.orthographic) by_depth += moved.level * pixel_level_slope(at.z);
    }
    for (int c = channels; c < call.channels; c++) {
      const V g = share * load<T>(wanted + c * row);
      s.gradient[first_other() + c - channels] = g;
      total += g * s.colour[c];
    }
    return total;
  }

  // Adds g to the gradients of texels, in whole numbers of texel_unit, whose sum is the same in any order of the threads.
  void add_texels(int64_t* gradients, I index, V g) const {
    for (int l = 0; l < lanes; l++)
      if (g[l] != 0)
        __atomic_fetch_add(gradients + (int64_t)index[l] * call.texture_channels, (int64_t)(double(g[l]) / call.texel_unit),
                           __ATOMIC_RELAXED);
  }
};

}  // namespace softras::SOFTRAS_ISA
