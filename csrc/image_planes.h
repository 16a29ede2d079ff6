// SPDX-License-Identifier: MIT
// The pixels of an image while its faces are drawn, and while its gradient is taken to the faces: how they lie in memory,
// how they begin, and how they become the outputs.
//
// An image in memory has, for each row of pixels, `planes` rows of padded pixels. In the forward pass these planes are the
// product of 1 + 2^x, the least depth, the sum of weights, the weighted sum of each channel and, if the nearest faces are
// asked for, the least depth and the number of the faces that cover the pixel's centre. In the backward pass, with L the
// loss, they are dL/dx divided by the coverage D (plain modes) or dL/dalpha (others), the least depth, the sum over the
// channels of gradient times image, and the gradient of each channel, the last two divided by the sum of weights.
//
// plain: the modes are SoftRas's own, see softras_image_call.
#pragma once
#include "appearance.h"
#include "softras_modes.h"

namespace softras::SOFTRAS_ISA {

template <class T, bool plain>
struct ImagePlanes : Appearance<T> {
  using C = Cells<T>;
  using V = typename C::V;
  using I = typename C::I;
  static constexpr int lanes = C::lanes;
  enum Plane { kProduct, kDepth, kWeight, kChannels };
  enum BackwardPlane { kAlpha, kLeast, kMean, kGradients };
  using Appearance<T>::call;

  const int64_t row, planes;     // numbers in a padded row; padded rows for each row of pixels
  const int64_t covering, face;  // where, from a pixel's first plane, the depth and number of its nearest face are

  explicit ImagePlanes(const softras_image_call& c)
      : Appearance<T>(c), row(c.scene.width + lanes), planes(kChannels + c.channels + (c.nearest ? 2 : 1)),
        covering((kChannels + c.channels) * row), face(covering + row) {}

  // grad_image of a view, the pixels of one channel, and the background of a view.
  const T* gradient_of(int view) const { return (const T*)call.grad_image + (int64_t)view * call.channels * size(); }
  int64_t size() const { return (int64_t)call.scene.height * call.scene.width; }
  const T* background(int view) const { return (const T*)call.background + (int64_t)view * call.channels; }

  // Prepares the pixels that faces may change: only the background is there, with weight 1. `fold` has, for each row of
  // pixels, a row of S (softras_modes.h) and a row of the number of the first face with the largest coverage.
  void clear(int view, const Blend& blend, const Rect& affected, T* image, double* fold) const {
    for (int64_t y = affected.y0; y <= affected.y1; y++) {
      T* line = image + y * planes * row;
      const auto fill = [&](int64_t plane, T value) {
        for (int64_t x = affected.x0; x <= affected.x1 + lanes; x++) line[plane * row + x] = value;
      };
      fill(kProduct, T(1)), fill(kDepth, T(blend.background)), fill(kWeight, T(1));
      fill_padding(line + kDepth * row, affected, -T(__builtin_inf()));  // the padding never is the farthest
      for (int c = 0; c < call.channels; c++) fill(kChannels + c, background(view)[c]);
      if (call.nearest) {
        fill(covering / row, T(__builtin_inf()));
        memset(line + face + affected.x0, 0xff, (affected.x1 + lanes + 1 - affected.x0) * sizeof(T));
      }
      if constexpr (!plain) {
        double *state = fold + 2 * y * row, *largest = state + row;
        for (int64_t x = affected.x0; x <= affected.x1 + lanes; x++) state[x] = 0, largest[x] = -1;
      }
    }
  }
  // Fills the numbers of a padded row behind its last pixel.
  static void fill_padding(T* line, const Rect& affected, T value) {
    for (int64_t x = affected.x1 + 1; x <= affected.x1 + lanes; x++) line[x] = value;
  }

  // Writes the outputs of some rows. Beside the pixels that faces may change they are those of the background.
  void finish(int view, const Blend& blend, Share rows, const Rect& affected, T* image, const double* fold) const {
    for (int64_t y = rows.begin; y < rows.end; y++) {
      T* line = image + y * planes * row;
      const int64_t width = call.scene.width, out = (int64_t)view * size() + y * width;
      const auto finish_row = [&](auto* values, auto beside, auto value) {
        fill_row(values, width, y, affected, beside, value);
      };
      T *alpha = (T*)call.scene.alpha + out, *weight = (T*)call.weight + out;
      finish_row((T*)call.depth + out, T(blend.background), [&](int64_t x) { return line[kDepth * row + x]; });
      finish_row(weight, T(1), [&](int64_t x) { return line[kWeight * row + x]; });
      if constexpr (plain) {
        T* transmittance = (T*)call.scene.transmittance + out;
        finish_row(transmittance, T(1), [&](int64_t x) { return T(1) / line[x]; });
        finish_row(alpha, T(0), [&](int64_t x) { return T(1) - transmittance[x]; });
      } else {
        const double *folded = fold + 2 * y * row, *state = conorm_is_largest(call.conorm) ? folded + row : folded;
        finish_row((double*)call.scene.transmittance + out, conorm_is_largest(call.conorm) ? -1.0 : 0.0,
                   [&](int64_t x) { return state[x]; });
        const auto opacity = [&](double s) { return conorm_opacity<T>(call.conorm, call.power, s).alpha; };
        finish_row(alpha, opacity(0.0), [&](int64_t x) { return opacity(folded[x]); });
      }
      for (int c = 0; c < call.channels; c++) {
        const T* sum = line + (kChannels + c) * row;
        finish_row((T*)call.image + ((int64_t)view * call.channels + c) * size() + y * width, background(view)[c],
                   [&](int64_t x) { return sum[x] / weight[x]; });
      }
      if (call.nearest) finish_row(call.nearest + out, int32_t(-1), [&](int64_t x) {
        decltype(I()[0] + 0) number;
        memcpy(&number, line + face + x, sizeof(T));
        return (int32_t)number;
      });
    }
  }

  // Fills the planes of the backward pass at the pixels that faces may change; the padding has no gradient.
  void load_gradients(int view, const Rect& affected, T* image, double* fold) const {
    for (int64_t y = affected.y0; y <= affected.y1; y++) {
      T* line = image + y * planes * row;
      const int64_t begin = affected.x0, end = affected.x1 + 1, in = (int64_t)view * size() + y * call.scene.width;
      const T *alpha = (const T*)call.scene.grad_alpha + in, *weight = (const T*)call.weight + in;
      for (int plane = 0; plane < kGradients + call.channels; plane++)
        fill_padding(line + plane * row, affected, plane == kLeast ? -T(__builtin_inf()) : T(0));
      for (int64_t x = begin; x < end; x++) {
        line[kLeast * row + x] = ((const T*)call.depth)[in + x];
        line[kMean * row + x] = T(0);
        if constexpr (plain) {
          const T left = ((const T*)call.scene.transmittance)[in + x];
          line[x] = left * kSaturated<T> > T(1) ? T(kLn2) * left * alpha[x] : T(0);
        } else {
          line[x] = alpha[x];
          fold[2 * y * row + x] = ((const double*)call.scene.transmittance)[in + x];
        }
      }
      for (int c = 0; c < call.channels; c++) {
        const int64_t channel = c * size() + y * call.scene.width;
        const T *g = gradient_of(view) + channel, *value = (const T*)call.image + (int64_t)view * call.channels * size() + channel;
        T *mean = line + kMean * row, *gradient = line + (kGradients + c) * row;
        for (int64_t x = begin; x < end; x++) gradient[x] = g[x] / weight[x], mean[x] += gradient[x] * value[x];
      }
    }
  }

  // The farthest depth in plane `which` of the tile whose first pixel is (x, y), or `limit` if that depth is no less.
  T farthest(const T* image, int64_t which, int x, int y, T limit) const {
    V far = V(-T(__builtin_inf()));
    for (int64_t i = y; i < min(y + kStrip, call.scene.height); i++) {
      for (int64_t j = x; j < min(x + kStrip, call.scene.width); j += lanes) {
        far = max(far, load<T>(image + (i * planes + which) * row + j));
        if (any_lane<T>(far >= limit)) return limit;
      }
    }
    return __builtin_reduce_max(far);
  }
  // The farthest depth that the forward pass has drawn, and the one that the backward pass starts from.
  T farthest_drawn(const T* image, int x, int y, T limit) const {
    const T seen = farthest(image, kDepth, x, y, limit);
    return call.nearest && seen < limit ? max(seen, farthest(image, covering / row, x, y, limit)) : seen;
  }
  T farthest_wanting(const T* image, int x, int y) const { return farthest(image, kLeast, x, y, T(__builtin_inf())); }
};

}  // namespace softras::SOFTRAS_ISA
