// SPDX-License-Identifier: MIT
// What the faces show at the pixels of a run: attributes between the corners, texels, light. With SIMD over the pixels.
#pragma once
#include "cells.h"
#include "fragment.h"
#include "softras.h"
#include "softras_texture.h"
#include "scene.h"

namespace softras::SOFTRAS_ISA {

// Texture lookup by vectors.
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

// A face in one view.
template <class T>
struct Look {
  Planes planes;
  Blend blend;
  T depth[3];
  const T* corner[3];  // attributes
  int64_t face;
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

  // What a thread keeps of one run: attributes, colours, and the gradients of the attributes.
  struct Scratch {
    Buffer<V> values;
    V *attribute, *gradient, *colour, *sums;
  };
  bool reserve(Scratch& s) const {
    if (!s.values.reserve(5 * call.width + call.channels)) return false;
    s.attribute = s.values.data, s.gradient = s.attribute + call.width, s.colour = s.gradient + call.width;
    s.sums = s.colour + call.channels;  // 3 width
    return true;
  }

  // The point of the face that is seen at the pixels of a run.
  struct Point {
    V positive[3], inverse, z;  // max(g, 0), 1 / their sum, the depth
    I shown;                    // some of them are positive
  };

  void interpolate(const Look<T>& look, const Point& at, Scratch& s) const {
    for (int c = 0; c < call.width; c++)
      s.attribute[c] = (at.positive[0] * look.corner[0][c] + at.positive[1] * look.corner[1][c] +
                        at.positive[2] * look.corner[2][c]) * at.inverse;
  }
  int first_light() const { return call.texture == 2 ? 2 : 0; }
  int first_other() const { return first_light() + (call.lit ? call.texture_channels : 0); }
  int64_t first_texel(const Look<T>& look) const {
    const int64_t of_view = call.shared_texels ? 0 : look.view * call.texel_count;
    return of_view + (call.texture == 1 ? look.face * call.resolution * call.resolution : 0);
  }
  Taps<V> taps_of(const Look<T>& look, const Point& at, const Scratch& s) const {
    if (call.texture == 1) {
      Taps<V> taps;
      taps.count = 1, taps.weight[0] = V(T(1));
      taps.index[0] = surface_texel(at.positive[0] * at.inverse, at.positive[1] * at.inverse, call.resolution);
      return taps;
    }
    const V base = V(((const T*)call.face_levels)[(int64_t)look.view * call.scene.faces + look.face]);
    return texture_taps(texture, s.attribute[0], s.attribute[1], look.orthographic ? base : pixel_level(base, at.z));
  }

  // The colours of a run's pixels. Calls each(channel, taps, its texel of each tap), before light; gives the taps.
  template <class Each>
  Taps<V> shade(const Look<T>& look, const Point& at, Scratch& s, Each each) const {
    interpolate(look, at, s);
    const int channels = call.texture_channels;
    const T* texels = (const T*)call.texels + first_texel(look) * channels;
    const Taps<V> taps = taps_of(look, at, s);
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

  // The gradients of the attributes at the point, in s.gradient, from those of the colours: plane c of `wanted`, a row
  // apart, times share. Adds those of texels, level and depth; gives the sum of gradient times colour.
  V backward(const Look<T>& look, const Point& at, V share, const T* wanted, int64_t row, Scratch& s, V& level,
             V& by_depth) const {
    const int channels = call.texture_channels;
    int64_t* texel_gradients = call.grad_texels ? call.grad_texels + first_texel(look) * channels : nullptr;
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
    const Taps<V> taps = shade(look, at, s, each);
    if (call.texture == 2) {
      const TextureGradient<V> moved = texture_backward(texture, taps, pull);
      s.gradient[0] = moved.u, s.gradient[1] = moved.v;
      level += moved.level;
      if (!look.orthographic) by_depth += moved.level * pixel_level_slope(at.z);
    }
    for (int c = channels; c < call.channels; c++) {
      const V g = share * load<T>(wanted + c * row);
      s.gradient[first_other() + c - channels] = g;
      total += g * s.colour[c];
    }
    return total;
  }

  void add_texels(int64_t* gradients, I index, V g) const {
    for (int l = 0; l < lanes; l++)
      if (g[l] != 0)
        __atomic_fetch_add(gradients + (int64_t)index[l] * call.texture_channels, (int64_t)(double(g[l]) / call.texel_unit),
                           __ATOMIC_RELAXED);
  }
};

}  // namespace softras::SOFTRAS_ISA
