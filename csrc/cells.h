// SPDX-License-Identifier: MIT
// The pixels a face can reach, and what it does to them, with SIMD over the pixels of a row.
//
// A face is walked in strips of kCell rows, each strip in cells of kCell columns: within a cell, coordinates are small
// enough for float. Each row of a cell is a sequence of runs of `lanes` pixels that begins at the first pixel within
// the cut-off, wherever that is; a run may stick out of the image, whose rows are padded for it.
#pragma once
#include "simd.h"
#include "softras_math.h"

namespace softras::SOFTRAS_ISA {

constexpr int kCell = 16;

// A face in one view: its edges, side by side (a triangle's last one means nothing), and the pixels within the cut-off
// of its bounds.
struct Polygon {
  Edges<D4> edges;
  int corners;  // 3 or 4
  Rect rect;
};

template <class T>
struct Cells {
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  typedef T T4 __attribute__((ext_vector_type(4)));
  typedef T T8 __attribute__((ext_vector_type(8)));
  static constexpr int lanes = Simd<T>::lanes;
  static constexpr int kRuns = kCell * kCell / lanes;  // at most, in a cell

  struct Run {
    T8 start;       // of its first pixel: distance from each edge's line, position along each edge
    int64_t pixel;  // where that pixel is in the image
    T x, y;         // and where it is from the cell's middle, in pixels
  };

  // The runs of one cell, and the face's edges about its middle (x, y).
  struct Cell {
    LocalEdges<T4> edges;
    const Run* runs;
    int count;
    double x, y;
  };

  static T4 narrow(D4 v) { return __builtin_convertvector(v, T4); }
  static LocalEdges<T4> local(const Polygon& p, double x, double y, const Blur<T>& blur) {
    const LocalEdges<D4> e = localize(p.edges, x, y, blur);
    return {narrow(e.nx), narrow(e.ny), narrow(e.c), narrow(e.e), narrow(e.h), narrow(e.r), narrow(e.t)};
  }

  // Calls draw(cell) for the cells of rows y0 <= y < y1 that hold pixels of the face; where the cells lie depends on the
  // face alone.
  template <class Draw>
  static void walk(const Polygon& p, int y0, int y1, const Blur<T>& blur, int64_t stride, Draw draw) {
    const Rect& r = p.rect;
    for (int y = r.y0; y <= r.y1; y += kCell) {
      const int top = y > y0 ? y : y0, bottom = min(min(y + kCell, y1), r.y1 + 1);
      if (top >= bottom) continue;
      const int middle_y = min(kCell, r.y1 - y + 1) / 2;
      T first[kCell], last[kCell];
      intervals(p, r, y, blur, first, last);
      for (int x = r.x0; x <= r.x1; x += kCell) {
        const int middle_x = x - r.x0 + min(kCell, r.x1 - x + 1) / 2;
        const double centre_x = r.x0 + middle_x + 0.5, centre_y = y + middle_y + 0.5;
        const LocalEdges<T4> e = local(p, centre_x, centre_y, blur);
        const T8 right = pair(e.nx, e.ny), down = pair(e.ny, -e.nx), origin = pair(e.c, e.e);
        Run runs[kRuns];
        int count = 0;
        for (int row = top - y; row < bottom - y; row++) {
          const T end = min(last[row], T(x - r.x0 + kCell - 1));
          T at = first[row];
          for (; at <= end; at += lanes) {
            const T dx = at - T(middle_x), dy = T(row - middle_y);
            runs[count++] = {right * dx + (down * dy + origin), (y + row) * stride + r.x0 + (int)at, dx, dy};
          }
          first[row] = at;
        }
        if (count) draw(Cell{e, runs, count, centre_x, centre_y});
      }
    }
  }
  static T8 pair(T4 a, T4 b) { return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7); }

  // The columns of each row of a strip, from the rectangle's first, that no edge's line, moved out by the cut-off, leaves
  // behind.
  static void intervals(const Polygon& p, const Rect& r, int y, const Blur<T>& blur, T* first, T* last) {
    const LocalEdges<T4> e = local(p, r.x0 + 0.5, y + 0.5, blur);
    const T huge = T(1e30), flat = T(1e-6 * blur.kappa);
    const T4 inverse = T(1) / e.nx;
    const T4 slope = -e.ny * inverse, offset = -(e.c + blur.reach) * inverse;
    const auto left = e.nx > flat, right = e.nx < -flat;  // a flat edge's line bounds no row
    const T4 left_slope = left ? slope : T4(T(0)), left_offset = left ? offset : T4(-huge);
    const T4 right_slope = right ? slope : T4(T(0)), right_offset = right ? offset : T4(huge);
    for (int row = 0; row < kCell; row += lanes) {
      const V at = Simd<T>::ramp() + T(row);
      V low = V(T(0)), high = V(T(r.x1 - r.x0));
#pragma clang loop unroll(full)
      for (int k = 0; k < 4; k++) {
        if (k == p.corners) break;
        low = max(low, left_slope[k] * at + left_offset[k]);
        high = min(high, right_slope[k] * at + right_offset[k]);
      }
      // Of numbers that overflowed nothing is left: no pixel is outside the rectangle, whatever they are.
      const I fits = (low >= T(0)) & (high <= T(r.x1 - r.x0));
      store(first + row, V(fits ? V(__builtin_elementwise_ceil(low)) : V(huge)));
      store(last + row, V(__builtin_elementwise_floor(high)));
    }
  }

  // The edges at every lane of a run, but for where the run starts.
  template <int n>
  struct LaneEdges {
    V across[n], position[n], half[n];

    explicit LaneEdges(const LocalEdges<T4>& e) {
#pragma clang loop unroll(full)
      for (int k = 0; k < n; k++) {
        across[k] = Simd<T>::ramp() * e.nx[k], position[k] = Simd<T>::ramp() * e.ny[k];
        half[k] = e.h[k];
      }
    }
  };

  // 2^x of a run's pixels, zero where the face does not count; x = squared inside, -squared where across < 0.
  static V exponential(V x) {
    const I counts = x > T(-kCutoffLog2);
    return (V)((I)exp2_vector<T>(smaller(x, V(kMostExponent<T>))) & counts);
  }

  // x of a run's pixels: the squared distance to the nearest edge, positive inside.
  template <int n>
  static V signed_square(const LaneEdges<n>& edge, const Run& run) {
    const T* start = (const T*)&run.start;
    V squared, across;
#pragma clang loop unroll(full)
    for (int k = 0; k < n; k++) {
      const V a = edge.across[k] + start[k], s = squared_distance(a, edge.position[k] + start[4 + k], edge.half[k]);
      squared = k == 0 ? s : smaller(s, squared);
      across = k == 0 ? a : (V)((I)a | (I)across);  // negative if one of them is
    }
    return flip_sign<T>(squared, across);
  }

  // The work on a cell is done in several loops over its runs: a processor can look ahead over more runs when each loop
  // does little.

  // Multiplies a face into the pixels' products of 1 + 2^x.
  template <int n>
  static void multiply(const Cell& cell, T* product) {
    const LaneEdges<n> edge(cell.edges);
    V x[kRuns];
    T* pixel[kRuns];
    int count = 0;
    for (const Run* run = cell.runs; run < cell.runs + cell.count; run++) {
      T* p = product + run->pixel;
      if (!any_lane<T>(comparable(load<T>(p)) < comparable(V(kSaturated<T>)))) continue;
      x[count] = signed_square(edge, *run), pixel[count++] = p;
    }
    for (int i = 0; i < count; i++) {
      const V before = load<T>(pixel[i]);
      store(pixel[i], smaller(before + before * exponential(x[i]), V(kSaturated<T>)));
    }
  }

  // The edges as the search for the nearest point of the outline needs them.
  template <int n>
  struct OutlineEdges : LaneEdges<n> {
    V rate[n], middle[n], nx[n], ny[n];

    explicit OutlineEdges(const LocalEdges<T4>& e) : LaneEdges<n>(e) {
#pragma clang loop unroll(full)
      for (int k = 0; k < n; k++) rate[k] = e.r[k], middle[k] = e.t[k], nx[k] = e.nx[k], ny[k] = e.ny[k];
    }
  };

  // x of a run's pixels. Calls take(k, closer, across, past, t) for each edge in turn: `closer` marks the pixels that it is
  // nearer to than those before it; t is where its nearest point is, from 0 at corner k to 1 at corner k + 1.
  template <int n, class Take>
  static V search(const OutlineEdges<n>& edge, const Run& run, Take take) {
    const T* start = (const T*)&run.start;
    V squared, outside;
#pragma clang loop unroll(full)
    for (int k = 0; k < n; k++) {
      const V across = edge.across[k] + start[k], position = edge.position[k] + start[4 + k];
      const V along = nearest_along(position, edge.half[k]), past = position - along, s = squared_distance(across, past);
      const V t = along * edge.rate[k] + edge.middle[k];
      const I closer = k == 0 ? ~I(0) : comparable(s) < comparable(squared);
      squared = k == 0 ? s : smaller(s, squared);
      outside = k == 0 ? across : (V)((I)across | (I)outside);
      take(k, closer, across, past, t);
    }
    return flip_sign<T>(squared, outside);
  }

  // The outline's point nearest to a pixel: the normal of its edge, the pixel's distance across and past that edge, and
  // the corners' shares in the point.
  template <int n>
  struct Nearest {
    V x, nx, ny, across, past, share[n];
    const T* weight;  // see accumulate

    void find(const OutlineEdges<n>& edge, const Run& run) {
      x = search(edge, run, [&](int k, I closer, V a, V beyond, V t) {
        nx = closer ? edge.nx[k] : nx, ny = closer ? edge.ny[k] : ny;
        across = closer ? a : across, past = closer ? beyond : past;
#pragma clang loop unroll(full)
        for (int j = 0; j < n; j++) {
          const V mine = j == k ? T(1) - t : j == (k + 1) % n ? t : V(T(0));
          share[j] = closer ? mine : share[j];
        }
      });
    }
  };

  // The gradient of a face's corners.
  template <int n>
  struct CornerSums {
    V x[4], y[4];
    CornerSums() {
      for (int k = 0; k < 4; k++) x[k] = y[k] = V(T(0));
    }
    void add(const Nearest<n>& at, V g) {  // g: dL/d(squared)
      const Vector2<V> move = nearest_point_gradient(g, at.across, at.past, at.nx, at.ny);
#pragma clang loop unroll(full)
      for (int k = 0; k < n; k++) x[k] += move.x * at.share[k], y[k] += move.y * at.share[k];
    }
    void add_to(Vec2* gradient) const {
      T sum_x[4], sum_y[4];
      sum_lanes<T>(x[0], x[1], x[2], x[3], sum_x);
      sum_lanes<T>(y[0], y[1], y[2], y[3], sum_y);
      for (int k = 0; k < n; k++) gradient[k].x += sum_x[k], gradient[k].y += sum_y[k];
    }
  };

  // Adds the gradient of a face's corners. weight: |dL/d(squared)| / D at each pixel, zero where it counts for nothing.
  template <int n>
  static void accumulate(const Cell& cell, const T* weight, Vec2* gradient) {
    const OutlineEdges<n> edge(cell.edges);
    Nearest<n> nearest[kRuns];
    int count = 0;
    for (const Run* run = cell.runs; run < cell.runs + cell.count; run++) {
      Nearest<n>& out = nearest[count];
      out.weight = weight + run->pixel;
      if (!any_lane<T>(load<T>(out.weight) != T(0))) continue;
      count++;
      out.find(edge, *run);
    }
    for (int i = 0; i < count; i++) {
      const V e = exponential(nearest[i].x);
      nearest[i].x = flip_sign<T>(load<T>(nearest[i].weight) * e / (e + T(1)), nearest[i].x);
    }
    CornerSums<n> sums;
    for (int i = 0; i < count; i++) sums.add(nearest[i], nearest[i].x);
    sums.add_to(gradient);
  }

  // How a run's pixels follow a face: alpha moves by first * one motion + second * another, where the pair k of motions is
  // those of corners k and k + 1 along the normal of edge k (a pixel nearest to an edge follows its line), and the pair
  // n + k those of corner k in x and in y.
  struct Pull {
    V first, second;
    I pair;
    int64_t pixel;
  };

  // The pulls on the pixels of a cell where weight, which is d alpha / d(squared) / D or zero, is not zero; how many runs.
  template <int n>
  static int pull(const Cell& cell, const T* weight, Pull* pulls) {
    const OutlineEdges<n> edge(cell.edges);
    int count = 0;
    for (const Run* run = cell.runs; run < cell.runs + cell.count; run++) {
      const V w = load<T>(weight + run->pixel);
      if (!any_lane<T>(w != T(0))) continue;
      V nx, ny, across, past, t;
      I nearest = I(0), next = I(0);
      const V x = search(edge, *run, [&](int k, I closer, V a, V beyond, V at) {
        nx = closer ? edge.nx[k] : nx, ny = closer ? edge.ny[k] : ny;
        across = closer ? a : across, past = closer ? beyond : past, t = closer ? at : t;
        nearest = closer ? I(k) : nearest, next = closer ? I((k + 1) % n) : next;
      });
      const V e = exponential(x), g = flip_sign<T>(w * e / (e + T(1)), x);
      const Vector2<V> move = nearest_point_gradient(g, across, past, nx, ny);
      const V line = -2 * g * across;
      const I corner = past != T(0);
      pulls[count++] = {corner ? move.x : line * (T(1) - t), corner ? move.y : line * t,
                        corner ? n + (t < T(0.5) ? nearest : next) : nearest, run->pixel};
    }
    return count;
  }
};

}  // namespace softras::SOFTRAS_ISA
