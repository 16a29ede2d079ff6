// SPDX-License-Identifier: MIT
// Texture lookup, in one copy for every backend. The readable definition is engine/softras/raster/images/textures.py.
//
// A lookup finds texels and their weights, the taps; the renderer adds up the colours of any number of channels:
//
//   Taps<T> taps = texture_taps(texture, u, v, level);
//   colour[c] += taps.weight[k] * texel[taps.index[k] * channels + c]              for k < taps.count
//
// In the backward pass, with g[c] the derivative of the loss L with respect to colour[c]:
//
//   dL/dtexel[taps.index[k] * channels + c] += taps.weight[k] * g[c]
//   pull[k] = sum_c g[c] * texel[taps.index[k] * channels + c]
//   {u, v, level} += texture_backward(texture, taps, pull)
#pragma once
#include "softras_math.h"

namespace softras::SOFTRAS_ISA {

// The operations on numbers that a lookup needs. T is float, double or a SIMD vector of them (simd.h), whose lanes are
// independent lookups.
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

// The whole part of a number, brought into 0..last.
template <class T>
SR_HD Integer<T> part_of(T a, Integer<T> last) {
  const T most = Numbers<T>::convert(last);
  return Numbers<T>::truncate(a > T(0) ? (a < most ? a : most) : T(0));
}

// The texel of a face at the barycentric coordinates b0 and b1. A face has resolution^2 texels, numbered from 0.
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

// How a texture continues beyond its image; in the order of WRAPS in textures.py.
enum Wrap { kRepeat, kClamp, kMirror };

constexpr int kMostLevels = 16;  // levels of a mip chain

// A mip chain of fewer than 2^31 texels, level after level. Level l has max(1, height >> l) rows and max(1, width >> l)
// columns, and offset[l] is its first texel.
struct Texture {
  int height, width, levels, wrap;
  int offset[kMostLevels];
};

// The rows or columns of a level.
template <class I>
SR_HD I level_size(int size, I level) { return max(I(1), I(size) >> level); }

SR_HD Texture texture_of(int height, int width, int levels, int wrap) {
  Texture t = {height, width, levels, wrap, {}};
  for (int l = 1; l < levels; l++) {
    t.offset[l] = t.offset[l - 1] + level_size(height, l - 1) * level_size(width, l - 1);
  }
  return t;
}

// The two texels between whose centres a coordinate of a row or column lies, and the weight of the second one.
template <class T>
struct Neighbours {
  Integer<T> texel[2];
  T weight;
};

// A texel of the row, for a number that may be one before the first or one after the last.
template <class I>
SR_HD I texel_within(I texel, I size, int wrap) {
  if (wrap == kRepeat) return texel < I(0) ? texel + size : texel >= size ? texel - size : texel;
  if (wrap == kMirror) texel = min(texel, 2 * size - 1 - texel);
  return max(I(0), min(texel, size - 1));
}

// The neighbours of the coordinate t, which is 0 at the start of a row of `size` texels and 1 at its end.
template <class T>
SR_HD Neighbours<T> neighbours(T t, Integer<T> size, int wrap) {
  if (wrap == kRepeat) t = t - round_down(t);  // brought near the image first, so that no t makes an integer overflow
  else if (wrap == kMirror) t = t - T(2) * round_down(t / T(2));
  else t = max(T(-1), min(t, T(2)));
  t = ((t >= T(-1)) & (t <= T(2))) ? t : T(0);  // for NaN and infinity, any texel of the image
  const T x = t * Numbers<T>::convert(size) - T(0.5), low = round_down(x);
  const Integer<T> first = Numbers<T>::truncate(low);
  return {{texel_within(first, size, wrap), texel_within(first + 1, size, wrap)}, x - low};
}

// The texels that a lookup reads: four of one level, the upper row first, and, where the level lies between two levels of
// the chain, four of the next one.
template <class T>
struct Taps {
  int count;  // 4 or 8
  Integer<T> index[8];
  T weight[8];
  T right[2], below[2];  // in each level, the weight of the right column and of the lower row
  T above;               // the weight of the second level
  Integer<T> lower;      // the first level
  Condition<T> between;  // whether the level lies within the chain; beyond its ends, the level has no gradient
};

// The taps at texture coordinates u and v, where (0, 0) is the lower left corner of the image.
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

// The gradient with respect to the arguments of texture_taps().
template <class T>
struct TextureGradient {
  T u, v, level;
};

// From pull[k], the derivative of the loss with respect to weight k, the gradient with respect to u, v and level.
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

// The mip level at depth z > 0 of a face whose level at depth 1 is face_level, and its derivative with respect to z. An
// orthographic camera has no use for them: there the level of a face is the same at all depths.
template <class T>
SR_HD T pixel_level(T face_level, T z) { return face_level + T(1.5) * binary_logarithm(z); }
template <class T>
SR_HD T pixel_level_slope(T z) { return T(1.5 * kLog2e) / z; }

}  // namespace softras::SOFTRAS_ISA
