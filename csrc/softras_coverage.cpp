// SPDX-License-Identifier: MIT
// Exact coverage on the CPU. Vertices are projected, faces get their signs, edges between faces of different signs become
// the contour; bands of rows are swept from top to bottom, slab by slab between successive ends and crossings, where the
// order of the contour edges does not change. What the silhouette's outline leaves in pixels is kept for the derivatives,
// which then cost nothing beside the rest.
// Compiled once for every instruction set, as softras_cpu.cpp is; any number of threads gives the same bits.
#include <stdlib.h>
#include <string.h>

#include "coverage.h"
#include "memory.h"
#include "softras.h"
#include "team.h"

namespace softras::SOFTRAS_ISA {
namespace {

constexpr int kBand = 32;          // rows of a band: the same for any number of threads, since it orders the pieces
constexpr double kClose = 1e-12;   // pixels that rounding may make of no distance
constexpr int kDeepest = 60;       // times a slab is halved at most

// A list that grows.
template <class X>
struct List {
  X* data;
  int64_t count, capacity;

  // False: no memory.
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
};

// What is kept of a view for its derivatives.
struct Kept {
  List<Contour> contours;
  List<Piece>* bands;  // the pieces of each band of rows
  int64_t band_count;

  int64_t pieces() const {
    int64_t n = 0;
    for (int64_t b = 0; b < band_count; b++) n += bands[b].count;
    return n;
  }
  void clear() {
    contours.clear();
    for (int64_t b = 0; b < band_count; b++) bands[b].clear();
    free(bands), bands = nullptr, band_count = 0;
  }
};

struct Result {
  int64_t views;
  Kept* kept;
};

// A contour edge that crosses the present slab, and its x at the slab's top and bottom.
struct Active {
  int contour;
  double top, bottom;
};

// Stable order by the upper end.
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
  int width;
  T* rows;              // alpha of the band's first row
  int first_row, last_row;  // of the band, the last one exclusive
  int64_t image;        // the first pixel of the view
  List<Piece>* pieces;  // null: none are kept
  bool failed = false;

  Buffer<double> sums;       // width + 2: what a row's pixels differ from those left of them
  Buffer<uint64_t> touched;  // a bit for each of them
  Buffer<Active> active;
  Buffer<double> events, scratch, least_left;

  // order: all contour edges by their upper ends.
  void run(const int* order, int64_t n) {
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
      return;
    }
    memset(sums.data, 0, (width + 2) * sizeof(double));
    memset(touched.data, 0, words * sizeof(uint64_t));
    double lowest = top;
    for (int64_t i = 0; i < n; i++) {  // lower ends, which have no order yet
      const Contour& c = contours[order[i]];
      if (c.y[0] >= bottom) break;
      if (c.y[1] <= top) continue;
      if (c.y[1] < bottom) scratch[ends++] = c.y[1];
      lowest = max(lowest, min(c.y[1], bottom));
    }
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
        if (c.y[1] > ya && min(c.x[0], c.x[1]) < width) active[now++] = {order[next], 0.0, place(c, ya)};
      }
      if (now == 0) continue;
      for (int64_t q = 0; q < now; q++)
        active[q].top = active[q].bottom, active[q].bottom = place(contours[active[q].contour], yb);
      slab(active.data, now, ya, yb, row, 0, 0);
    }
    for (; row < last_row; row++) finish_row(row);
  }

  // Where a contour edge is at a height. Left of the image only its winding matters, and not where it is.
  static double place(const Contour& c, double y) { return max(c.x[0], c.x[1]) <= 0 ? -1.0 : x_at(c, y); }

  // The events: upper ends, the given number of lower ends in scratch, and the borders of the rows, in order.
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

  // A part of a row between two heights: the contour edges in their order there, cut where they cross.
  void slab(Active* a, int64_t n, double ya, double yb, int row, int winding, int depth) {
    if (n == 2 && winding == 0) {  // most slabs: an edge that enters and one that leaves
      const bool ordered = a[0].top <= a[1].top && a[0].bottom <= a[1].bottom;
      if (ordered && contours[a[0].contour].wind + contours[a[1].contour].wind == 0 &&
          a[0].top + a[0].bottom < a[1].top + a[1].bottom)
        return add(a[0], ya, yb, row, 1.0), add(a[1], ya, yb, row, -1.0);
    }
    for (int64_t i = 1; i < n; i++) {  // they are nearly in order
      const Active moved = a[i];
      const double middle = moved.top + moved.bottom;
      const int wind = contours[moved.contour].wind;
      int64_t j = i - 1;
      for (; j >= 0; j--) {
        const double other = a[j].top + a[j].bottom;
        // Of coincident edges those that enter come first: a silhouette's parts that touch are one.
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
      // A group: edges whose ranges of x overlap, so that they may cross.
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

  static double least_of(const Active* a, int64_t begin, int64_t end) {
    double least = 1e300;
    for (int64_t i = begin; i < end; i++) least = min(least, min(a[i].top, a[i].bottom));
    return least;
  }

  // The crossing of two neighbours that lies nearest the middle of the slab. False: there is none.
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

  // Both halves of a group's slab; returns the winding number behind it.
  int split(const Active* a, int64_t n, double ya, double y, double yb, int row, int winding, int depth) {
    Buffer<Active> halves;
    if (!halves.reserve(2 * n)) return failed = true, winding;
    Active *upper = halves.data, *lower = halves.data + n;
    int after = winding;
    for (int64_t q = 0; q < n; q++) {
      const Contour& c = contours[a[q].contour];
      const double x = place(c, y);
      upper[q] = lower[q] = a[q];
      upper[q].bottom = lower[q].top = x;
      after += c.wind;
    }
    slab(upper, n, ya, y, row, winding, depth + 1);
    slab(lower, n, y, yb, row, winding, depth + 1);
    return after;
  }

  // A part of the outline. side: 1 where the silhouette lies to its right.
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

// What the members share of the view they work on.
struct View {
  Buffer<Vec2> pixel;   // V: where in front of the near plane
  Buffer<bool> front;   // V
  Buffer<int8_t> sign;  // F: of the projected area, 0 where nothing counts
  Buffer<int> order, scratch;
  List<Contour> found[kMaxThreads], near[kMaxThreads];  // by member, in the order of edges and of faces
  int64_t next_band;
  bool clips;  // some vertex is not in front

  void clear(int size) {
    for (int rank = 0; rank < size; rank++) found[rank].clear(), near[rank].clear();
  }
};

template <class T>
struct Coverage {
  const softras_coverage_call& coverage;
  const softras_call& call;
  Result* result;  // null: nothing is kept
  int status = SOFTRAS_OK;

  Coverage(const softras_coverage_call& c, Result* r) : coverage(c), call(c.scene), result(r) {}

  void fail(int code) {
    int expected = SOFTRAS_OK;
    __atomic_compare_exchange_n(&status, &expected, code, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  }

  Vec3 position(int view, int64_t v) const {
    const T* p = (const T*)call.positions + 3 * (v + (call.shared_vertices ? 0 : (int64_t)view * call.vertices));
    return {p[0], p[1], p[2]};
  }
  Camera camera(int view) const {
    Camera c;
    const T* k = (const T*)call.intrinsics + 9 * view;
    const T* m = (const T*)call.world_to_camera + 16 * view;
    for (int i = 0; i < 6; i++) c.k[i] = k[i];
    for (int i = 0; i < 12; i++) c.m[i] = m[i];
    c.near = call.near_planes[view];
    c.orthographic = call.orthographic[view] != 0;
    return c;
  }

  void run() {
    if (!current()) return fail(SOFTRAS_STALE_TOPOLOGY);
    Team team;
    const int64_t work = (int64_t)call.views * (call.faces + (int64_t)call.height * call.width / 64) / 8192;
    team.size = (int)max(int64_t(1), min(min(work, int64_t(call.threads)), int64_t(kMaxThreads)));
    View* shared = (View*)calloc(1, sizeof(View));
    if (!shared) return fail(SOFTRAS_OUT_OF_MEMORY);
    int64_t next_view = 0;
    auto member = [&](int rank) {
      if (team.size <= call.views) {
        Team alone;
        View* own = (View*)calloc(1, sizeof(View));
        if (!own) return fail(SOFTRAS_OUT_OF_MEMORY);
        for (int64_t view; (view = take(next_view)) < call.views && render((int)view, *own, alone, 0);) {
        }
        destroy(own);
      } else {
        for (int view = 0; view < call.views && render(view, *shared, team, rank); view++) {
        }
      }
    };
    run_team(team, member);
    destroy(shared);
  }

  static void destroy(View* w) {
    w->clear(kMaxThreads);
    w->~View();
    free(w);
  }

  // Whether the topology is of these faces, and vertices that it takes for one are still in one place.
  bool current() const {
    const size_t bytes = 3 * (size_t)call.faces * (call.wide_indices ? 8 : 4);
    if (memcmp(call.face_indices, coverage.source_faces, bytes) != 0) return false;
    const int sets = call.shared_vertices ? 1 : call.views;
    for (int view = 0; view < sets; view++)
      for (int64_t g = 0; g < coverage.groups; g++) {
        const Vec3 p = position(view, coverage.copies[coverage.group_ends[g]]);
        for (int64_t i = coverage.group_ends[g] + 1; i < coverage.group_ends[g + 1]; i++) {
          const Vec3 q = position(view, coverage.copies[i]);
          if (p.x != q.x || p.y != q.y || p.z != q.z) return false;
        }
      }
    return true;
  }

  // The members meet after each phase. False: something failed, and all of them leave at the same barrier.
  bool render(int view, View& w, Team& team, int rank) {
    const Camera cam = camera(view);
    const int64_t bands = (call.height + kBand - 1) / kBand;
    Kept scrap = {};
    Kept& kept = result ? result->kept[view] : scrap;
    if (rank == 0) {
      for (double k : cam.k)
        if (!__builtin_isfinite(k)) fail(SOFTRAS_BAD_INTRINSICS);
      for (double m : cam.m)
        if (!__builtin_isfinite(m)) fail(SOFTRAS_BAD_WORLD_TO_CAMERA);
      if (!w.pixel.reserve(call.vertices) || !w.front.reserve(call.vertices) || !w.sign.reserve(call.faces))
        fail(SOFTRAS_OUT_OF_MEMORY);
      w.next_band = 0, w.clips = false;
      if (result) {
        kept.bands = (List<Piece>*)calloc(bands, sizeof(List<Piece>));
        kept.band_count = kept.bands ? bands : 0;
        if (!kept.bands) fail(SOFTRAS_OUT_OF_MEMORY);
      }
    }
    if (team.barrier(status)) return false;
    transform(view, cam, w, share(call.vertices, rank, team.size));
    if (team.barrier(status)) return false;
    signs(view, cam, w, share(call.faces, rank, team.size), w.near[rank]);
    if (team.barrier(status)) return false;
    w.found[rank].count = 0;
    find_contours(view, cam, w, share(coverage.pairs, rank, team.size), w.found[rank]);
    if (team.barrier(status)) return false;
    if (rank == 0) join(view, cam, w, team.size, kept.contours);
    if (team.barrier(status)) return false;
    // Where nothing is kept the contour is rank 0's; the others read it through the first member's list.
    const List<Contour>& contours = result ? kept.contours : w.found[0];
    Sweep<T> sweep;
    for (int64_t band; (band = take(w.next_band)) < bands;) {
      sweep.contours = contours.data, sweep.width = call.width;
      sweep.first_row = (int)band * kBand, sweep.last_row = min((int)(band + 1) * kBand, call.height);
      sweep.image = (int64_t)view * call.height * call.width;
      sweep.rows = (T*)call.alpha + sweep.image + (int64_t)sweep.first_row * call.width;
      sweep.pieces = result ? kept.bands + band : nullptr;
      sweep.run(w.order.data, contours.count);
      if (sweep.failed) fail(SOFTRAS_OUT_OF_MEMORY);
    }
    return !team.barrier(status);
  }

  void transform(int view, const Camera& cam, View& w, Share s) {
    bool finite = true, clips = false;
    for (int64_t v = s.begin; v < s.end; v++) {
      const Vec3 p = position(view, v), c = to_camera(cam, p);
      finite &= __builtin_isfinite(p.x) && __builtin_isfinite(p.y) && __builtin_isfinite(p.z);
      w.pixel[v] = project(cam, c);
      const bool front = c.z > cam.near;
      w.front[v] = front;
      clips |= !front;
    }
    if (!finite) fail(SOFTRAS_BAD_POSITIONS);
    if (clips) __atomic_store_n(&w.clips, true, __ATOMIC_RELAXED);
  }

  int sign_of(double area2) const { return area2 == 0 || (call.cull && area2 > 0) ? 0 : area2 > 0 ? 1 : -1; }

  void signs(int view, const Camera& cam, View& w, Share s, List<Contour>& near) {
    near.count = 0;
    const int32_t* faces = coverage.faces;
    const Vec2* pixel = w.pixel.data;
    const bool clips = w.clips;
    for (int64_t f = s.begin; f < s.end; f++) {
      const int32_t a = faces[3 * f], b = faces[3 * f + 1], c = faces[3 * f + 2];
      if (clips && !(w.front[a] && w.front[b] && w.front[c])) {
        w.sign[f] = (int8_t)clipped_sign(view, cam, faces + 3 * f, near);
        continue;
      }
      w.sign[f] = (int8_t)sign_of(cross(pixel[b] - pixel[a], pixel[c] - pixel[a]));
    }
  }

  // The sign of a face that is not whole in front of the near plane; its edge in that plane is contour.
  int clipped_sign(int view, const Camera& cam, const int32_t* vertex, List<Contour>& near) {
    Vec3 point[3];
    for (int k = 0; k < 3; k++) point[k] = to_camera(cam, position(view, vertex[k]));
    Corner corner[4];
    const int n = clip_near(point, cam.near, corner);
    if (n < 3) return 0;
    Vec2 pixel[4];
    for (int k = 0; k < n; k++) pixel[k] = project(cam, corner_point(point, corner[k]));
    const int sign = sign_of(doubled_area(pixel, n));
    for (int k = 0; k < n && sign != 0; k++) {
      const int next = k + 1 == n ? 0 : k + 1;
      if (corner[k].a == corner[k].b || corner[next].a == corner[next].b) continue;
      const End from = {vertex[corner[k].a], vertex[corner[k].b], corner[k].s};
      const End to = {vertex[corner[next].a], vertex[corner[next].b], corner[next].s};
      Contour c;
      if (make_contour(pixel[k], pixel[next], from, to, sign, c) && !near.push(c)) fail(SOFTRAS_OUT_OF_MEMORY);
    }
    return sign;
  }

  // Adds the part of edge a-b in front of the near plane, traversed net times from a to b.
  void add_edge(int view, const Camera& cam, const View& w, int32_t a, int32_t b, int net, List<Contour>& out) {
    Contour c;
    bool any;
    const bool front_a = w.front[a], front_b = w.front[b];
    if (front_a && front_b) {
      any = make_contour(w.pixel[a], w.pixel[b], {a, a, 0.0}, {b, b, 0.0}, net, c);
    } else if (front_a || front_b) {
      const int32_t in = front_a ? a : b, behind = front_a ? b : a;
      const Vec3 point[2] = {to_camera(cam, position(view, in)), to_camera(cam, position(view, behind))};
      const Corner cut = {0, 1, (cam.near - point[0].z) / (point[1].z - point[0].z)};
      const Vec2 at = project(cam, corner_point(point, cut));
      any = make_contour(w.pixel[in], at, {in, in, 0.0}, {in, behind, cut.s}, front_a ? net : -net, c);
    } else {
      return;
    }
    if (any && c.y[1] > 0 && c.y[0] < call.height && !out.push(c)) fail(SOFTRAS_OUT_OF_MEMORY);
  }

  // The edges that two faces traverse in opposite directions.
  void find_contours(int view, const Camera& cam, const View& w, Share s, List<Contour>& out) {
    constexpr int kBlock = 256;
    const int32_t* pair = coverage.pair_edges;
    const int8_t* sign = w.sign.data;
    int32_t hits[kBlock];
    for (int64_t begin = s.begin; begin < s.end; begin += kBlock) {
      const int n = (int)min(s.end - begin, int64_t(kBlock));
      int count = 0;
      for (int i = 0; i < n; i++) {  // without branches: nearly all edges are no contour
        const int32_t* e = pair + 4 * (begin + i);
        hits[count] = i;
        count += sign[e[2]] != sign[e[3]];
      }
      for (int i = 0; i < count; i++) {
        const int32_t* e = pair + 4 * (begin + hits[i]);
        add_edge(view, cam, w, e[0], e[1], sign[e[2]] - sign[e[3]], out);
      }
    }
  }

  // All contours of the view, in an order that does not depend on the members, and their order from top to bottom.
  void join(int view, const Camera& cam, View& w, int size, List<Contour>& kept) {
    List<Contour>& all = result ? kept : w.found[0];
    if (result) append(all, w.found[0]);
    for (int rank = 1; rank < size; rank++) append(all, w.found[rank]);
    for (int64_t e = 0; e < coverage.others; e++) {
      int net = 0;
      for (int64_t i = coverage.other_ends[e]; i < coverage.other_ends[e + 1]; i++)
        net += coverage.other_directions[i] * w.sign[coverage.other_faces[i]];
      if (net != 0) add_edge(view, cam, w, coverage.other_edges[2 * e], coverage.other_edges[2 * e + 1], net, all);
    }
    for (int rank = 0; rank < size; rank++) append(all, w.near[rank]);
    if (!w.order.reserve(all.count) || !w.scratch.reserve(all.count)) return fail(SOFTRAS_OUT_OF_MEMORY);
    order(all.data, w.order.data, w.scratch.data, all.count);
  }

  void append(List<Contour>& to, const List<Contour>& from) {
    for (int64_t i = 0; i < from.count; i++)
      if (!to.push(from.data[i])) return fail(SOFTRAS_OUT_OF_MEMORY);
  }
};

// ------------------------------------------------------------------------------------------------ derivatives

// One view's share of what was kept.
struct Slice {
  const Contour* contours;
  const Piece* pieces;
  int64_t contour_count, piece_count;
};

inline Slice slice(const softras_coverage_call& c, int view) {
  Slice s = {(const Contour*)c.contours, (const Piece*)c.pieces, 0, 0};
  for (int v = 0; v < view; v++) s.contours += c.counts[2 * v], s.pieces += c.counts[2 * v + 1];
  s.contour_count = c.counts[2 * view], s.piece_count = c.counts[2 * view + 1];
  return s;
}

template <class T>
int backward(const softras_coverage_call& coverage) {
  const softras_call& call = coverage.scene;
  const Coverage<T> scene(coverage, nullptr);
  const int64_t sets = call.shared_vertices ? 1 : call.views;
  T* positions = (T*)call.grad_positions;
  memset(positions, 0, sets * call.vertices * 3 * sizeof(T));
  Buffer<double> weight;
  for (int view = 0; view < call.views; view++) {
    const Slice s = slice(coverage, view);
    const Camera cam = scene.camera(view);
    const T* grad = (const T*)call.grad_alpha + (int64_t)view * call.height * call.width;
    double gk[6] = {}, gm[12] = {};
    if (!weight.reserve(2 * s.contour_count)) return SOFTRAS_OUT_OF_MEMORY;
    memset(weight.data, 0, 2 * s.contour_count * sizeof(double));
    for (int64_t i = 0; i < s.piece_count; i++) {
      const Piece& p = s.pieces[i];
      const double g = grad[p.pixel];
      weight[2 * p.contour] += g * p.w[0], weight[2 * p.contour + 1] += g * p.w[1];
    }
    T* out = positions + (call.shared_vertices ? 0 : 3 * (int64_t)view * call.vertices);
    for (int64_t i = 0; i < s.contour_count; i++) {
      const Contour& c = s.contours[i];
      const Vec2 slope = end_slope(c);
      for (int k = 0; k < 2; k++) {
        const double g = weight[2 * i + k];
        if (g == 0) continue;
        const End& end = c.end[k];
        const Vec3 world[2] = {scene.position(view, end.a), scene.position(view, end.b)};
        const Vec3 point[2] = {to_camera(cam, world[0]), to_camera(cam, world[1])};
        const int ends = end.a == end.b ? 1 : 2;
        const Corner corner = {0, ends - 1, end.s};
        Vec3 gv[2] = {};
        const Vec2 pixel = {g * slope.x, g * slope.y};
        corner_backward(point, corner, project_backward(cam, corner_point(point, corner), pixel, gk), gv);
        for (int e = 0; e < ends; e++) {
          const Vec3 moved = to_camera_backward(cam, world[e], gv[e], gm);
          T* at = out + 3 * (int64_t)(e ? end.b : end.a);
          at[0] += T(moved.x), at[1] += T(moved.y), at[2] += T(moved.z);
        }
      }
    }
    T* k = (T*)call.grad_intrinsics + 9 * view;
    T* m = (T*)call.grad_world_to_camera + 16 * view;
    for (int i = 0; i < 9; i++) k[i] = i < 6 ? T(gk[i]) : T(0);
    for (int i = 0; i < 16; i++) m[i] = i < 12 ? T(gm[i]) : T(0);
  }
  // The first vertex of each group of coincident ones has the gradient of all: each is given its share.
  for (int64_t set = 0; set < sets; set++)
    for (int64_t g = 0; g < coverage.groups; g++) {
      const int64_t begin = coverage.group_ends[g], end = coverage.group_ends[g + 1];
      const T* first = positions + 3 * (set * call.vertices + coverage.copies[begin]);
      const T x = first[0] / T(end - begin), y = first[1] / T(end - begin), z = first[2] / T(end - begin);
      for (int64_t i = begin; i < end; i++) {
        T* at = positions + 3 * (set * call.vertices + coverage.copies[i]);
        at[0] = x, at[1] = y, at[2] = z;
      }
    }
  return SOFTRAS_OK;
}

// Adds by_u * rows to x and by_v * rows to y: n rows of P numbers.
template <class T>
void combine(int n, const double* by_u, const double* by_v, const T* rows, int64_t P, double gx, double gy, double* out) {
  for (int i = 0; i < n; i++) {
    const double g = gx * by_u[i] + gy * by_v[i];
    if (g == 0) continue;
    for (int64_t p = 0; p < P; p++) out[p] += g * rows[i * P + p];
  }
}

template <class T>
int jacobian(const softras_coverage_call& coverage) {
  const softras_call& call = coverage.scene;
  const Coverage<T> scene(coverage, nullptr);
  const int64_t P = coverage.parameters;
  T* rows = (T*)coverage.rows;
  memset(rows, 0, coverage.row_count * P * sizeof(T));
  Buffer<double> motion;
  Buffer<bool> known;
  const T *dv = (const T*)coverage.d_positions, *dk = (const T*)coverage.d_intrinsics;
  const T* dm = (const T*)coverage.d_world_to_camera;
  for (int view = 0; view < call.views; view++) {
    const Slice s = slice(coverage, view);
    const Camera cam = scene.camera(view);
    const int32_t* row_of = coverage.row_of_piece + (s.pieces - (const Piece*)coverage.pieces);
    if (!motion.reserve(2 * P * s.contour_count) || !known.reserve(s.contour_count)) return SOFTRAS_OUT_OF_MEMORY;
    memset(known.data, 0, s.contour_count);
    for (int64_t i = 0; i < s.piece_count; i++) {
      const Piece& piece = s.pieces[i];
      double* moved = motion.data + 2 * P * piece.contour;
      if (!known[piece.contour]) {
        known[piece.contour] = true;
        const Contour& c = s.contours[piece.contour];
        const Vec2 slope = end_slope(c);
        memset(moved, 0, 2 * P * sizeof(double));
        for (int k = 0; k < 2; k++) {
          const End& end = c.end[k];
          double u[kSlope] = {}, v[kSlope] = {};
          const Vec3 a = scene.position(view, end.a), b = scene.position(view, end.b);
          corner_slope(cam, 0, {end.a, end.b, end.s}, a, b, u);
          corner_slope(cam, 1, {end.a, end.b, end.s}, a, b, v);
          const int64_t base = call.shared_vertices ? 0 : (int64_t)view * call.vertices;
          double* out = moved + k * P;
          if (dv) combine<T>(3, u, v, dv + 3 * P * (base + end.a), P, slope.x, slope.y, out);
          if (dv && end.a != end.b) combine<T>(3, u + 3, v + 3, dv + 3 * P * (base + end.b), P, slope.x, slope.y, out);
          if (dk) combine<T>(6, u + kSlopeIntrinsics, v + kSlopeIntrinsics, dk + 9 * P * view, P, slope.x, slope.y, out);
          if (dm) combine<T>(12, u + kSlopeMatrix, v + kSlopeMatrix, dm + 16 * P * view, P, slope.x, slope.y, out);
        }
      }
      T* row = rows + row_of[i] * P;
      for (int64_t p = 0; p < P; p++) row[p] += T(piece.w[0] * moved[p] + piece.w[1] * moved[P + p]);
    }
  }
  return SOFTRAS_OK;
}

void discard(Result* result) {
  if (!result) return;
  for (int64_t v = 0; result->kept && v < result->views; v++) result->kept[v].clear();
  free(result->kept);
  free(result);
}

template <class T>
int forward(softras_coverage_call* c) {
  Result* result = nullptr;
  if (c->keep) {
    result = (Result*)calloc(1, sizeof(Result));
    if (result) result->views = c->scene.views, result->kept = (Kept*)calloc(max(c->scene.views, 1), sizeof(Kept));
    if (!result || !result->kept) return discard(result), SOFTRAS_OUT_OF_MEMORY;
  }
  Coverage<T> renderer(*c, result);
  renderer.run();
  if (renderer.status != SOFTRAS_OK) return discard(result), renderer.status;
  for (int64_t v = 0; result && v < result->views; v++) {
    c->counts[2 * v] = result->kept[v].contours.count;
    c->counts[2 * v + 1] = result->kept[v].pieces();
  }
  c->kept = result;
  return SOFTRAS_OK;
}

// Copies what was kept into contours and pieces, unless they are null, and gives its memory back.
int take_kept(softras_coverage_call* c) {
  Result* result = (Result*)c->kept;
  Contour* contours = (Contour*)c->contours;
  Piece* pieces = (Piece*)c->pieces;
  for (int64_t v = 0; result && contours && v < result->views; v++) {
    const Kept& k = result->kept[v];
    if (k.contours.count) memcpy(contours, k.contours.data, k.contours.count * sizeof(Contour));
    contours += k.contours.count;
    for (int64_t b = 0; b < k.band_count; b++) {
      if (k.bands[b].count) memcpy(pieces, k.bands[b].data, k.bands[b].count * sizeof(Piece));
      pieces += k.bands[b].count;
    }
  }
  discard(result);
  c->kept = nullptr;
  return SOFTRAS_OK;
}

template <class T>
int coverage(softras_coverage_call* c) {
  switch (c->mode) {
    case SOFTRAS_COVERAGE_FORWARD: return forward<T>(c);
    case SOFTRAS_COVERAGE_TAKE: return take_kept(c);
    case SOFTRAS_COVERAGE_BACKWARD: return backward<T>(*c);
    default: return jacobian<T>(*c);
  }
}

}  // namespace
}  // namespace softras::SOFTRAS_ISA

#define SR_JOIN_(a, b) a##b
#define SR_JOIN(a, b) SR_JOIN_(a, b)
#define SR_ENTRY(name) SR_JOIN(name##_, SOFTRAS_ISA)

extern "C" int SR_ENTRY(softras_coverage_float32)(softras_coverage_call* call) {
  return softras::SOFTRAS_ISA::coverage<float>(call);
}
extern "C" int SR_ENTRY(softras_coverage_float64)(softras_coverage_call* call) {
  return softras::SOFTRAS_ISA::coverage<double>(call);
}
