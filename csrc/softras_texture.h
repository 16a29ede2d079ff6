// SPDX-License-Identifier: MIT
// Texture lookup, once, for every backend. engine/softras/raster/images/textures.py is its readable definition.
//
// A lookup gives texels and weights; the kernel adds up colours of any number of channels:
//
//   Taps<T> taps = texture_taps(texture, u, v, level);
//   colour[c] += taps.weight[k] * texel[taps.index[k] * channels + c]              for k < taps.count
//
// and, with dL/dcolour[c] = g[c], in the backward pass
//
//   dL/dtexel[taps.index[k] * channels + c] += taps.weight[k] * g[c]
//   pull[k] = sum_c g[c] * texel[taps.index[k] * channels + c]
//   {u, v, level} += texture_backward(texture, taps, pull)
#pragma once
#include "softras_math.h"

namespace softras::SOFTRAS_ISA {

// T is float, double, or a SIMD vector of them (simd.h), whose lanes are looked up side by side.
template <class T>
struct Numbers {
  typedef int Integer;
  static SR_HD int truncate(T a) { return (int)a; }
  static SR_HD T convert(int a) { return T(a); }
  static SR_HD int entry(const int* table, int i) { return table[i]; }
  static SR_HD bool any(bool a) { return a; }
};
template <class T>
using Integer = typename Numbers<T>::Integer;
template <class T>
using Condition = decltype(T() < T());

#if defined(__CUDACC_RTC__)
SR_HD float round_down(float a) { return floorf(a); }
SR_HD double binary_logarithm(double a) { return log2(a); }
SR_HD float binary_logarithm(float a) { return log2f(a); }
#else
SR_HD float round_down(float a) { return __builtin_floorf(a); }
SR_HD double binary_logarithm(double a) { return __builtin_log2(a); }
SR_HD float binary_logarithm(float a) { return __builtin_log2f(a); }
#endif

// ---------------------------------------------------------------------------------------------- surface texture

// The whole part of a number, within 0..last.
template <class T>
SR_HD Integer<T> part_of(T a, Integer<T> last) {
  const T most = Numbers<T>::convert(last);
  return Numbers<T>::truncate(a > T(0) ? (a < most ? a : most) : T(0));
}

// The texel, 0..R^2 - 1, of a face with R^2 of them at barycentrics b0, b1.
template <class T>
SR_HD Integer<T> surface_texel(T b0, T b1, int resolution) {
  using I = Integer<T>;
  const I last = I(resolution - 1);
  const T a = b0 * T(resolution), b = b1 * T(resolution);
  const I i = part_of(a, last), j = part_of(b, last - i);
  const Condition<T> upper = (a + b - Numbers<T>::convert(i + j) > T(1)) & (i + j < last);
  return upper ? (last - j) * resolution + (last - i) : j * resolution + i;
}

// ---------------------------------------------------------------------------------------------- UV texture

enum Wrap { kRepeat, kClamp, kMirror };  // in the order of WRAPS in textures.py

constexpr int kMostLevels = 16;

// A mip chain: level l has max(1, size >> l) rows and columns; its first texel is offset[l]. Fewer than 2^31 texels.
struct Texture {
  int height, width, levels, wrap;
  int offset[kMostLevels];
};

template <class I>
SR_HD I level_size(int size, I level) { return max(I(1), I(size) >> level); }

SR_HD Texture texture_of(int height, int width, int levels, int wrap) {
  Texture t = {height, width, levels, wrap, {}};
  for (int l = 1; l < levels; l++) {
    t.offset[l] = t.offset[l - 1] + level_size(height, l - 1) * level_size(width, l - 1);
  }
  return t;
}

// The two texels about a coordinate of a row (0 at its start, 1 at its end), and the weight of the second.
template <class T>
struct Neighbours {
  Integer<T> texel[2];
  T weight;
};

template <class I>
SR_HD I texel_within(I texel, I size, int wrap) {
  if (wrap == kRepeat) return texel < I(0) ? texel + size : texel >= size ? texel - size : texel;
  if (wrap == kMirror) texel = min(texel, 2 * size - 1 - texel);
  return max(I(0), min(texel, size - 1));
}

template <class T>
SR_HD Neighbours<T> neighbours(T t, Integer<T> size, int wrap) {
  if (wrap == kRepeat) t = t - round_down(t);  // brought near the image first: no overflow, however far t is
  else if (wrap == kMirror) t = t - T(2) * round_down(t / T(2));
  else t = max(T(-1), min(t, T(2)));
  t = ((t >= T(-1)) & (t <= T(2))) ? t : T(0);  // NaN and infinity: any texel of the image
  const T x = t * Numbers<T>::convert(size) - T(0.5), low = round_down(x);
  const Integer<T> first = Numbers<T>::truncate(low);
  return {{texel_within(first, size, wrap), texel_within(first + 1, size, wrap)}, x - low};
}

// What a lookup reads: four texels of the lower level (the top row first), then, unless that is where the chain begins or
// ends, of the next.
template <class T>
struct Taps {
  int count;  // 4 or 8
  Integer<T> index[8];
  T weight[8];
  T right[2], below[2];  // weights of the right column and the lower row in each level
  T above;               // weight of the second level
  Integer<T> lower;      // the first level
  Condition<T> between;  // two levels; beyond the chain's ends the level has no gradient
};

template <class T>
SR_HD Taps<T> texture_taps(const Texture& texture, T u, T v, T level) {
  Taps<T> taps;
  const int last = texture.levels - 1;
  const T top = T(last), within = level > T(0) ? (level < top ? level : top) : T(0);
  const Integer<T> whole = Numbers<T>::truncate(within);
  taps.between = (level >= T(0)) & (level <= top) & (top > T(0));
  taps.lower = taps.between ? min(whole, Integer<T>(last - 1)) : whole;
  taps.above = within - Numbers<T>::convert(taps.lower);
  taps.count = Numbers<T>::any(taps.between) ? 8 : 4;
  for (int s = 0; s < taps.count / 4; s++) {
    const Integer<T> l = min(taps.lower + s, Integer<T>(last)), width = level_size(texture.width, l);
    const Neighbours<T> x = neighbours(u, width, texture.wrap);
    const Neighbours<T> y = neighbours(T(1) - v, level_size(texture.height, l), texture.wrap);
    const T share = s == 0 ? T(1) - taps.above : taps.above;
    for (int k = 0; k < 4; k++) {
      const int row = k / 2, column = k % 2;
      taps.index[4 * s + k] = Numbers<T>::entry(texture.offset, l) + y.texel[row] * width + x.texel[column];
      taps.weight[4 * s + k] = share * (row ? y.weight : T(1) - y.weight) * (column ? x.weight : T(1) - x.weight);
    }
    taps.right[s] = x.weight, taps.below[s] = y.weight;
  }
  return taps;
}

template <class T>
struct TextureGradient {
  T u, v, level;
};

// From pull[k], the gradient to weight k: the gradient to what texture_taps() was given.
template <class T>
SR_HD TextureGradient<T> texture_backward(const Texture& texture, const Taps<T>& taps, const T* pull) {
  TextureGradient<T> g = {T(0), T(0), T(0)};
  for (int s = 0; s < taps.count / 4; s++) {
    const T *p = pull + 4 * s, right = taps.right[s], below = taps.below[s];
    const T share = s == 0 ? T(1) - taps.above : taps.above;
    const T top = p[0] + right * (p[1] - p[0]), bottom = p[2] + right * (p[3] - p[2]);
    const Integer<T> l = min(taps.lower + s, Integer<T>(texture.levels - 1));
    const T width = Numbers<T>::convert(level_size(texture.width, l));
    const T height = Numbers<T>::convert(level_size(texture.height, l));
    g.u += share * width * ((T(1) - below) * (p[1] - p[0]) + below * (p[3] - p[2]));
    g.v -= share * height * (bottom - top);
    const T across = top + below * (bottom - top);
    g.level += taps.between ? (s == 0 ? -across : across) : T(0);
  }
  return g;
}

// The mip level at depth z > 0 on a face, and with respect to z its derivative; without perspective the face's, and 0.
template <class T>
SR_HD T pixel_level(T face_level, T z) { return face_level + T(1.5) * binary_logarithm(z); }
template <class T>
SR_HD T pixel_level_slope(T z) { return T(1.5 * kLog2e) / z; }

}  // namespace softras::SOFTRAS_ISA
