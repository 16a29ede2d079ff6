// SPDX-License-Identifier: MIT
// Hidden faces. Faces are drawn from front to back, and a face that lies behind everything that is seen in the tiles of the
// image where it may change pixels gives these pixels no colour.
#pragma once
#include "scene.h"

namespace softras::SOFTRAS_ISA {

// Faces sorted by a number, in kKeys classes; faces of one class keep their order. With order_of_depth() as the number they
// are sorted from front to back, to about a percent of their depth, which suffices for most of the hiding faces to come
// before those that they hide.
struct FaceOrder {
  static constexpr int kKeys = 1024;
  Buffer<int32_t> faces, keys;
  int64_t count = 0;

  bool reserve(int64_t most) { return faces.reserve(most) && keys.reserve(most); }

  // Sorts faces f = 0 .. most - 1 by number(f) and leaves out those whose number is negative. `least` and `greatest` bound
  // the numbers. They must not depend on which faces are left out, so that the order is the same in every band of rows.
  template <class Number>
  void sort(int64_t most, int32_t least, int32_t greatest, Number number) {
    const double scale = (kKeys - 1) / max((double)greatest - least, 1.0);
    int64_t end[kKeys + 1] = {};
    for (int64_t f = 0; f < most; f++) {
      const int32_t n = number(f);
      keys[f] = n < 0 ? -1 : (int32_t)(max(min(n, greatest) - (double)least, 0.0) * scale);
      if (keys[f] >= 0) end[1 + keys[f]]++;
    }
    for (int k = 0; k < kKeys; k++) end[k + 1] += end[k];
    count = end[kKeys];
    for (int64_t f = 0; f < most; f++)
      if (keys[f] >= 0) faces[end[keys[f]]++] = (int32_t)f;
  }
};

// The farthest depth that is seen in each tile of kStrip x kStrip pixels of an image.
template <class T>
struct Tiles {
  static constexpr T kUnknown = -T(__builtin_inf());  // stands for a depth that has to be found anew
  int64_t across = 0;                                 // tiles in a row
  Buffer<T> farthest;

  bool reserve(int height, int width) {
    across = (width + kStrip - 1) / kStrip;
    return farthest.reserve(across * ((height + kStrip - 1) / kStrip));
  }

  // Calls each(x, y, farthest depth) for the tiles that a rectangle meets, where (x, y) is the first pixel of a tile, until
  // a call returns false. Returns whether all calls returned true.
  template <class Each>
  bool all(const Rect& r, Each each) {
    if (r.y0 > r.y1) return true;
    for (int y = r.y0 / kStrip; y <= r.y1 / kStrip; y++)
      for (int x = r.x0 / kStrip; x <= r.x1 / kStrip; x++)
        if (!each(x * kStrip, y * kStrip, farthest[y * across + x])) return false;
    return true;
  }
  // The depths in the tiles of a rectangle have changed.
  void forget(const Rect& r) {
    all(r, [](int, int, T& depth) { return depth = kUnknown, true; });
  }

  // Whether everything that is seen in the tiles of a rectangle is nearer than `limit`. Where the farthest depth of a tile
  // is not known, find(x, y, limit) gives it, or gives `limit` if the depth is no less.
  template <class Find>
  bool hide(const Rect& r, T limit, Find find) {
    return all(r, [&](int x, int y, T& depth) {
      if (depth != kUnknown) return depth < limit;
      const T found = find(x, y, limit);
      if (found < limit) depth = found;
      return found < limit;
    });
  }
  // The same where the depths of all tiles are known.
  bool hide(const Rect& r, T limit) {
    return all(r, [&](int, int, T& depth) { return depth < limit; });
  }
};

}  // namespace softras::SOFTRAS_ISA
