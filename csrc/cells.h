// SPDX-License-Identifier: MIT
// The pixels that a face may change, and how the face changes them, with SIMD over the pixels of a row.
//
// The rectangle of a face is divided into strips of kCell rows and each strip into cells of kCell columns; within a cell,
// coordinates are small enough for float. Each row of a cell is a sequence of runs. A run is `lanes` neighbouring pixels,
// which one SIMD vector holds, and the first run of a row begins at the first pixel within the cut-off distance. A run may
// extend beyond the image, whose rows are padded for that.
#pragma once
#include "simd.h"
#include "softras_math.h"

namespace softras::SOFTRAS_ISA {

constexpr int kCell = 16;  // pixels: a side of a cell

// A face in one view.
struct Polygon {
  Edges<D4> edges;  // one in each lane; the last lane of a triangle has no meaning
  int corners;      // 3 or 4
  Rect rect;        // the pixels within the cut-off distance of its bounds
};

template <class T>
struct Cells {
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  typedef T T4 __attribute__((ext_vector_type(4)));
  typedef T T8 __attribute__((ext_vector_type(8)));
  static constexpr int lanes = Simd<T>::lanes;
  static constexpr int kRuns = kCell * kCell / lanes;  // the most runs that a cell can have

  struct Run {
    T8 start;       // of the first pixel: its signed distances from the four edges' lines, and its positions along them
    int64_t pixel;  // the index of the first pixel in a padded image
    T x, y;         // the first pixel's centre, from the middle of the cell, in pixels
  };

  // The runs of one cell.
  struct Cell {
    LocalEdges<T4> edges;  // of the face, about the middle of the cell
    const Run* runs;
    int count;             // of the runs
    double x, y;           // the middle of the cell, in pixel coordinates
  };

  static T4 narrow(D4 v) { return __builtin_convertvector(v, T4); }
  // The edges of a face about the point (x, y), computed in double precision.
  static LocalEdges<T4> local(const Polygon& p, double x, double y, const Blur<T>& blur) {
    const LocalEdges<D4> e = localize(p.edges, x, y, blur);
    return {narrow(e.nx), narrow(e.ny), narrow(e.c), narrow(e.e), narrow(e.h), narrow(e.r), narrow(e.t)};
  }

  // Calls draw(cell) for each cell in which the face may change pixels of rows y0 <= y < y1. The borders of the cells
  // depend on the face alone, not on y0 and y1, so that rounding does not depend on the threads.
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

  // For each row of a strip, the first and the last column that lie on the inner side of all edges' lines once these are
  // moved outwards by the cut-off distance. Columns are counted from the first one of the rectangle.
  static void intervals(const Polygon& p, const Rect& r, int y, const Blur<T>& blur, T* first, T* last) {
    const LocalEdges<T4> e = local(p, r.x0 + 0.5, y + 0.5, blur);
    const T huge = T(1e30), flat = T(1e-6 * blur.kappa);
    const T4 inverse = T(1) / e.nx;
    const T4 slope = -e.ny * inverse, offset = -(e.c + blur.cutoff) * inverse;
    const auto left = e.nx > flat, right = e.nx < -flat;  // a line that is nearly horizontal bounds no row
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
      // Where numbers have overflowed the row is left empty, so that no pixel outside of the rectangle is ever touched.
      const I fits = (low >= T(0)) & (high <= T(r.x1 - r.x0));
      store(first + row, V(fits ? V(__builtin_elementwise_ceil(low)) : V(huge)));
      store(last + row, V(__builtin_elementwise_floor(high)));
    }
  }

  // What each lane of a run adds to the distances and positions that Run::start has for the first lane.
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

  // 2^x of a run's pixels, and zero where the face does not count. x is the squared distance, negative outside of the face.
  static V exponential(V x) {
    const I counts = x > T(-kCutoffLog2);
    return (V)((I)exp2_vector<T>(smaller(x, V(kMostExponent<T>))) & counts);
  }

  // x of a run's pixels: the squared distance from the nearest edge, in units of the blur, negative outside of the face.
  template <int n>
  static V signed_square(const LaneEdges<n>& edge, const Run& run) {
    const T* start = (const T*)&run.start;
    V squared, across;
#pragma clang loop unroll(full)
    for (int k = 0; k < n; k++) {
      const V a = edge.across[k] + start[k], s = squared_distance(a, edge.position[k] + start[4 + k], edge.half[k]);
      squared = k == 0 ? s : smaller(s, squared);
      across = k == 0 ? a : (V)((I)a | (I)across);  // the sign bit is set if one of the distances is negative
    }
    return flip_sign<T>(squared, across);
  }

  // The functions below work on a cell in several loops over its runs, because a processor executes more runs ahead when
  // each loop does little.

  // Multiplies the product of each pixel by the face's 1 + 2^x, up to where the pixel counts as opaque.
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

  // The edges in the form that search() needs.
  template <int n>
  struct OutlineEdges : LaneEdges<n> {
    V rate[n], middle[n], nx[n], ny[n];

    explicit OutlineEdges(const LocalEdges<T4>& e) : LaneEdges<n>(e) {
#pragma clang loop unroll(full)
      for (int k = 0; k < n; k++) rate[k] = e.r[k], middle[k] = e.t[k], nx[k] = e.nx[k], ny[k] = e.ny[k];
    }
  };

  // Finds the point of the outline nearest to each pixel of a run, and returns x, as signed_square() does. For edge
  // k = 0, 1, ... it calls take(k, closer, across, past, t): `closer` marks the pixels that are nearer to this edge than to
  // all edges before it, and t, from 0 at corner k to 1 at corner k + 1, is where on the edge the nearest point lies.
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

  // For each pixel of a run, the nearest point of the outline.
  template <int n>
  struct Nearest {
    V x;              // as signed_square() returns it
    V nx, ny;         // the normal of the edge on which the point lies
    V across, past;   // the pixel's distances from that edge, as softras_math.h defines them
    V share[n];       // the point is the sum of the corners times these numbers
    const T* weight;  // of the first pixel, see accumulate()

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

  // Sums up the gradient with respect to the corners of a face.
  template <int n>
  struct CornerSums {
    V x[4], y[4];
    CornerSums() {
      for (int k = 0; k < 4; k++) x[k] = y[k] = V(T(0));
    }
    // g: the derivative of the loss with respect to the squared distance.
    void add(const Nearest<n>& at, V g) {
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

  // Adds to the gradient with respect to the corners of a face. weight: at each pixel the derivative of the loss with
  // respect to x, divided by the face's coverage D; zero where the pixel has no gradient.
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

  // How the alpha of a run's pixels changes when the corners of a face move: by first times one motion plus second times
  // another one. Which two is told by `pair`. Pair k, for a pixel whose nearest point lies within edge k, is the motions of
  // corners k and k + 1 along the normal of that edge. Pair n + k, for a pixel nearest to corner k, is the motions of that
  // corner in x and in y.
  struct Pull {
    V first, second;
    I pair;
    int64_t pixel;  // the index of the run's first pixel in a padded image
  };

  // Finds the pulls on the runs of a cell that have a pixel of weight other than zero; returns how many runs. weight: at
  // each pixel d alpha / dx divided by the face's coverage D, or zero.
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
