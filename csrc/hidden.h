// SPDX-License-Identifier: MIT
// What hides faces from view: they are drawn from front to back, and those behind all that is seen in the tiles that they
// reach give no colour.
#pragma once
#include "scene.h"

namespace softras::SOFTRAS_ISA {

// Faces in the order of a number: from front to back by order_of_depth(), to about a percent, which is enough for what
// hides others to come first. Where it is the same, they keep their order.
struct FaceOrder {
  static constexpr int kKeys = 1024;
  Buffer<int32_t> faces, keys;
  int64_t count = 0;

  bool reserve(int64_t most) { return faces.reserve(most) && keys.reserve(most); }

  // number(f): of each face, within least and greatest, which must not depend on the faces left out, those of less than
  // 0; so the others come in the same order in every band.
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

// The farthest depth that is seen in each tile of an image.
template <class T>
struct Tiles {
  static constexpr T kUnknown = -T(__builtin_inf());
  int64_t across = 0;
  Buffer<T> farthest;

  bool reserve(int height, int width) {
    across = (width + kStrip - 1) / kStrip;
    return farthest.reserve(across * ((height + kStrip - 1) / kStrip));
  }

  // Calls each(x, y, farthest depth) for the tiles that a rectangle meets, (x, y) their first pixel, until one gives false:
  // whether none did.
  template <class Each>
  bool all(const Rect& r, Each each) {
    if (r.y0 > r.y1) return true;
    for (int y = r.y0 / kStrip; y <= r.y1 / kStrip; y++)
      for (int x = r.x0 / kStrip; x <= r.x1 / kStrip; x++)
        if (!each(x * kStrip, y * kStrip, farthest[y * across + x])) return false;
    return true;
  }
  void forget(const Rect& r) {
    all(r, [](int, int, T& depth) { return depth = kUnknown, true; });
  }

  // Whether all that is seen in them is nearer than `limit`. find(x, y, limit): the farthest depth in a tile that is not
  // known, or the limit where that is not nearer.
  template <class Find>
  bool hide(const Rect& r, T limit, Find find) {
    return all(r, [&](int x, int y, T& depth) {
      if (depth != kUnknown) return depth < limit;
      const T found = find(x, y, limit);
      if (found < limit) depth = found;
      return found < limit;
    });
  }
  bool hide(const Rect& r, T limit) {
    return all(r, [&](int, int, T& depth) { return depth < limit; });
  }
};

}  // namespace softras::SOFTRAS_ISA
