// SPDX-License-Identifier: MIT
// Coverage by samples, for a band of rows with so many contour edges that sorting them would take longer than drawing all
// faces, as in a heap of unconnected triangles. Each pixel has kSide x kSide samples of one bit, and each face sets the
// bits that it covers. For the derivatives, a contour edge is on the outline of the silhouette where it passes between a
// sample that is set and one that is not.
#pragma once
#include <string.h>

#include "coverage.h"
#include "memory.h"

namespace softras::SOFTRAS_ISA {

constexpr int kSide = 8;  // samples in each row and column of a pixel: a row of samples of a pixel is one byte

// The samples of a band of rows first_row <= row < last_row: kSide lines of `width` bytes for each row.
struct Samples {
  int width, first_row, last_row;
  Buffer<uint8_t> bits;
  Buffer<uint64_t> full;  // for each row a bit for each pixel all of whose samples are set, as far as find_full() has seen

  // Makes room for the samples. False: there is no memory.
  bool reserve() { return bits.reserve(bytes() + 8) && full.reserve((last_row - first_row) * words()); }
  int64_t bytes() const { return (int64_t)(last_row - first_row) * kSide * width; }
  int64_t words() const { return (width + 63) / 64; }  // of `full` in a row
  void clear() {
    memset(bits.data, 0, bytes() + 8);
    zero(full.data, (last_row - first_row) * words());
  }

  // Finds the pixels all of whose samples are set. What is behind them can be left out.
  void find_full() {
    constexpr uint64_t kLow = 0x7f7f7f7f7f7f7f7f, kGather = 0x0102040810204080;
    zero(full.data, (last_row - first_row) * words());
    for (int64_t row = 0; row < last_row - first_row; row++)
      for (int64_t x = 0; x < width; x += 8) {
        uint64_t all = ~uint64_t(0), line8;
        for (int l = 0; l < kSide; l++) memcpy(&line8, line(row * kSide + l) + x, 8), all &= line8;
        const uint64_t open = ~all, ones = ~(((open & kLow) + kLow) | open | kLow) >> 7;  // 1 in each byte that is 0xff
        full[row * words() + x / 64] |= (ones * kGather >> 56) << x % 64;
      }
  }

  // Whether all samples of pixels first <= x <= last of a row of the band are set. What is outside counts as set.
  bool is_full(int64_t row, int64_t first, int64_t last) const {
    if (row < 0 || row >= last_row - first_row) return true;
    first = max(first, int64_t(0)), last = min(last, int64_t(width - 1));
    for (int64_t w = first / 64; w <= last / 64 && first <= last; w++) {
      uint64_t wanted = ~uint64_t(0);
      if (w == first / 64) wanted &= ~uint64_t(0) << first % 64;
      if (w == last / 64) wanted &= ~uint64_t(0) >> (63 - last % 64);
      if (wanted & ~full[row * words() + w]) return false;
    }
    return true;
  }
  uint8_t* line(int64_t l) const { return bits.data + l * width; }

  // The y of a line of samples, in pixels.
  double height_of(int64_t l) const { return first_row + (l + 0.5) / kSide; }

  // Sets samples begin <= i < end of a line.
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

  // Draws a triangle.
  void draw(Vec2 a, Vec2 b, Vec2 c) const {
    if (b.y < a.y) swap(a, b);
    if (c.y < a.y) swap(a, c);
    if (c.y < b.y) swap(b, c);
    const double whole = slope_of(a, c), upper = slope_of(a, b), lower = slope_of(b, c);
    const int64_t middle = line_from(b.y);
    const double most = width;
    const int64_t first = (int64_t)min(max(min(min(a.x, b.x), c.x), 0.0), most);
    const int64_t last = (int64_t)min(max(max(max(a.x, b.x), c.x), 0.0), most);
    span(a, whole, a, upper, line_from(a.y), middle, first, last);
    span(a, whole, b, lower, middle, line_from(c.y), first, last);
  }

  static void swap(Vec2& a, Vec2& b) {
    const Vec2 old = a;
    a = b, b = old;
  }
  // dx / dy of an edge from a down to b.
  static double slope_of(Vec2 a, Vec2 b) { return b.y > a.y ? (b.x - a.x) / (b.y - a.y) : 0; }

  // The first line of the band at height y or below.
  int64_t line_from(double y) const {
    const double l = round_up((y - first_row) * kSide - 0.5), lines = (double)(last_row - first_row) * kSide;
    return (int64_t)min(max(l, 0.0), lines);
  }

  // Sets the samples between two edges in lines begin <= l < end. One edge passes through p, the other through q, with
  // slopes dx / dy; between them lie pixels first <= x <= last at most.
  void span(Vec2 p, double slope_p, Vec2 q, double slope_q, int64_t begin, int64_t end, int64_t first, int64_t last) const {
    if (begin >= end) return;
    // x and z are where the edges cross the line, in samples, so that sample i lies at i; from one line to the next they
    // grow by the slope.
    const double y = height_of(begin), most = (double)width * kSide;
    double x = (p.x + (y - p.y) * slope_p) * kSide - 0.5, z = (q.x + (y - q.y) * slope_q) * kSide - 0.5;
    for (int64_t l = begin; l < end; l++, x += slope_p, z += slope_q) {
      if ((l == begin || l % kSide == 0) && is_full(l / kSide, first, last)) {
        const int64_t skipped = min(l / kSide * kSide + kSide, end) - l - 1;  // the rest of the row
        l += skipped, x += skipped * slope_p, z += skipped * slope_q;
        continue;
      }
      const double low = min(max(min(x, z), 0.0), most), high = min(max(max(x, z), 0.0), most);
      fill(line(l), up(low), up(high));
    }
  }

  // The least whole number that is not less than x, which is at least 0.
  static int64_t up(double x) {
    const int64_t down = (int64_t)x;
    return down + ((double)down < x);
  }

  // Whether a sample of line l is set.
  bool set(int64_t l, int64_t sample) const { return line(l)[sample / kSide] >> sample % kSide & 1; }

  // Finds the parts of a contour edge that are on the outline, in steps of one sample: from top to bottom if the edge is
  // steep, else from left to right. Calls piece(row, column, least t, greatest t, side) for each step on the outline, where
  // side is that of weigh_piece(). Rows in which the edge lies behind full pixels are left out; find_full() comes before.
  template <class Found>
  void outline(const Contour& c, Found piece) const {
    const double top = max(c.y[0], (double)first_row), bottom = min(c.y[1], (double)last_row);
    if (!(top < bottom)) return;
    const double least = min(c.x[0], c.x[1]), most = max(c.x[0], c.x[1]), h = 0.5 / kSide;
    const int down = c.slope > 0 ? 1 : -1;  // 1 if the edge goes down to the right
    for (int row = (int)top; row < bottom; row++) {
      const double ya = max(top, (double)row), yb = min(bottom, row + 1.0);
      const double xa = min(max(x_at(c, ya), least), most), xb = min(max(x_at(c, yb), least), most);
      const double low = max(min(xa, xb), 0.0), high = min(max(xa, xb), (double)width);
      if (!(low <= high)) continue;
      const int64_t at = row - first_row, first = (int64_t)low - 1, last = (int64_t)high + 1;
      if (is_full(at - 1, first, last) && is_full(at, first, last) && is_full(at + 1, first, last)) continue;
      if (c.steep) {
        const int64_t end = (int64_t)round_up((yb - first_row) * kSide - 0.5);
        for (int64_t l = (int64_t)round_up((ya - first_row) * kSide - 0.5); l < end; l++) {
          const double y = height_of(l), x = x_at(c, y);
          if (!(x > 0 && x < width)) continue;
          if (const int s = side(l, x)) piece(row, (int)x, t_at(c, 0, max(y - h, c.y[0])), t_at(c, 0, min(y + h, c.y[1])), s);
        }
        continue;
      }
      const int64_t end = (int64_t)round_up(high * kSide - 0.5);
      for (int64_t i = (int64_t)round_up(low * kSide - 0.5); i < end; i++) {
        const double x = (i + 0.5) / kSide, y = min(max(c.y[0] + (x - c.x[0]) / c.slope, ya), yb);
        const int s = below(i, y);  // of an edge that goes down to the right, what is above it is to its right
        const double ta = t_at(c, max(x - h, least), 0), tb = t_at(c, min(x + h, most), 0);
        if (s) piece(row, (int)(i / kSide), min(ta, tb), max(ta, tb), -s * down);
      }
    }
  }

  // Whether the outline passes between the samples above and below y in a column of samples: 1 if the silhouette lies
  // below, -1 if it lies above, 0 if the outline does not pass.
  int below(int64_t sample, double y) const {
    const int64_t lower = (int64_t)round_up((y - first_row) * kSide - 0.5), upper = lower - 1;
    if (upper < 0 || lower >= (int64_t)(last_row - first_row) * kSide) return 0;  // the border of the band
    const bool l = set(lower, sample), u = set(upper, sample);
    return l == u ? 0 : l ? 1 : -1;
  }

  // Whether the outline passes between the samples left and right of x on line l: 1 if the silhouette lies to the right, -1
  // if it lies to the left, 0 if the outline does not pass.
  int side(int64_t l, double x) const {
    const int64_t right = (int64_t)round_up(x * kSide - 0.5), left = right - 1;
    if (left < 0 || right >= (int64_t)width * kSide) return 0;  // the border of the image
    const bool r = set(l, right), s = set(l, left);
    return r == s ? 0 : r ? 1 : -1;
  }

  // Calls value(x, count) for each pixel of a row, with the number of its samples that are set.
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
