// SPDX-License-Identifier: MIT
// One mesh in its views: what drawing silhouettes and taking their derivatives share. Vertices become pixels and faces
// polygons; a team of threads shares the views, or the phases and bands of rows of each.
#pragma once
#include <string.h>

#include "cells.h"
#include "memory.h"
#include "softras.h"
#include "team.h"

namespace softras::SOFTRAS_ISA {

struct Projected {
  Vec2 pixel;  // where z > near
  double z;
};

constexpr int64_t kFacesOfAThread = 2048;  // small faces that take about as long to draw as a thread takes to start
constexpr int kStrip = 8;  // rows: the least that a member draws; pixels of a tile, each way

struct Rows {
  int32_t y0, y1;  // inclusive; y0 > y1: none
};

// What a team keeps of one view.
struct InView {
  Buffer<Projected> projected;  // V
  Buffer<Rows> rows;            // F: the rows each face reaches
  Rect hull;                    // of the vertices, in pixels
  bool everywhere;              // they have none: some are not in front of the camera
  int32_t least, greatest;      // depth of those that are, from the near plane, see order_of_depth
  int64_t next_band = 0;
};

enum Kind : int32_t { kUnseen, kWhole, kClipped };

struct Face {
  int64_t vertex[3];
  Outline outline;  // of a whole face only the pixels
  Kind kind;
  Bounds bounds;
  Rect rect;
};

// Depths from the near plane as whole numbers that compare as they do, and are spread like their logarithms.
inline int32_t order_of_depth(double z) {
  const float rounded = z > 0 ? (float)z : 0.0f;
  int32_t bits;
  memcpy(&bits, &rounded, sizeof(bits));
  return bits;
}

// Row y of an output: value(x) at the pixels that faces may reach, and `beside` at the others.
template <class X, class Value>
inline void fill_row(X* row, int64_t width, int64_t y, const Rect& reached, X beside, Value value) {
  const bool none = y < reached.y0 || y > reached.y1;
  const int64_t begin = none ? width : reached.x0, end = none ? width : reached.x1 + 1;
  for (int64_t x = 0; x < begin; x++) row[x] = beside;
  for (int64_t x = begin; x < end; x++) row[x] = value(x);
  for (int64_t x = end; x < width; x++) row[x] = beside;
}

template <class T>
struct Scene {
  using C = Cells<T>;

  const softras_call& call;
  int status = SOFTRAS_OK;
  Blur<T> blur;
  double growth = 0;  // how much farther a face reaches, in its extents
  int64_t stride;     // of a padded image

  explicit Scene(const softras_call& c)
      : call(c), blur(blur_of<T>(c.sigma, c.height, c.width)), stride(c.width + C::lanes) {}

  void fail(int code) {
    int expected = SOFTRAS_OK;
    __atomic_compare_exchange_n(&status, &expected, code, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  }

  int64_t index(int64_t i) const {
    return call.wide_indices ? ((const int64_t*)call.face_indices)[i] : ((const int32_t*)call.face_indices)[i];
  }
  // Where a vertex is among the positions of a view.
  int64_t place(int view, int64_t v) const { return v + (call.shared_vertices ? 0 : (int64_t)view * call.vertices); }
  Vec3 position(int view, int64_t v) const {
    const T* p = (const T*)call.positions + 3 * place(view, v);
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

  // ------------------------------------------------------------------------------------------ the team's work

  // All views: a view a member where there are enough, else all members on one after another. render(view, workspace,
  // team, rank) says whether to go on; the members meet at its barriers, and then call finish(rank, size).
  template <class Workspace, class Render, class Finish>
  void run(int64_t work, Render render, Finish finish) {
    Team team;
    team.size = team_size(work, kFacesOfAThread, call.threads);
    Workspace shared;
    int64_t next_view = 0;
    auto member = [&](int rank) {
      if (team.size <= call.views) {
        Team alone;
        Workspace own;
        for (int64_t view; (view = take(next_view)) < call.views && render((int)view, own, alone, 0);) {
        }
      } else {
        for (int view = 0; view < call.views && render(view, shared, team, rank); view++) {
        }
      }
      if (!team.barrier(status)) finish(rank, team.size);
    };
    run_team(team, member);
  }

  // What there is to do, in faces.
  int64_t size() const { return call.views * (call.faces + (int64_t)call.height * call.width / 8); }

  // The bands of rows of a view, of which each is one member's.
  int bands(const Team& team) const { return team.size == 1 ? 1 : (int)min(strips(), int64_t(8 * team.size)); }
  int64_t strips() const { return (call.height + kStrip - 1) / kStrip; }

  // A share of the image's rows, in whole strips.
  Share share_rows(int rank, int size) const {
    const Share s = share(strips(), rank, size);
    return {kStrip * s.begin, min(kStrip * s.end, int64_t(call.height))};
  }

  void check_camera(const Camera& c) {
    for (double k : c.k)
      if (!__builtin_isfinite(k)) fail(SOFTRAS_BAD_INTRINSICS);
    for (double m : c.m)
      if (!__builtin_isfinite(m)) fail(SOFTRAS_BAD_WORLD_TO_CAMERA);
  }

  // What the members know of a view before they begin.
  void begin(InView& w) const {
    w.hull = {INT32_MAX, INT32_MAX, INT32_MIN, INT32_MIN}, w.everywhere = growth > 0;
    w.least = INT32_MAX, w.greatest = 0, w.next_band = 0;
  }

  void transform(int view, const Camera& cam, InView& w, Share s) {
    bool finite = true, everywhere = false;
    Bounds b = {1e9, 1e9, -1e9, -1e9};
    int32_t least = INT32_MAX, greatest = 0;
    for (int64_t v = s.begin; v < s.end; v++) {
      const Vec3 p = position(view, v), c = to_camera(cam, p);
      finite &= __builtin_isfinite(p.x) && __builtin_isfinite(p.y) && __builtin_isfinite(p.z);
      const Vec2 q = project(cam, c);
      w.projected[v] = {q, c.z};
      if (!(c.z > cam.near && q.x > -1e9 && q.x < 1e9 && q.y > -1e9 && q.y < 1e9)) {
        everywhere = true;
        continue;
      }
      b = {min(b.x0, q.x), min(b.y0, q.y), max(b.x1, q.x), max(b.y1, q.y)};
      const int32_t order = order_of_depth(c.z - cam.near);
      least = min(least, order), greatest = max(greatest, order);
    }
    if (!finite) fail(SOFTRAS_BAD_POSITIONS);
    if (everywhere) __atomic_store_n(&w.everywhere, true, __ATOMIC_RELAXED);
    __atomic_fetch_min(&w.hull.x0, (int)round_down(b.x0), __ATOMIC_RELAXED);
    __atomic_fetch_min(&w.hull.y0, (int)round_down(b.y0), __ATOMIC_RELAXED);
    __atomic_fetch_max(&w.hull.x1, (int)round_up(b.x1), __ATOMIC_RELAXED);
    __atomic_fetch_max(&w.hull.y1, (int)round_up(b.y1), __ATOMIC_RELAXED);
    __atomic_fetch_min(&w.least, least, __ATOMIC_RELAXED);
    __atomic_fetch_max(&w.greatest, greatest, __ATOMIC_RELAXED);
  }

  // The pixels of some rows that faces of a transformed view may reach, in whole strips each way.
  Rect reached(const InView& w, Share rows) const {
    const Bounds hull = {(double)w.hull.x0, (double)w.hull.y0, (double)w.hull.x1, (double)w.hull.y1};
    Rect r = {0, 0, call.width - 1, call.height - 1};
    if (!w.everywhere && !reach(hull, blur.radius, call.width, call.height, r)) return {0, 0, -1, -1};
    r.x0 = r.x0 / kStrip * kStrip, r.x1 = min(r.x1 / kStrip * kStrip + kStrip, call.width) - 1;
    r.y0 = r.y0 / kStrip * kStrip, r.y1 = min(r.y1 / kStrip * kStrip + kStrip, call.height) - 1;
    return rows_of(r, rows);
  }

  // The part of a rectangle in some rows; none where y0 > y1.
  static Rect rows_of(const Rect& r, Share rows) {
    return {r.x0, max(r.y0, (int)rows.begin), r.x1, min(r.y1, (int)rows.end - 1)};
  }

  // Calls draw(band, skip) for the member's bands of a transformed view; skip: the rows of its faces are known.
  // False: something failed.
  template <class Draw>
  bool draw_bands(int view, const Camera& cam, InView& w, Team& team, int rank, Draw draw) {
    const int count = bands(team);
    if (team.barrier(status)) return false;
    if (count > 1) {
      find_rows(view, cam, w, share(call.faces, rank, team.size));
      if (team.barrier(status)) return false;
    }
    for (int64_t band; (band = take(w.next_band)) < count;) draw(share_rows((int)band, count), count > 1);
    return !team.barrier(status);
  }

  void find_rows(int view, const Camera& cam, InView& w, Share s) {
    Face face;
    for (int64_t f = s.begin; f < s.end; f++) {
      const bool found = find(view, cam, w, f, face);
      w.rows[f] = found ? Rows{face.rect.y0, face.rect.y1} : Rows{1, 0};
    }
  }

  static bool in_band(const InView& w, int64_t f, Share band) {
    return w.rows[f].y1 >= band.begin && w.rows[f].y0 < band.end;
  }

  // Calls visit(face, polygon) for the faces that may reach a band; skip: see above.
  template <class Visit>
  void visit_band(int view, const Camera& cam, InView& w, Share band, bool skip, Visit visit) {
    Face face;
    Polygon p;
    for (int64_t f = 0; f < call.faces; f++)
      if ((!skip || in_band(w, f, band)) && find(view, cam, w, f, face) && polygon(face, p)) visit(face, p);
  }

  // Calls draw(cell) for a face's cells in some rows.
  template <class Draw>
  void walk(const Face& face, const Polygon& p, Share rows, Draw draw) const {
    C::walk(p, (int)rows.begin, (int)rows.end, blur_of_face(face), stride, draw);
  }
  Share all_rows() const { return {0, call.height}; }

  // ------------------------------------------------------------------------------------------ one face

  Blur<T> blur_of_face(const Face& f) const {
    Blur<T> b = blur;
    if (growth > 0) b.reach += T(b.kappa * growth * extent_of(f.bounds));
    return b;
  }

  // False: it reaches no pixel, or its vertices do not exist.
  bool find(int view, const Camera& cam, InView& w, int64_t face, Face& f) {
    Outline& o = f.outline;
    f.kind = kWhole;
    for (int k = 0; k < 3; k++) {
      const int64_t i = index(3 * face + k);
      if (i < 0 || i >= call.vertices) return fail(SOFTRAS_BAD_FACE_INDEX), false;
      f.vertex[k] = i;
      o.pixel[k] = w.projected[i].pixel;
      if (!(w.projected[i].z > cam.near)) f.kind = kClipped;
    }
    o.corners = 3;
    if (f.kind == kClipped) {
      Vec3 point[3];
      corners(view, cam, f, point);
      o = clipped_outline(cam, point);
      if (o.corners < 3) return false;
    }
    f.bounds = bounds_of(o.pixel, o.corners);
    return reach(f.bounds, blur.radius + growth * extent_of(f.bounds), call.width, call.height, f.rect);
  }

  void corners(int view, const Camera& cam, const Face& f, Vec3* point) const {
    for (int k = 0; k < 3; k++) point[k] = to_camera(cam, position(view, f.vertex[k]));
  }

  // False: it counts nowhere.
  bool polygon(const Face& f, Polygon& p) const {
    const Outline& o = f.outline;
    const double area2 = doubled_area(o.pixel, o.corners);
    if (!visible(area2, f.bounds, call.cull != 0)) return false;
    p.corners = o.corners, p.rect = f.rect;
    const Vec2 *q = o.pixel, last = o.pixel[o.corners == 4 ? 3 : 0];
    const D4 ax = {q[0].x, q[1].x, q[2].x, last.x}, ay = {q[0].y, q[1].y, q[2].y, last.y};
    const D4 bx = {q[1].x, q[2].x, last.x, q[0].x}, by = {q[1].y, q[2].y, last.y, q[0].y};
    p.edges = make_edges(ax, ay, bx, by, area2 < 0 ? -1.0 : 1.0);
    return true;
  }
};

}  // namespace softras::SOFTRAS_ISA
