// SPDX-License-Identifier: MIT
// Exact coverage of a band of rows. In each row of pixels, contour edges whose ranges of x overlap or touch are a group. The
// winding number between two groups is the same in the whole height of the row, so that each group is drawn by itself, from
// left to right. The heights of the ends and crossings of its edges divide a group into slabs, in each of which the order of
// the edges does not change. Most groups are one edge from the top of the row to its bottom.
#pragma once
#include <stdlib.h>
#include <string.h>

#include "coverage.h"
#include "coverage_samples.h"
#include "memory.h"
#include "simd.h"

namespace softras::SOFTRAS_ISA {

constexpr double kClose = 1e-12;  // pixels: a smaller distance may be due to rounding alone
constexpr double kTouch = 1e-9;   // pixels: contour edges at a smaller distance are one group
// The sweep is given up where drawing faces into samples (coverage_samples.h) would take less time. It may visit contour edges
// in groups so often: kLeastVisits, and kVisits for each line of samples that an edge crosses, and kVisitsOfAFace for each face.
constexpr double kLeastVisits = 25000, kVisits = 0.03, kVisitsOfAFace = 0.5;
constexpr double kAdvance = 0.2;  // the share of these visits that the first row may make; the rest is allowed row by row
constexpr double kMove = 0.25;  // visits that take as long as moving an edge by one place while sorting
constexpr int kDeepest = 60;  // how often a group is divided, one division inside another

// An array that grows. It frees nothing by itself: call clear().
template <class X>
struct List {
  X* data;
  int64_t count, capacity;

  // Adds an entry. False: there is no memory.
  bool push(const X& x) {
    if (count == capacity && !reserve(count + 1)) return false;
    data[count++] = x;
    return true;
  }
  // Adds all entries of another list. False: there is no memory.
  bool append(const List& other) {
    if (!reserve(count + other.count)) return false;
    if (other.count) memcpy((void*)(data + count), other.data, other.count * sizeof(X));
    count += other.count;
    return true;
  }
  // Makes room for at least so many entries. False: there is no memory.
  bool reserve(int64_t least) {
    if (least <= capacity) return true;
    const int64_t more = max(max(least, 2 * capacity), int64_t(64));
    X* moved = (X*)realloc(data, more * sizeof(X));
    if (!moved) return false;
    data = moved, capacity = more;
    return true;
  }
  void clear() { free(data), data = nullptr, count = capacity = 0; }
  const X& operator[](int64_t i) const { return data[i]; }
};

// The part of a contour edge in the present row of pixels, or in a part of the row's height.
struct Part {
  double top, bottom;  // x at its upper and at its lower end
  int contour;
  int wind;
  bool upper, lower;  // whether it reaches the upper and the lower border of the row, or of the part of its height

  double low() const { return min(top, bottom); }
  double high() const { return max(top, bottom); }
};

// Sorts n parts from left to right, by their least x. Short runs are sorted by insertion, and neighbouring runs are merged
// unless they are in order already: parts that are nearly sorted, such as those of a row after those of the row above, take
// little more than one look. The sort is stable. scratch: memory for n parts.
inline void sort(Part* parts, int64_t n, Part* scratch) {
  constexpr int64_t kRun = 16;
  if (n < 2) return;
  for (int64_t low = 0; low < n; low += kRun) {
    const int64_t high = min(low + kRun, n);
    for (int64_t i = low + 1; i < high; i++) {
      if (parts[i - 1].low() <= parts[i].low()) continue;
      const Part moved = parts[i];
      int64_t j = i;
      for (; j > low && parts[j - 1].low() > moved.low(); j--) parts[j] = parts[j - 1];
      parts[j] = moved;
    }
  }
  for (int64_t run = kRun; run < n; run *= 2) {
    for (int64_t low = 0; low + run < n; low += 2 * run) {
      const int64_t middle = low + run, high = min(middle + run, n);
      if (parts[middle - 1].low() <= parts[middle].low()) continue;
      memcpy(scratch, parts + low, run * sizeof(Part));
      for (int64_t i = 0, j = middle, k = low; i < run; k++)
        parts[k] = j < high && parts[j].low() < scratch[i].low() ? parts[j++] : scratch[i++];
    }
  }
}

// Asks for the memory of a contour edge that a loop over a list of n will come to soon, when it is at entry i. Of very many
// contour edges those of a band are so far apart that a processor does not foresee them.
inline void prefetch(const Contour* contours, const int* list, int64_t n, int64_t i) {
  constexpr int64_t kAhead = 12;
  const char* soon = (const char*)(contours + list[min(i + kAhead, n - 1)]);
  __builtin_prefetch(soon), __builtin_prefetch(soon + sizeof(Contour) - 1);
}

// One band of rows of one view.
template <class T>
struct Sweep {
  const Contour* contours;
  int width;                // of the image
  T* rows;                  // alpha of the band's first row
  int first_row, last_row;  // the band's rows: first_row <= row < last_row
  List<Piece>* pieces;      // where pieces of the outline are kept, or null
  int64_t faces;            // number of faces of the mesh
  double budget;            // how many more visits of contour edges are allowed
  bool failed = false;      // whether memory ran out

  Buffer<double> sums;  // (width + 8): the coverage of each pixel of the present row minus that of the pixel before
  Buffer<int> by_row;   // the contour edges of the band by the rows in which they begin
  Buffer<Part> levels[kDeepest + 1];  // parts from left to right: of the present row, and of the halves of its groups
  Buffer<Part> scratch;               // for sorting

  // Draws the band. list: the n contour edges of the view that reach into it. False: the order of the edges changes so often
  // that samples take less time; the caller then has to draw the whole band anew.
  bool run(const int* list, int64_t n) {
    if (!sums.reserve(width + 8) || !by_row.reserve(n) || !levels[0].reserve(n) || !scratch.reserve(n)) {
      failed = true;
      return true;
    }
    memset(sums.data, 0, (width + 8) * sizeof(double));
    int begin[kBand + 1];
    const double heights = count(list, n, begin);
    if (pieces && !pieces->reserve(n + (int64_t)heights)) {
      failed = true;
      return true;
    }
    const int height = last_row - first_row;
    const double whole = kLeastVisits + kVisits * kSide * heights + (double)width * height / kSide + kVisitsOfAFace * faces;
    if (n + heights > whole) return false;
    bucket(list, n, begin);
    budget = kAdvance * whole;
    Part* parts = levels[0].data;  // those in the present row
    int64_t now = 0;
    for (int row = first_row; row < last_row; row++) {
      int64_t kept = 0;
      for (int64_t q = 0; q < now; q++) {
        const Contour& c = contours[parts[q].contour];
        parts[kept] = part_of(parts[q].contour, c, row, row + 1.0);
        kept += c.y[1] > row;
      }
      now = kept;
      for (int i = begin[row - first_row]; i < begin[row - first_row + 1]; i++) {
        const Contour& c = contours[by_row[i]];
        if (min(c.x[0], c.x[1]) < width) parts[now++] = part_of(by_row[i], c, row, row + 1.0);
      }
      sort(parts, now, scratch.data);
      budget += (1 - kAdvance) * whole / height - now;
      if (budget < 0 || !draw_row(row, now)) return false;
    }
    return true;
  }

  // Counts the contour edges of the band by the rows in which they begin: those of row r will be entries
  // begin[r - first_row] to begin[r - first_row + 1] of `by_row`. Returns the sum of their heights within the band.
  double count(const int* list, int64_t n, int* begin) const {
    double heights = 0;
    for (int r = 0; r <= kBand; r++) begin[r] = 0;
    for (int64_t i = 0; i < n; i++) {
      const Contour& c = contours[list[i]];
      prefetch(contours, list, n, i);
      begin[row_in_band(c) + 1]++;
      heights += min(c.y[1], (double)last_row) - max(c.y[0], (double)first_row);
    }
    for (int r = 0; r < kBand; r++) begin[r + 1] += begin[r];
    return heights;
  }

  // Lists the contour edges of the band in `by_row`.
  void bucket(const int* list, int64_t n, const int* begin) {
    int next[kBand];
    for (int r = 0; r < kBand; r++) next[r] = begin[r];
    for (int64_t i = 0; i < n; i++) by_row[next[row_in_band(contours[list[i]])]++] = list[i];
  }
  int row_in_band(const Contour& c) const { return c.y[0] > first_row ? (int)c.y[0] - first_row : 0; }

  // The part of a contour edge between two heights. Its x at a height where there is no edge is that of the nearest end, and
  // it is -1 for all edges that are entirely left of the image, where only their winding matters. The two heights are
  // lanes of a vector, since selections among numbers would become branches.
  static Part part_of(int contour, const Contour& c, double ya, double yb) {
    const D2 low = min(c.x[0], c.x[1]), high = max(c.x[0], c.x[1]), outside = -1.0, zero = 0.0;
    const D2 y = {ya, yb}, ends = {c.x[0], c.x[1]}, later = {ya, c.y[1]}, earlier = {c.y[0], yb};
    D2 x = c.x[0] + (y - c.y[0]) * c.slope;
    x = x > low ? x : low;
    x = x < high ? x : high;
    x = later > earlier ? x : ends;
    x = high > zero ? x : outside;
    return {x.x, x.y, contour, c.wind, c.y[0] <= ya, c.y[1] >= yb};
  }

  // Draws a row from its n parts of contour edges. False: it takes too long. Columns are written by fours, which leaves few
  // branches that a processor cannot predict.
  bool draw_row(int row, int64_t n) {
    T* out = rows + (int64_t)(row - first_row) * width;
    memset(out, 0, width * sizeof(T));
    int begin = 0, end = 0;  // `sums` of columns begin <= x < end wait to be written into the row; before, all is written
    double left = 0;         // the coverage of the pixel to the left of `begin`
    const int winding = groups(levels[0].data, n, 0, [&](Part* p, int64_t count, double reach, int before) {
      const int column = (int)max(p->low(), 0.0);
      if (column >= end) {
        write(out, begin, end, left);
        left = before != 0;
        if (before != 0) fill(out, end, column);
        begin = end = column;
      }
      const int last = (int)min(reach, width - 1.0) + 2;
      if (last > end) end = begin + (last - begin + 3) / 4 * 4;
      return group(p, count, row, row + 1, row, before, 0);
    });
    if (budget < 0) return false;
    write(out, begin, end, left);
    if (winding != 0)
      for (int x = end; x < width; x++) out[x] = 1;
    return true;
  }

  // Sets pixels begin <= x < end of a row to 1. Up to three more are overwritten; they are written later.
  void fill(T* out, int begin, int end) const {
    if (end + 3 > width) {
      for (int x = begin; x < end; x++) out[x] = 1;
      return;
    }
    for (int x = begin; x < end; x += 4) out[x] = out[x + 1] = out[x + 2] = out[x + 3] = 1;
  }

  // Calls draw(first part, number of parts, greatest x, winding number to the left of them) for the groups among n sorted
  // parts, from left to right, until it takes too long. draw() returns the winding number to the right of the group, and so
  // does groups() for all of them.
  template <class Draw>
  int groups(Part* p, int64_t n, int winding, Draw draw) {
    for (int64_t i = 0; i < n && p[i].low() < width && budget >= 0;) {
      // What lies to the left of the image is one group, since edges that are moved to x = -1 leave gaps there.
      double reach = max(p[i].high(), 0.0);
      int64_t next = i + 1;
      for (; next < n && p[next].low() <= reach + kTouch; next++) reach = max(reach, p[next].high());
      winding = draw(p + i, next - i, reach, winding);
      i = next;
    }
    return winding;
  }

  // Writes columns begin <= x < end of a row, a multiple of four, from `sums`, which it clears. left: the coverage of the
  // pixel before them.
  void write(T* out, int begin, int end, double left) {
    for (int x = begin; x < end; x += 4) {
      T four[4];
      for (int k = 0; k < 4; k++) {
        left += sums[x + k], sums[x + k] = 0;
        four[k] = left < kClose ? T(0) : left > 1 - kClose ? T(1) : T(left);
      }
      if (x + 4 <= width) memcpy(out + x, four, sizeof(four));
      else
        for (int k = 0; x + k < width; k++) out[x + k] = four[k];
    }
  }

  // Adds a group of n parts of edges between heights ya and yb; it may sort them anew. winding: the winding number to the left
  // of them; level: how many divisions the group comes from. Returns the winding number to the right.
  int group(Part* p, int64_t n, double ya, double yb, int row, int winding, int level) {
    if (n == 1 && (p->upper & p->lower)) {
      walk(p, 1, ya, yb, row, winding);
      return winding + p->wind;
    }
    int after = winding, least = winding;
    bool whole = true;
    for (int64_t q = 0; q < n; q++) {
      after += p[q].upper ? p[q].wind : 0, least += min(p[q].wind, 0);
      whole &= p[q].upper & p[q].lower;
    }
    budget -= n;
    if (least > 0) return after;  // the winding number, which is nowhere less than zero, is so high that all of it is hidden
    if (!whole && n == 2 && bend(p, ya, yb, row, winding)) return after;
    if (!whole) trim(p, n, ya, yb);
    double y;
    bool divided = !whole && level < kDeepest && end_within(p, n, ya, yb, y);
    if (!divided) {
      if (!whole) n = spanning(p, n, ya, yb);
      divided = n > 1 && level < kDeepest && crossing(p, n, ya, yb, y);
    }
    if (divided) {
      divide(p, n, ya, y, row, winding, level + 1);
      divide(p, n, y, yb, row, winding, level + 1);
    } else {
      walk(p, n, ya, yb, row, winding);
    }
    return after;
  }

  // Adds parts that do not cross between two heights, from left to right.
  void walk(const Part* p, int64_t n, double ya, double yb, int row, int winding) {
    for (int64_t q = 0; q < n; q++) {
      const int right = winding + p[q].wind;
      if ((winding == 0) != (right == 0)) add(p[q], ya, yb, row, winding == 0 ? 1.0 : -1.0);
      winding = right;
    }
  }

  // Adds two parts, between two heights, of which one begins where the other ends, as at most vertices of the contour. False:
  // they do not.
  bool bend(const Part* p, double ya, double yb, int row, int winding) {
    const Contour &a = contours[p[0].contour], &b = contours[p[1].contour];
    const bool down = a.y[1] <= b.y[0];
    if (a.wind != b.wind || !(down || b.y[1] <= a.y[0])) return false;
    const Contour &upper = down ? a : b, &lower = down ? b : a;
    walk(p + !down, 1, max(upper.y[0], ya), upper.y[1], row, winding);
    walk(p + down, 1, lower.y[0], min(lower.y[1], yb), row, winding);
    return true;
  }

  // Moves two heights towards each other as far as no part of a group is left out.
  void trim(const Part* p, int64_t n, double& ya, double& yb) const {
    double first = yb, last = ya;
    for (int64_t q = 0; q < n; q++) {
      const Contour& c = contours[p[q].contour];
      first = min(first, max(c.y[0], ya)), last = max(last, min(c.y[1], yb));
    }
    ya = first, yb = last;
  }

  // Moves the parts that reach from one height to another to the front. Returns how many they are.
  int64_t spanning(Part* p, int64_t n, double ya, double yb) const {
    int64_t count = 0;
    for (int64_t q = 0; q < n; q++) {
      const Contour& c = contours[p[q].contour];
      if (!(c.y[0] <= ya && c.y[1] >= yb)) continue;
      const Part other = p[count];
      p[count++] = p[q], p[q] = other;
    }
    return count;
  }

  // Adds the part of a group between two heights, where fewer of its edges overlap.
  void divide(const Part* p, int64_t n, double ya, double yb, int row, int winding, int level) {
    Buffer<Part>& parts = levels[level];
    if (!parts.reserve(n) || !scratch.reserve(n)) {
      failed = true;
      return;
    }
    int64_t count = 0;
    for (int64_t q = 0; q < n; q++) {
      const Contour& c = contours[p[q].contour];
      parts[count] = part_of(p[q].contour, c, ya, yb);  // without a branch, which a processor could not predict
      count += (c.y[0] < yb) & (c.y[1] > ya);
    }
    sort(parts.data, count, scratch.data);
    groups(parts.data, count, winding, [&](Part* q, int64_t m, double, int before) {
      return group(q, m, ya, yb, row, before, level);
    });
  }

  // Finds the end of a part between two heights that is nearest to their middle. False: there is none.
  bool end_within(const Part* p, int64_t n, double ya, double yb, double& y) const {
    const double middle = 0.5 * (ya + yb);
    double nearest = min(middle - ya, yb - middle);
    y = ya;
    for (int64_t q = 0; q < n; q++) {
      const Contour& c = contours[p[q].contour];
      for (const double end : c.y) {  // without a branch: those that are not between the heights are not nearer
        const double distance = absolute(end - middle);
        y = distance < nearest ? end : y, nearest = min(distance, nearest);
      }
    }
    return y > ya && y < yb;
  }

  // Sorts the parts of a group, all of which reach from one height to another, by their middles, and finds the height at
  // which two neighbours cross; of several crossings, the one nearest to the middle. False: there is none.
  bool crossing(Part* p, int64_t n, double ya, double yb, double& found) {
    int64_t moves = 0;
    for (int64_t i = 1; i < n; i++) {
      const Part moved = p[i];
      const double middle = moved.top + moved.bottom;
      int64_t j = i;
      for (; j > 0; j--) {
        const double other = p[j - 1].top + p[j - 1].bottom;
        // Of coincident edges, those at which the silhouette begins come first, so that parts that touch are one part.
        if (!(other > middle || (other == middle && p[j - 1].wind < moved.wind))) break;
        p[j] = p[j - 1];
      }
      p[j] = moved, moves += i - j;
    }
    budget -= kMove * moves;
    const double middle = 0.5 * (ya + yb);
    bool any = false;
    for (int64_t q = 0; q + 1 < n; q++) {
      const double above = p[q + 1].top - p[q].top, below = p[q + 1].bottom - p[q].bottom;
      if (!((above < -kClose || below < -kClose) && above * below < 0)) continue;
      const double y = ya + (yb - ya) * above / (above - below);
      if (!(y > ya + 1e-13 && y < yb - 1e-13)) continue;
      if (!any || absolute(y - middle) < absolute(found - middle)) found = y, any = true;
    }
    return any;
  }

  // Adds a part of the outline: a contour edge between heights ya and yb. side: 1 if the silhouette lies to the right of
  // it, -1 if to the left.
  void add(const Part& a, double ya, double yb, int row, double side) {
    const Contour& c = contours[a.contour];
    Piece* piece = nullptr;
    if (pieces) {
      if (!pieces->reserve(pieces->count + (int64_t)min(absolute(a.top - a.bottom), (double)width) + 3)) {
        failed = true;
        return;
      }
      piece = pieces->data + pieces->count;
    }
    const int first_pixel = (int)((int64_t)row * width);
    cut_at_columns(c, ya, yb, a.top, a.bottom, width, [&](int column, double height, double x, double ta, double tb, bool any) {
      const int at = max(column, 0);
      sums[at] += side * height * (1 - x);
      // The fence keeps the compiler from writing both sums by one instruction. The next part reads one of them, and a
      // processor would let it wait until both are in the cache.
      __atomic_signal_fence(__ATOMIC_SEQ_CST);
      sums[at + 1] += side * height * x;
      if (!pieces) return;
      piece->pixel = first_pixel + column, piece->contour = a.contour;
      weigh_piece(ta, tb, side, piece->w);
      piece += any & (column >= 0);
    });
    if (pieces) pieces->count = piece - pieces->data;
  }
};

}  // namespace softras::SOFTRAS_ISA
