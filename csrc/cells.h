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

struct Rect {
  int x0, y0, x1, y1;  // pixels, inclusive; x0 > x1: none
};

// A face in one view: its edges, side by side (a triangle's last one means nothing), and the pixels within the cut-off
// of its bounds.
struct Polygon {
  Edges<D4> edges;
  int corners;  // 3 or 4
  Rect rect;
};

// What the blur makes of a pixel.
template <class T>
struct Blur {
  double radius, kappa;  // pixels; see softras_math.h
  T reach;               // the cut-off in units of 1 / kappa, and more than rounding can add to a distance
};

template <class T>
struct Cells {
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  typedef T T4 __attribute__((ext_vector_type(4)));
  static constexpr int lanes = Simd<T>::lanes;
  static constexpr T saturated = sizeof(T) == 4 ? T(1e8) : T(1e16);  // 1 / transmittance that counts as opaque
  static constexpr T most_exponent = sizeof(T) == 4 ? T(27) : T(54);   // so does 2^x beyond it

  struct Run {
    T x, y;        // its first pixel, in pixels from the middle of the cell
    int64_t pixel;  // the same, in the image
  };

  // The runs of one cell, and the face's edges about its middle.
  struct Cell {
    Edges<T4> edges;
    const Run* runs;
    int count;
  };

  static T4 narrow(D4 v) { return __builtin_convertvector(v, T4); }
  static Edges<T4> local(const Polygon& p, double x, double y, double kappa) {
    const Edges<D4> e = localize(p.edges, x, y, kappa);
    return {narrow(e.nx), narrow(e.ny), narrow(e.c), narrow(e.e), narrow(e.h), narrow(e.r)};
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
        Run runs[kCell * kCell / lanes];
        int count = 0;
        for (int row = top - y; row < bottom - y; row++) {
          const T end = last[row] < T(x - r.x0 + kCell - 1) ? last[row] : T(x - r.x0 + kCell - 1);
          T at = first[row];
          for (; at <= end; at += lanes)
            runs[count++] = {at - T(middle_x), T(row - middle_y), (y + row) * stride + r.x0 + (int)at};
          first[row] = at;
        }
        if (count) draw(Cell{local(p, r.x0 + middle_x + 0.5, y + middle_y + 0.5, blur.kappa), runs, count});
      }
    }
  }

  // The columns of each row of a strip, from the rectangle's first, that no edge's line, moved out by the cut-off, leaves
  // behind.
  static void intervals(const Polygon& p, const Rect& r, int y, const Blur<T>& blur, T* first, T* last) {
    const Edges<T4> e = local(p, r.x0 + 0.5, y + 0.5, blur.kappa);
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
      store(first + row, V(__builtin_elementwise_ceil(low)));
      store(last + row, V(__builtin_elementwise_floor(high)));
    }
  }

  // An edge at every lane of a run.
  template <int n>
  struct LaneEdges {
    V nx[n], ny[n], c[n], e[n], h[n];

    explicit LaneEdges(const Edges<T4>& g) {
#pragma clang loop unroll(full)
      for (int k = 0; k < n; k++) nx[k] = g.nx[k], ny[k] = g.ny[k], c[k] = g.c[k], e[k] = g.e[k], h[k] = g.h[k];
    }
    EdgeDistance<V> distance(int k, V x, V y) const {
      return edge_distance<V>(nx[k] * x + (ny[k] * y + c[k]), ny[k] * x - (nx[k] * y - e[k]), h[k]);
    }
  };

  // 2^x of a run's pixels, zero where the face does not count; across < 0 outside.
  static V exponential(V squared, V across) {
    const V x = flip_sign<T>(squared, across);
    const I counts = x > T(-kCutoffLog2);
    return (V)((I)exp2_vector<T>(min(x, V(most_exponent))) & counts);
  }

  // Multiplies a face into the pixels' products of 1 + 2^x.
  template <int n>
  static void multiply(const Cell& cell, T* product) {
    const LaneEdges<n> edges(cell.edges);
    for (const Run* run = cell.runs; run < cell.runs + cell.count; run++) {
      T* p = product + run->pixel;
      const V before = load<T>(p);
      if (!any_lane<T>(before < saturated)) continue;
      const V x = Simd<T>::ramp() + run->x, y = V(run->y);
      EdgeDistance<V> d = edges.distance(0, x, y);
      V squared = d.squared, across = d.across;
#pragma clang loop unroll(full)
      for (int k = 1; k < n; k++) {
        d = edges.distance(k, x, y);
        squared = min(d.squared, squared);
        across = min(d.across, across);
      }
      store(p, min(before + before * exponential(squared, across), V(saturated)));
    }
  }

  // Adds the gradient of a face's corners. weight: |dL/d(squared)| / D at each pixel, zero where it counts for nothing.
  template <int n>
  static void accumulate(const Cell& cell, const T* weight, Vec2* gradient) {
    const LaneEdges<n> edges(cell.edges);
    V rate[n], sum_x[4], sum_y[4];
    for (int k = 0; k < n; k++) rate[k] = cell.edges.r[k];
    for (int k = 0; k < 4; k++) sum_x[k] = sum_y[k] = V(T(0));
    for (const Run* run = cell.runs; run < cell.runs + cell.count; run++) {
      const V w = load<T>(weight + run->pixel);
      if (!any_lane<T>(w != T(0))) continue;
      const V x = Simd<T>::ramp() + run->x, y = V(run->y);
      EdgeDistance<V> d = edges.distance(0, x, y);
      V squared = d.squared, across = d.across, past = d.past, least = d.across, nx = edges.nx[0], ny = edges.ny[0];
      V share[4];  // the nearest point of the outline is the sum of share x corner
      share[1] = d.along * rate[0] + T(0.5), share[0] = T(1) - share[1];
#pragma clang loop unroll(full)
      for (int k = 2; k < n; k++) share[k] = V(T(0));
#pragma clang loop unroll(full)
      for (int k = 1; k < n; k++) {
        d = edges.distance(k, x, y);
        const I closer = d.squared < squared;
        least = min(d.across, least);
        squared = min(d.squared, squared);
        across = closer ? d.across : across;
        past = closer ? d.past : past;
        nx = closer ? edges.nx[k] : nx;
        ny = closer ? edges.ny[k] : ny;
        const V t = d.along * rate[k] + T(0.5);
#pragma clang loop unroll(full)
        for (int j = 0; j < n; j++)
          share[j] = j == k ? (closer ? T(1) - t : share[j]) : j == (k + 1) % n ? (closer ? t : share[j]) : (V)((I)share[j] & ~closer);
      }
      const V e = exponential(squared, least);
      const V g = flip_sign<T>(w * e / (e + T(1)), least);
      const Vector2<V> move = nearest_point_gradient(g, across, past, nx, ny);
#pragma clang loop unroll(full)
      for (int k = 0; k < n; k++) sum_x[k] += move.x * share[k], sum_y[k] += move.y * share[k];
    }
    T x[4], y[4];
    sum_lanes<T>(sum_x[0], sum_x[1], sum_x[2], sum_x[3], x);
    sum_lanes<T>(sum_y[0], sum_y[1], sum_y[2], sum_y[3], y);
    for (int k = 0; k < n; k++) gradient[k].x += x[k], gradient[k].y += y[k];
  }
};

}  // namespace softras::SOFTRAS_ISA
