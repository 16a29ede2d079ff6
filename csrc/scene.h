// SPDX-License-Identifier: MIT
// One mesh in its views: what all renderers of the CPU share. Vertices are projected to pixels, faces become polygons, and
// a team of threads shares either the views or, where there are few views, the faces and bands of rows of each view.
#pragma once
#include <string.h>

#include "cells.h"
#include "memory.h"
#include "softras.h"
#include "team.h"

namespace softras::SOFTRAS_ISA {

// A vertex in one view.
struct Projected {
  Vec2 pixel;  // meaningful where z is greater than the depth of the near plane
  double z;    // depth, in scene units
};

// A thread is worth starting for this many small faces: drawing them takes about as long as starting it.
constexpr int64_t kFacesOfAThread = 4096;
// The height in pixels of a strip of rows, which one thread draws at least, and the side of the square tiles of hidden.h.
constexpr int kStrip = 8;

// Rows y0 to y1 of the image, both inclusive; none if y0 > y1.
struct Rows {
  int32_t y0, y1;
};

// What the members of a team know of the view that they draw.
struct InView {
  Buffer<Projected> projected;  // V
  Buffer<Rows> rows;            // F: the rows in which each face may change pixels
  Rect box;                     // the bounding box of the projected vertices, in pixels
  bool unbounded;               // the box tells nothing: a vertex is not in front of the camera, or faces grow
  int32_t nearest, farthest;    // the range of the depths of all vertices in front of it, as order_of_depth() gives them
  int64_t next_band = 0;        // counts the bands of rows that members have taken
};

// How a face appears in a view: nowhere, entirely in front of the near plane, or cut by the near plane.
enum Kind : int32_t { kUnseen, kWhole, kClipped };

// A face in one view.
struct Face {
  int64_t vertex[3];
  Outline outline;  // of a whole face only the pixels are set
  Kind kind;
  Bounds bounds;    // of the outline
  Rect rect;        // the pixels within the cut-off distance of the bounds
};

// A depth, measured from the near plane, as a whole number: nearer depths give smaller numbers, and equal ratios of depths
// are about equally far apart.
inline int32_t order_of_depth(double z) {
  const float rounded = z > 0 ? (float)z : 0.0f;
  int32_t bits;
  memcpy(&bits, &rounded, sizeof(bits));
  return bits;
}

// Fills row y of an output image: with value(x) at the pixels of the rectangle `affected`, with `beside` at the others.
template <class X, class Value>
inline void fill_row(X* row, int64_t width, int64_t y, const Rect& affected, X beside, Value value) {
  const bool none = y < affected.y0 || y > affected.y1;
  const int64_t begin = none ? width : affected.x0, end = none ? width : affected.x1 + 1;
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
  double growth = 0;  // times its extent, how much farther than the cut-off distance a face counts
  int64_t stride;     // numbers from one row to the next of an image whose rows are padded for a whole SIMD vector

  explicit Scene(const softras_call& c)
      : call(c), blur(blur_of<T>(c.sigma, c.height, c.width)), stride(c.width + C::lanes) {}

  // Sets the status of the call, unless it is set already.
  void fail(int code) {
    int expected = SOFTRAS_OK;
    __atomic_compare_exchange_n(&status, &expected, code, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  }

  // Entry i of the faces' vertices: corner i % 3 of face i / 3.
  int64_t index(int64_t i) const {
    return call.wide_indices ? ((const int64_t*)call.face_indices)[i] : ((const int32_t*)call.face_indices)[i];
  }
  // The row of a vertex among the positions of all views.
  int64_t position_index(int view, int64_t v) const { return v + (call.shared_vertices ? 0 : (int64_t)view * call.vertices); }
  Vec3 position(int view, int64_t v) const {
    const T* p = (const T*)call.positions + 3 * position_index(view, v);
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

  // ------------------------------------------------------------------------------------------ sharing the work

  // Renders all views with as many threads as pay for `work`, counted in small faces. Where there are at least as many
  // views as threads, each member of the team takes whole views; otherwise all members share one view after another.
  // render(view, workspace, team, rank) draws one view or the member's share of it, meets the others of its team at
  // barriers, and returns false if something failed. At the end each member calls finish(rank, size of the team).
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

  // The work of drawing all views, in small faces: eight pixels of the image take about as long as one.
  int64_t size() const { return call.views * (call.faces + (int64_t)call.height * call.width / 8); }

  // The number of bands of rows that a view is divided into. A band is drawn by one member; there are more bands than
  // members, so that all finish at about the same time.
  int bands(const Team& team) const { return team.size == 1 ? 1 : (int)min(strips(), int64_t(8 * team.size)); }
  int64_t strips() const { return (call.height + kStrip - 1) / kStrip; }

  // The share of the image's rows of one member of a team; it begins at the border of a strip.
  Share share_rows(int rank, int size) const {
    const Share s = share(strips(), rank, size);
    return {kStrip * s.begin, min(kStrip * s.end, int64_t(call.height))};
  }

  // Refuses a camera whose numbers are not finite.
  void check_camera(const Camera& c) {
    for (double k : c.k)
      if (!__builtin_isfinite(k)) fail(SOFTRAS_BAD_INTRINSICS);
    for (double m : c.m)
      if (!__builtin_isfinite(m)) fail(SOFTRAS_BAD_WORLD_TO_CAMERA);
  }

  // Prepares what the members find out together about a view.
  void begin(InView& w) const {
    w.box = {INT32_MAX, INT32_MAX, INT32_MIN, INT32_MIN}, w.unbounded = growth > 0;
    w.nearest = INT32_MAX, w.farthest = 0, w.next_band = 0;
  }

  // Projects a share of the vertices, and joins their bounding box and depths to those of the other shares.
  void transform(int view, const Camera& cam, InView& w, Share s) {
    bool finite = true, unbounded = false;
    Bounds b = {1e9, 1e9, -1e9, -1e9};
    int32_t least = INT32_MAX, greatest = 0;
    for (int64_t v = s.begin; v < s.end; v++) {
      const Vec3 p = position(view, v), c = to_camera(cam, p);
      finite &= __builtin_isfinite(p.x) && __builtin_isfinite(p.y) && __builtin_isfinite(p.z);
      const Vec2 q = project(cam, c);
      w.projected[v] = {q, c.z};
      if (!(c.z > cam.near && q.x > -1e9 && q.x < 1e9 && q.y > -1e9 && q.y < 1e9)) {
        unbounded = true;
        continue;
      }
      b = {min(b.x0, q.x), min(b.y0, q.y), max(b.x1, q.x), max(b.y1, q.y)};
      const int32_t order = order_of_depth(c.z - cam.near);
      least = min(least, order), greatest = max(greatest, order);
    }
    if (!finite) fail(SOFTRAS_BAD_POSITIONS);
    if (unbounded) __atomic_store_n(&w.unbounded, true, __ATOMIC_RELAXED);
    __atomic_fetch_min(&w.box.x0, (int)round_down(b.x0), __ATOMIC_RELAXED);
    __atomic_fetch_min(&w.box.y0, (int)round_down(b.y0), __ATOMIC_RELAXED);
    __atomic_fetch_max(&w.box.x1, (int)round_up(b.x1), __ATOMIC_RELAXED);
    __atomic_fetch_max(&w.box.y1, (int)round_up(b.y1), __ATOMIC_RELAXED);
    __atomic_fetch_min(&w.nearest, least, __ATOMIC_RELAXED);
    __atomic_fetch_max(&w.farthest, greatest, __ATOMIC_RELAXED);
  }

  // The pixels of some rows that faces may change, in a view whose vertices are projected; columns and rows begin and end
  // at the borders of tiles.
  Rect affected(const InView& w, Share rows) const {
    const Bounds box = {(double)w.box.x0, (double)w.box.y0, (double)w.box.x1, (double)w.box.y1};
    Rect r = {0, 0, call.width - 1, call.height - 1};
    if (!w.unbounded && !pixels_within(box, blur.cutoff_pixels, call.width, call.height, r)) return {0, 0, -1, -1};
    r.x0 = r.x0 / kStrip * kStrip, r.x1 = min(r.x1 / kStrip * kStrip + kStrip, call.width) - 1;
    r.y0 = r.y0 / kStrip * kStrip, r.y1 = min(r.y1 / kStrip * kStrip + kStrip, call.height) - 1;
    return rows_of(r, rows);
  }

  // The part of a rectangle that lies in some rows.
  static Rect rows_of(const Rect& r, Share rows) {
    return {r.x0, max(r.y0, (int)rows.begin), r.x1, min(r.y1, (int)rows.end - 1)};
  }

  // Calls draw(band, skip) for each band of rows that this member takes, once the members have projected the vertices. With
  // `skip`, w.rows tells which faces have pixels in the band, and the others can be skipped. False: something failed.
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

  // Finds the rows in which a share of the faces may change pixels.
  void find_rows(int view, const Camera& cam, InView& w, Share s) {
    Face face;
    for (int64_t f = s.begin; f < s.end; f++) {
      const bool found = set_up(view, cam, w, f, face);
      w.rows[f] = found ? Rows{face.rect.y0, face.rect.y1} : Rows{1, 0};
    }
  }

  static bool in_band(const InView& w, int64_t f, Share band) {
    return w.rows[f].y1 >= band.begin && w.rows[f].y0 < band.end;
  }

  // Calls visit(face, polygon) for the faces that may change pixels of a band. skip: as draw_bands() gives it.
  template <class Visit>
  void visit_band(int view, const Camera& cam, InView& w, Share band, bool skip, Visit visit) {
    Face face;
    Polygon p;
    for (int64_t f = 0; f < call.faces; f++)
      if ((!skip || in_band(w, f, band)) && set_up(view, cam, w, f, face) && make_polygon(face, p)) visit(face, p);
  }

  // Calls draw(cell) for the cells of a face in some rows.
  template <class Draw>
  void walk(const Face& face, const Polygon& p, Share rows, Draw draw) const {
    C::walk(p, (int)rows.begin, (int)rows.end, blur_of_face(face), stride, draw);
  }
  Share all_rows() const { return {0, call.height}; }

  // ------------------------------------------------------------------------------------------ one face

  // The blur, with the cut-off distance of this face.
  Blur<T> blur_of_face(const Face& f) const {
    Blur<T> b = blur;
    if (growth > 0) b.cutoff += T(b.kappa * growth * extent_of(f.bounds));
    return b;
  }

  // Sets up everything about a face but its polygon. False: the face changes no pixel, or names a vertex that does not
  // exist.
  bool set_up(int view, const Camera& cam, InView& w, int64_t face, Face& f) {
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
    return pixels_within(f.bounds, blur.cutoff_pixels + growth * extent_of(f.bounds), call.width, call.height, f.rect);
  }

  // The three vertices of a face, in camera space.
  void corners(int view, const Camera& cam, const Face& f, Vec3* point) const {
    for (int k = 0; k < 3; k++) point[k] = to_camera(cam, position(view, f.vertex[k]));
  }

  // Makes the polygon of a face. False: the face counts nowhere, since it has no area or is culled.
  bool make_polygon(const Face& f, Polygon& p) const {
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
