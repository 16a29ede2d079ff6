// SPDX-License-Identifier: MIT
// What the faces show at the pixels of a run: attributes between the corners, texels, light. With SIMD over the pixels,
// but for texels, which are looked up one by one.
#pragma once
#include "cells.h"
#include "fragment.h"
#include "softras.h"
#include "softras_texture.h"
#include "scene.h"

namespace softras::SOFTRAS_ISA {

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
  Taps<T> taps_of(const Look<T>& look, const Point& at, const Scratch& s, int lane) const {
    if (call.texture == 1) {
      Taps<T> taps = {};
      taps.count = 1, taps.weight[0] = 1;
      taps.index[0] = surface_texel(at.positive[0][lane] * at.inverse[lane], at.positive[1][lane] * at.inverse[lane],
                                    call.resolution);
      return taps;
    }
    const T base = ((const T*)call.face_levels)[(int64_t)look.view * call.scene.faces + look.face];
    const T level = look.orthographic ? base : pixel_level(base, at.z[lane]);
    return texture_taps(texture, s.attribute[0][lane], s.attribute[1][lane], level);
  }

  // The colours of a run's pixels. Calls each(lane, taps, texels) where they are asked for.
  template <class Each>
  void shade(const Look<T>& look, const Point& at, I asked, Scratch& s, Each each) const {
    interpolate(look, at, s);
    const int channels = call.texture_channels;
    for (int c = 0; c < channels; c++) s.colour[c] = V(T(0));
    const T* texels = (const T*)call.texels + first_texel(look) * channels;
    for (int l = 0; l < lanes; l++) {
      if (!asked[l]) continue;
      const Taps<T> taps = taps_of(look, at, s, l);
      for (int c = 0; c < channels; c++) {
        T sum = 0;
        for (int k = 0; k < taps.count; k++) sum += taps.weight[k] * texels[(int64_t)taps.index[k] * channels + c];
        s.colour[c][l] = sum;
      }
      each(l, taps, texels);
    }
    if (call.lit)
      for (int c = 0; c < channels; c++) s.colour[c] *= s.attribute[first_light() + c];
    for (int c = channels; c < call.channels; c++) s.colour[c] = s.attribute[first_other() + c - channels];
  }

  // The gradients of the attributes at the point, in s.gradient, from those of the colours: plane c of `wanted`, a row
  // apart, times share. Adds those of texels, level and depth; gives the sum of gradient times colour.
  V backward(const Look<T>& look, const Point& at, V share, const T* wanted, int64_t row, Scratch& s, V& level,
             V& by_depth) const {
    const int channels = call.texture_channels;
    for (int c = 0; c < first_other(); c++) s.gradient[c] = V(T(0));
    int64_t* texel_gradients = call.grad_texels ? call.grad_texels + first_texel(look) * channels : nullptr;
    shade(look, at, share > T(0), s, [&](int l, const Taps<T>& taps, const T* texels) {
      T pull[8] = {};
      for (int c = 0; c < channels; c++) {
        T g = share[l] * wanted[c * row + l];
        if (call.lit) s.gradient[first_light() + c][l] = g * s.colour[c][l], g *= s.attribute[first_light() + c][l];
        for (int k = 0; k < taps.count; k++) {
          const int64_t texel = (int64_t)taps.index[k] * channels + c;
          pull[k] += g * texels[texel];
          if (texel_gradients)
            __atomic_fetch_add(texel_gradients + texel, (int64_t)(double(g * taps.weight[k]) / call.texel_unit),
                               __ATOMIC_RELAXED);
        }
      }
      if (call.texture != 2) return;
      const TextureGradient<T> moved = texture_backward(texture, taps, pull);
      s.gradient[0][l] = moved.u, s.gradient[1][l] = moved.v;
      level[l] += moved.level;
      if (!look.orthographic) by_depth[l] += moved.level * pixel_level_slope(at.z[l]);
    });
    V total = V(T(0));
    for (int c = 0; c < call.channels; c++) {
      const V g = share * load<T>(wanted + c * row);
      if (c >= channels) s.gradient[first_other() + c - channels] = g;
      total += g * s.colour[c];
    }
    return total;
  }
};

}  // namespace softras::SOFTRAS_ISA
