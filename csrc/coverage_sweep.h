// SPDX-License-Identifier: MIT
// Exact coverage of a band of rows by a sweep from top to bottom. The heights of the ends and crossings of contour edges
// divide the band into slabs, in each of which the order of the edges from left to right does not change.
#pragma once
#include <stdlib.h>
#include <string.h>

#include "coverage.h"
#include "coverage_samples.h"
#include "memory.h"

namespace softras::SOFTRAS_ISA {

constexpr double kClose = 1e-12;  // pixels: a smaller distance may be due to rounding alone
// The sweep is given up where drawing faces into samples (coverage_samples.h) would take less time. Visiting kVisits contour
// edges in a slab takes about as long as drawing one line of samples of a face, and kLeastVisits are always allowed.
constexpr double kVisits = 0.25;
constexpr double kLeastVisits = 20000;
constexpr int kDeepest = 60;  // how often a slab is divided at crossings, one division inside another

// An array that grows. It frees nothing by itself: call clear().
template <class X>
struct List {
  X* data;
  int64_t count, capacity;

  // Adds an entry. False: there is no memory.
  bool push(const X& x) {
    if (count == capacity) {
      const int64_t more = capacity ? 2 * capacity : 64;
      X* moved = (X*)realloc(data, more * sizeof(X));
      if (!moved) return false;
      data = moved, capacity = more;
    }
    data[count++] = x;
    return true;
  }
  void clear() { free(data), data = nullptr, count = capacity = 0; }
  const X& operator[](int64_t i) const { return data[i]; }
};

// A contour edge that crosses the present slab from top to bottom, and its x at both.
struct Active {
  int contour;
  double top, bottom;
};

// Lists in `out` the numbers of n contour edges, sorted by the heights of their upper ends; a stable merge sort.
inline bool order(const Contour* contours, int* out, int* scratch, int64_t n) {
  for (int64_t i = 0; i < n; i++) out[i] = (int)i;
  int *from = out, *to = scratch;
  for (int64_t run = 1; run < n; run *= 2) {
    for (int64_t low = 0; low < n; low += 2 * run) {
      const int64_t middle = min(low + run, n), high = min(low + 2 * run, n);
      for (int64_t i = low, j = middle, k = low; k < high; k++)
        to[k] = i < middle && (j >= high || !(contours[from[j]].y[0] < contours[from[i]].y[0])) ? from[i++] : from[j++];
    }
    int* swap = from;
    from = to, to = swap;
  }
  if (from != out) memcpy(out, from, n * sizeof(int));
  return true;
}

// Sorts n numbers; a merge sort, whose other half of memory is `scratch`.
inline void sort(double* values, int64_t n, double* scratch) {
  double *from = values, *to = scratch;
  for (int64_t run = 1; run < n; run *= 2) {
    for (int64_t low = 0; low < n; low += 2 * run) {
      const int64_t middle = min(low + run, n), high = min(low + 2 * run, n);
      for (int64_t i = low, j = middle, k = low; k < high; k++)
        to[k] = i < middle && (j >= high || from[i] <= from[j]) ? from[i++] : from[j++];
    }
    double* swap = from;
    from = to, to = swap;
  }
  if (from != values) memcpy(values, from, n * sizeof(double));
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
  int64_t budget;           // how many more visits of contour edges in slabs are allowed
  bool failed = false;      // whether memory ran out

  Buffer<double> sums;       // (width + 2): the coverage of each pixel of the present row minus that of the pixel before
  Buffer<uint64_t> touched;  // a bit for each of these that is not zero
  Buffer<Active> active;     // the contour edges in the present slab
  Buffer<double> events;     // the heights between slabs, from top to bottom
  Buffer<double> scratch;    // for sorting
  Buffer<double> least_left; // the least x of each active edge and of all edges to its right

  // Draws the band. order: the n contour edges of the view, sorted by their upper ends. False: the order of the edges
  // changes so often that samples take less time; the caller then has to draw the whole band anew.
  bool run(const int* order, int64_t n) {
    const double top = first_row, bottom = last_row;
    int64_t members = 0, ends = 0;
    for (int64_t i = 0; i < n; i++) {
      const Contour& c = contours[order[i]];
      if (c.y[0] >= bottom) break;
      members += c.y[1] > top;
    }
    const int64_t most = 2 * members + last_row - first_row + 2, words = (width + 2 + 63) / 64;
    if (!sums.reserve(width + 2) || !touched.reserve(words) || !active.reserve(members + 1) || !events.reserve(most) ||
        !scratch.reserve(most) || !least_left.reserve(members + 1)) {
      failed = true;
      return true;
    }
    memset(sums.data, 0, (width + 2) * sizeof(double));
    memset(touched.data, 0, words * sizeof(uint64_t));
    double lowest = top, heights = 0;
    for (int64_t i = 0; i < n; i++) {  // the lower ends, which are not sorted yet
      const Contour& c = contours[order[i]];
      if (c.y[0] >= bottom) break;
      if (c.y[1] <= top) continue;
      if (c.y[1] < bottom) scratch[ends++] = c.y[1];
      lowest = max(lowest, min(c.y[1], bottom));
      heights += min(c.y[1], bottom) - max(c.y[0], top);
    }
    budget = (int64_t)(kLeastVisits + kVisits * kSide * heights + (double)width * (last_row - first_row) / kSide + 2.0 * faces);
    sort(scratch.data, ends, events.data);
    ends = merge(order, n, ends);
    int64_t next = 0, now = 0;
    int row = first_row;
    for (int64_t i = 0; i + 1 < ends; i++) {
      const double ya = events[i], yb = events[i + 1];
      if (!(yb > ya)) continue;
      for (; row < (int)ya; row++) finish_row(row);
      if (ya >= lowest) break;
      int64_t kept = 0;
      for (int64_t q = 0; q < now; q++)
        if (contours[active[q].contour].y[1] > ya) active[kept++] = active[q];
      now = kept;
      for (; next < n && contours[order[next]].y[0] <= ya; next++) {
        const Contour& c = contours[order[next]];
        if (c.y[1] > ya && min(c.x[0], c.x[1]) < width) active[now++] = {order[next], 0.0, x_within(c, ya)};
      }
      if (now == 0) continue;
      for (int64_t q = 0; q < now; q++)
        active[q].top = active[q].bottom, active[q].bottom = x_within(contours[active[q].contour], yb);
      slab(active.data, now, ya, yb, row, 0, 0);
      if (budget < 0) return false;
    }
    for (; row < last_row; row++) finish_row(row);
    return true;
  }

  // The x of a contour edge at height y. It is -1 for all edges that are entirely left of the image, where only their
  // winding matters.
  static double x_within(const Contour& c, double y) { return max(c.x[0], c.x[1]) <= 0 ? -1.0 : x_at(c, y); }

  // Merges three sorted sequences into `events`: the upper ends, the lower ends (so many are in `scratch`) and the borders
  // of the rows. Returns their number.
  int64_t merge(const int* order, int64_t n, int64_t lower) {
    const double infinite = __builtin_huge_val();
    int64_t count = 0, i = 0, j = 0;
    int row = first_row;
    while (true) {
      while (i < n && !(contours[order[i]].y[0] > first_row)) i++;
      const double upper_end = i < n && contours[order[i]].y[0] < last_row ? contours[order[i]].y[0] : infinite;
      const double lower_end = j < lower ? scratch[j] : infinite, border = row <= last_row ? row : infinite;
      const double least = min(min(upper_end, lower_end), border);
      if (least == infinite) return count;
      events[count++] = least;
      i += upper_end == least, j += lower_end == least, row += border == least;
    }
  }

  // Adds a slab, the part of a row between heights ya and yb, which n contour edges cross. winding: the winding number to
  // the left of them all; depth: how many divisions the slab comes from. The edges are sorted from left to right, and where
  // some of them cross, their part of the slab is divided at the crossing.
  void slab(Active* a, int64_t n, double ya, double yb, int row, int winding, int depth) {
    if ((budget -= n) < 0) return;
    if (n == 2 && winding == 0) {  // most slabs have one edge at which the silhouette begins and one at which it ends
      const bool ordered = a[0].top <= a[1].top && a[0].bottom <= a[1].bottom;
      if (ordered && contours[a[0].contour].wind + contours[a[1].contour].wind == 0 &&
          a[0].top + a[0].bottom < a[1].top + a[1].bottom)
        return add(a[0], ya, yb, row, 1.0), add(a[1], ya, yb, row, -1.0);
    }
    for (int64_t i = 1; i < n; i++) {  // an insertion sort, since the edges are nearly sorted
      const Active moved = a[i];
      const double middle = moved.top + moved.bottom;
      const int wind = contours[moved.contour].wind;
      int64_t j = i - 1;
      for (; j >= 0; j--) {
        const double other = a[j].top + a[j].bottom;
        // Of coincident edges, those at which the silhouette begins come first, so that parts that touch are one part.
        if (!(other > middle || (other == middle && contours[a[j].contour].wind < wind))) break;
        a[j + 1] = a[j];
      }
      a[j + 1] = moved;
    }
    if (depth == 0) {
      double least = 1e300;
      for (int64_t i = n - 1; i >= 0; i--) least_left[i] = least = min(least, min(a[i].top, a[i].bottom));
    }
    for (int64_t i = 0; i < n;) {
      // Edges i <= q < end are a group: their ranges of x overlap, so that they may cross.
      int64_t end = i;
      double right = -1e300;
      do {
        right = max(right, max(a[end].top, a[end].bottom));
        end++;
      } while (end < n && (depth ? least_of(a, end, n) : least_left[end]) < right - kClose);
      double y;
      if (end - i > 1 && depth < kDeepest && crossing(a + i, end - i, ya, yb, y)) {
        winding = split(a + i, end - i, ya, y, yb, row, winding, depth);
      } else {
        for (int64_t q = i; q < end; q++) {
          const int after = winding + contours[a[q].contour].wind;
          if ((winding == 0) != (after == 0)) add(a[q], ya, yb, row, winding == 0 ? 1.0 : -1.0);
          winding = after;
        }
      }
      i = end;
    }
  }

  // The least x of some active edges.
  static double least_of(const Active* a, int64_t begin, int64_t end) {
    double least = 1e300;
    for (int64_t i = begin; i < end; i++) least = min(least, min(a[i].top, a[i].bottom));
    return least;
  }

  // Finds the height at which two neighbouring edges cross; of several crossings, the one nearest to the middle of the slab.
  // False: there is none.
  bool crossing(const Active* a, int64_t n, double ya, double yb, double& found) const {
    const double middle = 0.5 * (ya + yb);
    bool any = false;
    for (int64_t q = 0; q + 1 < n; q++) {
      const double above = a[q + 1].top - a[q].top, below = a[q + 1].bottom - a[q].bottom;
      if (!((above < -kClose || below < -kClose) && above * below < 0)) continue;
      const double y = ya + (yb - ya) * above / (above - below);
      if (!(y > ya + 1e-13 && y < yb - 1e-13)) continue;
      if (!any || absolute(y - middle) < absolute(found - middle)) found = y, any = true;
    }
    return any;
  }

  // Adds a group's part of a slab in two parts, above and below height y. Returns the winding number to the right of it.
  int split(const Active* a, int64_t n, double ya, double y, double yb, int row, int winding, int depth) {
    Buffer<Active> halves;
    if (!halves.reserve(2 * n)) return failed = true, winding;
    Active *upper = halves.data, *lower = halves.data + n;
    int after = winding;
    for (int64_t q = 0; q < n; q++) {
      const Contour& c = contours[a[q].contour];
      const double x = x_within(c, y);
      upper[q] = lower[q] = a[q];
      upper[q].bottom = lower[q].top = x;
      after += c.wind;
    }
    slab(upper, n, ya, y, row, winding, depth + 1);
    slab(lower, n, y, yb, row, winding, depth + 1);
    return after;
  }

  // Adds a part of the outline: a contour edge between heights ya and yb. side: 1 if the silhouette lies to the right of
  // it, -1 if to the left.
  void add(const Active& a, double ya, double yb, int row, double side) {
    const Contour& c = contours[a.contour];
    cut_at_columns(c, ya, yb, a.top, a.bottom, width, [&](int column, double height, double x, double ta, double tb) {
      const int at = max(column, 0);
      sums[at] += side * height * (1 - x);
      sums[at + 1] += side * height * x;
      touched[at / 64] |= uint64_t(1) << at % 64;
      touched[(at + 1) / 64] |= uint64_t(1) << (at + 1) % 64;
      if (!pieces || column < 0) return;
      Piece p;
      p.pixel = (int)((int64_t)row * width + column), p.contour = a.contour;
      weigh_piece(ta, tb, side, p.w);
      if (!pieces->push(p)) failed = true;
    });
  }

  // Writes alpha of a row, from left to right, and clears what was kept of it.
  void finish_row(int row) {
    T* out = rows + (int64_t)(row - first_row) * width;
    double sum = 0;
    T value = 0;
    int from = 0;
    const int words = (width + 2 + 63) / 64;
    for (int w = 0; w < words; w++) {
      for (uint64_t bits = touched[w]; bits; bits &= bits - 1) {
        const int column = 64 * w + __builtin_ctzll(bits), to = min(column, width);
        for (; from < to; from++) out[from] = value;
        sum += sums[column], sums[column] = 0;
        value = sum < kClose ? T(0) : sum > 1 - kClose ? T(1) : T(sum);
      }
      touched[w] = 0;
    }
    for (; from < width; from++) out[from] = value;
  }
};

}  // namespace softras::SOFTRAS_ISA
