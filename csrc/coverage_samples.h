// SPDX-License-Identifier: MIT
// Coverage by samples, for a band of rows with so many contour edges that sorting them would take longer than drawing all
// faces, as in a heap of unconnected triangles. Each pixel has kSide x kSide samples of one bit, and each face sets the
// bits that it covers. For the derivatives, a contour edge is on the outline of the silhouette where it passes between a
// sample that is set and one that is not.
#pragma once
#include <string.h>

#include "coverage.h"
#include "memory.h"
#include "simd.h"

namespace softras::SOFTRAS_ISA {

// Numbers for the eight lines of samples of a row of pixels.
typedef double D8 __attribute__((ext_vector_type(kSide)));
typedef int I8 __attribute__((ext_vector_type(kSide)));
typedef decltype(D8() < D8()) L8;  // of 64-bit integers
typedef uint8_t B8 __attribute__((ext_vector_type(kSide)));

// The samples of a band of rows first_row <= row < last_row. A pixel is a word whose byte l holds its samples on line l, the
// leftmost in the lowest bit.
struct Samples {
  int width, first_row, last_row;
  Buffer<uint64_t> pixels;  // (last_row - first_row, width)
  // For each row a bit for each pixel that can be left out. While faces are drawn, it is one all of whose samples are set, as
  // far as find_full() has seen; while the outline is sought, one that the outline does not come near.
  Buffer<uint64_t> closed;
  Buffer<uint64_t> full, clear;  // for each row a bit for each pixel all of whose samples are set, or none of them

  // Makes room for the samples. False: there is no memory.
  bool reserve() {
    const int64_t n = rows() * words();
    return pixels.reserve(rows() * width) && closed.reserve(n) && full.reserve(n) && clear.reserve(n);
  }
  int64_t rows() const { return last_row - first_row; }
  int64_t words() const { return (width + 63) / 64; }  // of 64 pixels in a row
  void begin() { zero(pixels.data, rows() * width), zero(closed.data, rows() * words()); }

  // Finds the pixels whose word is `all`. Bits beside the image are set.
  void find(uint64_t all, Buffer<uint64_t>& found) const {
    for (int64_t row = 0; row < rows(); row++) {
      const uint64_t* pixel = line_of_pixels(row);
      for (int64_t w = 0; w < words(); w++) {
        const int n = (int)min(width - 64 * w, int64_t(64));
        uint64_t bits = n < 64 ? ~uint64_t(0) << n : 0;
        for (int i = 0; i < n; i++) bits |= uint64_t(pixel[64 * w + i] == all) << i;
        found[row * words() + w] = bits;
      }
    }
  }

  // Finds the pixels behind which faces can be left out.
  void find_full() { find(~uint64_t(0), closed); }

  // Finds the pixels that the outline does not come near: their samples and those of the pixels around are all set or all
  // clear.
  void find_outline() {
    find(~uint64_t(0), full), find(0, clear);
    for (int64_t row = 0; row < rows(); row++)
      for (int64_t w = 0; w < words(); w++) closed[row * words() + w] = around(full, row, w) | around(clear, row, w);
  }

  // The bits of a word that are set also in all eight pixels around. Those outside of the band count as set.
  uint64_t around(const Buffer<uint64_t>& bits, int64_t row, int64_t w) const {
    uint64_t all = ~uint64_t(0);
    for (int64_t r = max(row - 1, int64_t(0)); r <= min(row + 1, rows() - 1); r++) {
      const uint64_t* line = bits.data + r * words();
      const uint64_t before = w > 0 ? line[w - 1] >> 63 : 1, after = w + 1 < words() ? line[w + 1] << 63 : uint64_t(1) << 63;
      all &= line[w] & (line[w] << 1 | before) & (line[w] >> 1 | after);
    }
    return all;
  }

  // Whether pixels 0 <= first <= x <= last < width of a row of the band can all be left out.
  bool all_closed(int64_t row, int64_t first, int64_t last) const {
    const uint64_t* line = closed.data + row * words();
    const uint64_t from = ~uint64_t(0) << first % 64, to = ~uint64_t(0) >> (63 - last % 64);
    int64_t w = first / 64;
    if (w == last / 64) return !(from & to & ~line[w]);
    if (from & ~line[w]) return false;
    for (w++; w < last / 64; w++)
      if (~line[w]) return false;
    return !(to & ~line[w]);
  }
  uint64_t* line_of_pixels(int64_t row) const { return pixels.data + row * width; }

  // Draws a convex polygon of 3 or 4 corners in pixels.
  void draw(const Vec2* q, int n) const {
    draw(q[0], q[1], q[2]);
    if (n == 4) draw(q[0], q[2], q[3]);
  }

  // Draws a triangle: in each row of pixels, the samples between its longest edge and the other two, on eight lines at once.
  void draw(Vec2 a, Vec2 b, Vec2 c) const {
    if (b.y < a.y) swap(a, b);
    if (c.y < a.y) swap(a, c);
    if (c.y < b.y) swap(b, c);
    const double whole = slope_of(a, c), upper = slope_of(a, b), lower = slope_of(b, c), most = width - 1;
    const int64_t left = (int64_t)min(max(min(min(a.x, b.x), c.x), 0.0), most);
    const int64_t right = (int64_t)min(max(max(max(a.x, b.x), c.x), 0.0), most);
    const int first = (int)min(max(a.y, (double)first_row), (double)last_row);
    const int last = (int)max(min(c.y, last_row - 0.5), first_row - 1.0);
    for (int row = first; row <= last; row++) {
      if (all_closed(row - first_row, left, right)) continue;
      const D8 y = steps(row);
      const D8 x = a.x + (y - a.y) * whole;
      const D8 above = a.x + (y - a.y) * upper, below = b.x + (y - b.y) * lower;
      const D8 z = y < D8(b.y) ? above : below;
      const L8 inside = (y >= D8(a.y)) & (y < D8(c.y));
      // Sample i of a line is at x = (i + 0.5) / kSide: those begin <= i < end lie between the edges.
      fill(row, (x < z ? x : z) * kSide - 0.5, (x < z ? z : x) * kSide - 0.5, inside);
    }
  }

  // Sets the samples low <= i < high of each line of a row that is inside.
  void fill(int row, D8 low, D8 high, L8 inside) const {
    const D8 none = 0.0, most = (double)width * kSide;
    low = __builtin_elementwise_ceil(low > none ? low : none), high = __builtin_elementwise_ceil(high > none ? high : none);
    low = low < most ? low : most, high = high < most ? high : most;
    const I8 begin = __builtin_convertvector(inside ? low : none, I8), end = __builtin_convertvector(inside ? high : none, I8);
    const I8 used = begin < end;
    if (!__builtin_reduce_or(used)) return;
    const int first = __builtin_reduce_min(used ? begin : I8(width * kSide)) / kSide;
    const int last = (__builtin_reduce_max(used ? end : I8(0)) - 1) / kSide;
    const int whole_from = (__builtin_reduce_max(begin) + kSide - 1) / kSide, whole_to = __builtin_reduce_min(end) / kSide;
    uint64_t* pixel = line_of_pixels(row - first_row);
    for (int x = first; x <= last; x++) {
      if (x >= whole_from && x < whole_to) {
        pixel[x] = ~uint64_t(0);
        continue;
      }
      const I8 side = kSide, zero = 0;
      I8 from = begin - x * kSide, to = end - x * kSide;
      from = from > zero ? from : zero, to = to > zero ? to : zero;
      from = from < side ? from : side, to = to < side ? to : side, to = to > from ? to : from;
      const B8 bytes = __builtin_convertvector((I8(1) << to) - (I8(1) << from), B8);
      uint64_t word;
      memcpy(&word, &bytes, sizeof(word));
      pixel[x] |= word;
    }
  }

  static void swap(Vec2& a, Vec2& b) {
    const Vec2 old = a;
    a = b, b = old;
  }
  // dx / dy of an edge from a down to b.
  static double slope_of(Vec2 a, Vec2 b) { return b.y > a.y ? (b.x - a.x) / (b.y - a.y) : 0; }

  // Finds the parts of a contour edge that are on the outline, in steps of one sample: from top to bottom if the edge is
  // steep, else from left to right. Calls piece(row, column, least t, greatest t, side) for each step on the outline, where
  // side is that of weigh_piece(). find_outline() comes before.
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
      if (all_closed(row - first_row, min((int64_t)low, int64_t(width - 1)), min((int64_t)high, int64_t(width - 1)))) continue;
      if (c.steep) {
        const D8 y = steps(row), x = c.x[0] + (y - c.y[0]) * c.slope, right = __builtin_elementwise_ceil(x * kSide - 0.5);
        const L8 inside = (y >= D8(ya)) & (y < D8(yb)) & (right >= D8(1.0)) & (right < D8((double)width * kSide));
        const I8 at = __builtin_convertvector(inside ? right : D8(1.0), I8);
        const uint64_t* pixel = line_of_pixels(row - first_row);
        auto set = [&](int l, int i) { return bit(pixel[i / kSide], l, i); };
        each(inside, [&](int l) { return set(l, at[l]) - set(l, at[l] - 1); }, [&](int l, int side) {
          piece(row, (int)x[l], t_at(c, 0, max(y[l] - h, c.y[0])), t_at(c, 0, min(y[l] + h, c.y[1])), side);
        });
        continue;
      }
      const double upright = 1 / c.slope, lines = (double)rows() * kSide;
      for (int column = (int)low; column < high; column++) {
        const D8 x = steps(column);
        D8 y = c.y[0] + (x - c.x[0]) * upright;
        y = y > D8(ya) ? y : D8(ya), y = y < D8(yb) ? y : D8(yb);
        const D8 lower = __builtin_elementwise_ceil((y - (double)first_row) * kSide - 0.5);
        // The outline is not sought at the border of the band.
        const L8 inside = (x >= D8(low)) & (x < D8(high)) & (lower >= D8(1.0)) & (lower < D8(lines));
        const I8 at = __builtin_convertvector(inside ? lower : D8(1.0), I8);
        const uint64_t* pixel = pixels.data + column;
        auto set = [&](int l, int i) { return bit(pixel[(int64_t)(l / kSide) * width], l, i); };
        each(inside, [&](int i) { return set(at[i], i) - set(at[i] - 1, i); }, [&](int i, int below) {
          const double ta = t_at(c, max(x[i] - h, least), 0), tb = t_at(c, min(x[i] + h, most), 0);
          // Of an edge that goes down to the right, what is above it is to its right.
          piece(row, column, min(ta, tb), max(ta, tb), -below * down);
        });
      }
    }
  }

  // The middles of the eight lines, or columns, of samples in a row, or column, of pixels.
  static D8 steps(int pixel) { return pixel + (ramp_of<D8>() + 0.5) / kSide; }

  // Sample i of line l of a pixel, 0 or 1; i and l are counted from any pixel's corner.
  static int bit(uint64_t pixel, int l, int i) { return pixel >> (l % kSide * kSide + i % kSide) & 1; }

  // Calls found(step, difference(step)) for those of eight steps that are inside and at which two samples differ.
  template <class Difference, class Found>
  static void each(L8 inside, Difference difference, Found found) {
    int8_t all[kSide];
    for (int k = 0; k < kSide; k++) all[k] = int8_t(difference(k) & (int)inside[k]);  // without a branch
    uint64_t any;
    memcpy(&any, all, sizeof(any));
    while (any) {
      const int k = __builtin_ctzll(any) / 8;
      found(k, all[k]);
      any &= ~(uint64_t(0xff) << 8 * k);
    }
  }

  // Calls value(x, count) for each pixel of a row, with the number of its samples that are set.
  template <class Value>
  void count_row(int row, Value value) const {
    const uint64_t* pixel = line_of_pixels(row - first_row);
    for (int64_t x = 0; x < width; x++) value(x, __builtin_popcountll(pixel[x]));
  }
};

}  // namespace softras::SOFTRAS_ISA
