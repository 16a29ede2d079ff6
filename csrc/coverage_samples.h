// SPDX-License-Identifier: MIT
// Coverage by samples, for a band of rows where contour edges are so many that the order of them would cost more than
// drawing all faces: a heap of unconnected triangles. Every pixel has kSide x kSide samples, one bit each; faces set the
// bits of their spans. The outline, for the derivatives, is where a contour edge passes between a sample that is set and
// one that is not.
#pragma once
#include <string.h>

#include "coverage.h"
#include "memory.h"

namespace softras::SOFTRAS_ISA {

constexpr int kSide = 8;  // samples of a pixel each way: a row of a pixel's samples is one byte

// The samples of a band: rows * kSide lines of `width` bytes each.
struct Samples {
  int width, first_row, last_row;
  Buffer<uint8_t> bits;

  bool reserve() { return bits.reserve(bytes() + 8); }
  int64_t bytes() const { return (int64_t)(last_row - first_row) * kSide * width; }
  void clear() { memset(bits.data, 0, bytes() + 8); }
  uint8_t* line(int64_t l) const { return bits.data + l * width; }

  // The height of a line of samples.
  double height_of(int64_t l) const { return first_row + (l + 0.5) / kSide; }

  // Samples begin <= x < end of a line, in samples.
  static void fill(uint8_t* line, int64_t begin, int64_t end) {
    if (begin >= end) return;
    const int64_t first = begin / kSide, last = (end - 1) / kSide;
    const uint8_t left = uint8_t(0xff << begin % kSide), right = uint8_t(0xff >> (kSide - 1 - (end - 1) % kSide));
    if (first == last) {
      line[first] |= left & right;
      return;
    }
    line[first] |= left;
    for (int64_t i = first + 1; i < last; i++) line[i] = 0xff;
    line[last] |= right;
  }

  // Draws a convex polygon of 3 or 4 corners in pixels.
  void draw(const Vec2* q, int n) const {
    draw(q[0], q[1], q[2]);
    if (n == 4) draw(q[0], q[2], q[3]);
  }

  void draw(Vec2 a, Vec2 b, Vec2 c) const {
    if (b.y < a.y) swap(a, b);
    if (c.y < a.y) swap(a, c);
    if (c.y < b.y) swap(b, c);
    const double whole = slope_of(a, c), upper = slope_of(a, b), lower = slope_of(b, c);
    const int64_t middle = line_from(b.y);
    span(a, whole, a, upper, line_from(a.y), middle);
    span(a, whole, b, lower, middle, line_from(c.y));
  }

  static void swap(Vec2& a, Vec2& b) {
    const Vec2 old = a;
    a = b, b = old;
  }
  static double slope_of(Vec2 a, Vec2 b) { return b.y > a.y ? (b.x - a.x) / (b.y - a.y) : 0; }

  // The first line at y or below it, within the band.
  int64_t line_from(double y) const {
    const double l = round_up((y - first_row) * kSide - 0.5), lines = (double)(last_row - first_row) * kSide;
    return (int64_t)min(max(l, 0.0), lines);
  }

  // Lines begin <= l < end between two edges, each through a point with a slope dx / dy.
  void span(Vec2 p, double slope_p, Vec2 q, double slope_q, int64_t begin, int64_t end) const {
    if (begin >= end) return;
    // In samples, which lie at whole numbers + 1/2: x of both edges on the first line, and what a line adds to it.
    const double y = height_of(begin), most = (double)width * kSide;
    double x = (p.x + (y - p.y) * slope_p) * kSide - 0.5, z = (q.x + (y - q.y) * slope_q) * kSide - 0.5;
    for (int64_t l = begin; l < end; l++, x += slope_p, z += slope_q) {
      const double low = min(max(min(x, z), 0.0), most), high = min(max(max(x, z), 0.0), most);
      fill(line(l), up(low), up(high));
    }
  }

  // The least whole number that is not below x >= 0.
  static int64_t up(double x) {
    const int64_t down = (int64_t)x;
    return down + ((double)down < x);
  }

  bool set(int64_t l, int64_t sample) const { return line(l)[sample / kSide] >> sample % kSide & 1; }

  // The parts of a contour edge on the outline, walked in steps of a sample from top to bottom, or from left to right
  // where it is wider than high. Calls piece(pixel row, column, t at the upper end, at the lower, side as in Piece).
  template <class Found>
  void outline(const Contour& c, Found piece) const {
    const double top = max(c.y[0], (double)first_row), bottom = min(c.y[1], (double)last_row);
    if (!(top < bottom)) return;
    if (c.steep) {
      const int64_t end = (int64_t)round_up((bottom - first_row) * kSide - 0.5);
      for (int64_t l = (int64_t)round_up((top - first_row) * kSide - 0.5); l < end; l++) {
        const double y = height_of(l), x = x_at(c, y);
        if (!(x > 0 && x < width)) continue;
        const double h = 0.5 / kSide;
        if (const int s = side(l, x))
          piece(first_row + (int)(l / kSide), (int)x, t_at(c, 0, max(y - h, c.y[0])), t_at(c, 0, min(y + h, c.y[1])), s);
      }
      return;
    }
    const double xa = x_at(c, top), xb = x_at(c, bottom), low = max(min(xa, xb), 0.0), high = min(max(xa, xb), (double)width);
    const int64_t end = (int64_t)round_up(high * kSide - 0.5);
    const double least = min(c.x[0], c.x[1]), most = max(c.x[0], c.x[1]), h = 0.5 / kSide;
    const int down = c.slope > 0 ? 1 : -1;  // to the right the edge goes down
    for (int64_t i = (int64_t)round_up(low * kSide - 0.5); i < end; i++) {
      const double x = (i + 0.5) / kSide, y = c.y[0] + (x - c.x[0]) / c.slope;
      if (!(y > first_row && y < last_row)) continue;
      const int s = below(i, y);  // what lies above it is to its right where it goes down to the right
      const double ta = t_at(c, max(x - h, least), 0), tb = t_at(c, min(x + h, most), 0);
      if (s) piece((int)y, (int)(i / kSide), min(ta, tb), max(ta, tb), -s * down);
    }
  }

  // As `side` for samples above and below y: 1 where the silhouette lies below.
  int below(int64_t sample, double y) const {
    const int64_t lower = (int64_t)round_up((y - first_row) * kSide - 0.5), upper = lower - 1;
    const bool l = lower >= 0 && lower < (int64_t)(last_row - first_row) * kSide && set(lower, sample);
    const bool u = upper >= 0 && upper < (int64_t)(last_row - first_row) * kSide && set(upper, sample);
    return l == u ? 0 : l ? 1 : -1;
  }

  // Whether the silhouette's outline passes between the samples left and right of x on a line; side: 1 where it lies to
  // the right of x, -1 to the left, 0 for no.
  int side(int64_t l, double x) const {
    const int64_t right = (int64_t)round_up(x * kSide - 0.5), left = right - 1;
    const bool r = right >= 0 && right < (int64_t)width * kSide && set(l, right);
    const bool s = left >= 0 && left < (int64_t)width * kSide && set(l, left);
    return r == s ? 0 : r ? 1 : -1;
  }

  // (pixel row y) the number of samples set in each pixel of a row, given to value(x, count).
  template <class Value>
  void count_row(int row, Value value) const {
    const uint8_t* top = line((int64_t)(row - first_row) * kSide);
    for (int64_t x = 0; x < width; x++) {
      uint64_t all = 0;
      for (int l = 0; l < kSide; l++) all |= (uint64_t)top[(int64_t)l * width + x] << 8 * l;
      value(x, __builtin_popcountll(all));
    }
  }
};

}  // namespace softras::SOFTRAS_ISA
