// SPDX-License-Identifier: MIT
// Texture lookup, once, for every backend. engine/softras/raster/textures.py is its readable definition.
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

// The texel, 0..R^2 - 1, of a face with R^2 of them at barycentrics b0, b1.
template <class T>
SR_HD int surface_texel(T b0, T b1, int resolution) {
  const int last = resolution - 1;
  const T a = b0 * resolution, b = b1 * resolution;
  const int i = a > 0 ? (a < last ? (int)a : last) : 0;
  const int j = b > 0 ? (b < last - i ? (int)b : last - i) : 0;
  const bool upper = a + b - (i + j) > 1 && i + j < last;
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

SR_HD int level_size(int size, int level) { return max(1, size >> level); }

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
  int texel[2];
  T weight;
};

SR_HD int texel_within(int texel, int size, int wrap) {
  if (wrap == kRepeat) return texel < 0 ? texel + size : texel >= size ? texel - size : texel;
  if (wrap == kMirror) texel = min(texel, 2 * size - 1 - texel);
  return max(0, min(texel, size - 1));
}

template <class T>
SR_HD Neighbours<T> neighbours(T t, int size, int wrap) {
  if (wrap == kRepeat) t = t - round_down(t);  // brought near the image first: no overflow, however far t is
  else if (wrap == kMirror) t = t - 2 * round_down(t / 2);
  else t = max(T(-1), min(t, T(2)));
  if (!(t >= -1 && t <= 2)) t = 0;  // NaN and infinity: any texel of the image
  const T x = t * size - T(0.5), low = round_down(x);
  const int first = (int)low;
  return {{texel_within(first, size, wrap), texel_within(first + 1, size, wrap)}, x - low};
}

// What a lookup reads: four texels of the lower level (the top row first), then, unless that is where the chain begins or
// ends, of the next.
template <class T>
struct Taps {
  int count;  // 4 or 8
  int index[8];
  T weight[8];
  T right[2], below[2];  // weights of the right column and the lower row in each level
  T above;               // weight of the second level
  int lower;             // the first level
};

template <class T>
SR_HD Taps<T> texture_taps(const Texture& texture, T u, T v, T level) {
  Taps<T> taps;
  const T top = texture.levels - 1, within = level > 0 ? (level < top ? level : top) : T(0);
  const bool between = texture.levels > 1 && level >= 0 && level <= top;  // beyond, the level has no gradient
  taps.lower = between ? min((int)within, texture.levels - 2) : (int)within;
  taps.above = within - taps.lower;
  taps.count = between ? 8 : 4;
  for (int s = 0; s < taps.count / 4; s++) {
    const int l = taps.lower + s, width = level_size(texture.width, l);
    const Neighbours<T> x = neighbours(u, width, texture.wrap);
    const Neighbours<T> y = neighbours(1 - v, level_size(texture.height, l), texture.wrap);
    const T share = s == 0 ? 1 - taps.above : taps.above;
    for (int k = 0; k < 4; k++) {
      const int row = k / 2, column = k % 2;
      taps.index[4 * s + k] = texture.offset[l] + y.texel[row] * width + x.texel[column];
      taps.weight[4 * s + k] = share * (row ? y.weight : 1 - y.weight) * (column ? x.weight : 1 - x.weight);
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
  TextureGradient<T> g = {0, 0, 0};
  for (int s = 0; s < taps.count / 4; s++) {
    const T *p = pull + 4 * s, right = taps.right[s], below = taps.below[s];
    const T share = s == 0 ? 1 - taps.above : taps.above;
    const T top = p[0] + right * (p[1] - p[0]), bottom = p[2] + right * (p[3] - p[2]);
    const int l = taps.lower + s;
    g.u += share * level_size(texture.width, l) * ((1 - below) * (p[1] - p[0]) + below * (p[3] - p[2]));
    g.v -= share * level_size(texture.height, l) * (bottom - top);
    if (taps.count == 8) g.level += (s == 0 ? -1 : 1) * (top + below * (bottom - top));
  }
  return g;
}

// The mip level at depth z > 0 on a face, and with respect to z its derivative; without perspective the face's, and 0.
template <class T>
SR_HD T pixel_level(T face_level, T z) { return face_level + T(1.5) * binary_logarithm(z); }
template <class T>
SR_HD T pixel_level_slope(T z) { return T(1.5 * kLog2e) / z; }

}  // namespace softras::SOFTRAS_ISA
