// SPDX-License-Identifier: MIT
// The CPU backend. Forward: bands of rows, each drawn by one thread, face after face. Backward: face after face, each
// gathering from the pixels it reaches. No lists of pixels or faces are kept.
// Compiled once for every instruction set (SOFTRAS_ISA names the entry points); dispatch.cpp chooses.
//
// Order of every sum is fixed by the input, never by the threads, so any number of them gives the same bits.
#include <stdlib.h>
#include <string.h>

#include "cells.h"
#include "softras.h"
#include "team.h"

namespace softras::SOFTRAS_ISA {
namespace {

constexpr int64_t kChunk = 256;  // faces or vertices in one partial sum
constexpr int kPartial = 24;     // numbers in one: see camera_backward

constexpr size_t kAlign = 64;
#if defined(_WIN32)
void* allocate(size_t bytes) { return _aligned_malloc(bytes, kAlign); }
void release(void* p) { _aligned_free(p); }
#else
void* allocate(size_t bytes) {
  void* p;
  return posix_memalign(&p, kAlign, bytes) == 0 ? p : nullptr;
}
void release(void* p) { free(p); }
#endif

// Growable memory without initialisation.
template <class X>
struct Buffer {
  X* data = nullptr;
  int64_t capacity = 0;
  ~Buffer() { release(data); }
  bool reserve(int64_t n) {
    if (n <= capacity) return true;
    release(data);
    data = (X*)allocate((size_t)n * sizeof(X));
    capacity = data ? n : 0;
    return data != nullptr;
  }
  X& operator[](int64_t i) { return data[i]; }
};

struct Projected {
  Vec2 pixel;  // where z > near
  double z;
};

struct Rows {
  int32_t y0, y1;  // inclusive; y0 > y1: none
};

enum Kind : int32_t { kUnseen, kWhole, kClipped };

// The gradient of a face's corners in pixels, where it lies whole in front of the near plane.
template <class T>
struct FaceGradient {
  T x[3], y[3];
  Kind kind;
};

// The gradient of a clipped face's corners in camera space.
struct ClippedGradient {
  Vec3 corner[3];
};

// What one team needs to render one view.
template <class T>
struct Workspace {
  Buffer<Projected> projected;  // V
  Buffer<Rows> rows;            // F: the rows each face reaches
  Buffer<T> image;              // padded rows: product of 1 + 2^x, or weight of the pixel's gradient
  Buffer<FaceGradient<T>> face_gradients;
  Buffer<ClippedGradient> clipped;  // F; memory the system gives only where it is used
  Buffer<double> partial;           // chunks x kPartial
  int64_t next_band = 0, next_chunk = 0;
  bool clips = false;  // some face is clipped
};

template <class T>
struct Renderer {
  using C = Cells<T>;

  const softras_call& call;
  Buffer<Vec3> view_gradients;  // N x V
  int status = SOFTRAS_OK;
  Blur<T> blur;
  int64_t stride;  // of the padded image

  explicit Renderer(const softras_call& c)
      : call(c), blur(blur_of<T>(c.sigma, c.height, c.width)), stride(c.width + C::lanes) {}

  void fail(int code) {
    int expected = SOFTRAS_OK;
    __atomic_compare_exchange_n(&status, &expected, code, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  }

  int64_t index(int64_t i) const {
    return call.wide_indices ? ((const int64_t*)call.face_indices)[i] : ((const int32_t*)call.face_indices)[i];
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

  // ------------------------------------------------------------------------------------------ all views

  void run() {
    Team team;
    team.size = members();
    Workspace<T> shared;
    int64_t next_view = 0;
    if (call.grad_alpha && !view_gradients.reserve((int64_t)call.views * call.vertices)) return fail(SOFTRAS_OUT_OF_MEMORY);
    auto work = [&](int rank) {
      if (team.size <= call.views) {  // a view a member
        Team alone;
        Workspace<T> own;
        for (int64_t view; (view = take(next_view)) < call.views && render((int)view, own, alone, 0);) {
        }
      } else {
        for (int view = 0; view < call.views && render(view, shared, team, rank); view++) {
        }
      }
      if (!team.barrier(status) && call.grad_alpha) sum_views(share(call.vertices, rank, team.size));
    };
    run_team(team, work);
  }

  // Threads that pay: starting one costs about as much as two thousand small faces.
  int members() const {
    const int64_t work = call.views * (call.faces + (int64_t)call.height * call.width / 8);
    const int64_t most = work / 2048;
    int n = call.threads < kMaxThreads ? call.threads : kMaxThreads;
    if (n > most) n = (int)most;
    return n < 1 ? 1 : n;
  }

  void sum_views(Share s) {
    T* out = (T*)call.grad_positions;
    for (int64_t v = s.begin; v < s.end; v++) {
      if (call.shared_vertices) {
        Vec3 g = {0, 0, 0};
        for (int view = 0; view < call.views; view++) {
          const Vec3 w = view_gradients[(int64_t)view * call.vertices + v];
          g.x += w.x, g.y += w.y, g.z += w.z;
        }
        out[3 * v] = T(g.x), out[3 * v + 1] = T(g.y), out[3 * v + 2] = T(g.z);
      } else {
        for (int view = 0; view < call.views; view++) {
          const int64_t i = (int64_t)view * call.vertices + v;
          const Vec3 g = view_gradients[i];
          out[3 * i] = T(g.x), out[3 * i + 1] = T(g.y), out[3 * i + 2] = T(g.z);
        }
      }
    }
  }

  // ------------------------------------------------------------------------------------------ one view

  // The members meet after each phase. False: something failed, and all of them leave at the same barrier.
  bool render(int view, Workspace<T>& w, Team& team, int rank) {
    const Camera cam = camera(view);
    const bool backward = call.grad_alpha != nullptr;
    const int64_t face_chunks = (call.faces + kChunk - 1) / kChunk, vertex_chunks = (call.vertices + kChunk - 1) / kChunk;
    if (rank == 0) {
      check_camera(cam);
      if (!w.projected.reserve(call.vertices) || !w.rows.reserve(call.faces) || !w.image.reserve(stride * call.height) ||
          (backward && (!w.face_gradients.reserve(call.faces) || !w.clipped.reserve(call.faces) ||
                        !w.partial.reserve(max(face_chunks, vertex_chunks) * kPartial))))
        fail(SOFTRAS_OUT_OF_MEMORY);
      w.next_band = w.next_chunk = 0;
      w.clips = false;
    }
    if (team.barrier(status)) return false;
    transform(view, cam, w, share(call.vertices, rank, team.size));
    if (!backward) {
      const int bands = team.size == 1 ? 1 : (int)min(int64_t(call.height + 7) / 8, int64_t(8 * team.size));
      if (team.barrier(status)) return false;
      if (bands > 1) {
        find_rows(view, cam, w, share(call.faces, rank, team.size));
        if (team.barrier(status)) return false;
      }
      for (int64_t band; (band = take(w.next_band)) < bands;) draw(view, cam, w, share(call.height, (int)band, bands), bands > 1);
      return !team.barrier(status);
    }
    weigh(view, w, share(call.height, rank, team.size));
    if (team.barrier(status)) return false;
    for (int64_t chunk; (chunk = take(w.next_chunk)) < face_chunks;) faces_backward(view, cam, w, chunk);
    if (team.barrier(status)) return false;
    vertices_backward(view, cam, w, share(vertex_chunks, rank, team.size));
    if (team.barrier(status)) return false;
    if (rank == 0) camera_backward(view, w, face_chunks, vertex_chunks);
    return !team.barrier(status);
  }

  void check_camera(const Camera& c) {
    for (double k : c.k)
      if (!__builtin_isfinite(k)) fail(SOFTRAS_BAD_INTRINSICS);
    for (double m : c.m)
      if (!__builtin_isfinite(m)) fail(SOFTRAS_BAD_WORLD_TO_CAMERA);
  }

  void transform(int view, const Camera& cam, Workspace<T>& w, Share s) {
    bool finite = true;
    for (int64_t v = s.begin; v < s.end; v++) {
      const Vec3 p = position(view, v), c = to_camera(cam, p);
      finite &= __builtin_isfinite(p.x) && __builtin_isfinite(p.y) && __builtin_isfinite(p.z);
      w.projected[v] = {project(cam, c), c.z};
    }
    if (!finite) fail(SOFTRAS_BAD_POSITIONS);
  }

  // ------------------------------------------------------------------------------------------ one face

  struct Face {
    int64_t vertex[3];
    Outline outline;
    Kind kind;
    Bounds bounds;
    Rect rect;
  };

  // False: it reaches no pixel, or its vertices do not exist.
  bool find(int view, const Camera& cam, Workspace<T>& w, int64_t face, Face& f) {
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
    return reach(f.bounds, blur.radius, call.width, call.height, f.rect);
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

  // ------------------------------------------------------------------------------------------ forward

  void find_rows(int view, const Camera& cam, Workspace<T>& w, Share s) {
    Face face;
    for (int64_t f = s.begin; f < s.end; f++) {
      const bool found = find(view, cam, w, f, face);
      w.rows[f] = found ? Rows{face.rect.y0, face.rect.y1} : Rows{1, 0};
    }
  }

  // One band of rows, of all faces; skip: their rows are known.
  void draw(int view, const Camera& cam, Workspace<T>& w, Share band, bool skip) {
    T* product = w.image.data;
    for (int64_t i = band.begin * stride; i < band.end * stride; i++) product[i] = T(1);
    Face face;
    Polygon p;
    for (int64_t f = 0; f < call.faces; f++) {
      if (skip && (w.rows[f].y1 < band.begin || w.rows[f].y0 >= band.end)) continue;
      if (!find(view, cam, w, f, face) || !polygon(face, p)) continue;
      C::walk(p, (int)band.begin, (int)band.end, blur, stride, [&](const typename C::Cell& cell) {
        p.corners == 3 ? C::template multiply<3>(cell, product) : C::template multiply<4>(cell, product);
      });
    }
    const int64_t width = call.width, image = (int64_t)view * call.height * width;
    for (int64_t y = band.begin; y < band.end; y++) {
      T* alpha = (T*)call.alpha + image + y * width;
      T* transmittance = (T*)call.transmittance + image + y * width;
      for (int64_t x = 0; x < width; x++) {
        transmittance[x] = T(1) / product[y * stride + x];
        alpha[x] = T(1) - transmittance[x];
      }
    }
  }

  // ------------------------------------------------------------------------------------------ backward

  // |dL/d(squared)| / D of each pixel: ln2 transmittance dL/dalpha, zero where the forward pass stopped early and in
  // the padding.
  void weigh(int view, Workspace<T>& w, Share rows) {
    const int64_t width = call.width, image = (int64_t)view * call.height * width;
    for (int64_t y = rows.begin; y < rows.end; y++) {
      const T* left = (const T*)call.transmittance + image + y * width;
      const T* grad = (const T*)call.grad_alpha + image + y * width;
      T* weight = w.image.data + y * stride;
      for (int64_t x = 0; x < width; x++) weight[x] = left[x] * kSaturated<T> > T(1) ? T(kLn2) * left[x] * grad[x] : T(0);
      for (int64_t x = width; x < stride; x++) weight[x] = T(0);
    }
  }

  void faces_backward(int view, const Camera& cam, Workspace<T>& w, int64_t chunk) {
    double* gk = w.partial.data + chunk * kPartial;
    for (int i = 0; i < 6; i++) gk[i] = 0;
    Face face;
    Polygon p;
    const int64_t end = min((chunk + 1) * kChunk, int64_t(call.faces));
    for (int64_t f = chunk * kChunk; f < end; f++) {
      FaceGradient<T>& out = w.face_gradients[f];
      out.kind = kUnseen;
      if (!find(view, cam, w, f, face) || !polygon(face, p)) continue;
      Vec2 g[4] = {};
      C::walk(p, 0, call.height, blur, stride, [&](const typename C::Cell& cell) {
        p.corners == 3 ? C::template accumulate<3>(cell, w.image.data, g) : C::template accumulate<4>(cell, w.image.data, g);
      });
      out.kind = face.kind;
      if (face.kind == kWhole) {
        for (int k = 0; k < 3; k++) out.x[k] = T(g[k].x), out.y[k] = T(g[k].y);
      } else {
        __atomic_store_n(&w.clips, true, __ATOMIC_RELAXED);
        ClippedGradient& clipped = w.clipped[f];
        clipped = {};
        Vec3 point[3];
        corners(view, cam, face, point);
        const Outline& o = face.outline;
        for (int k = 0; k < o.corners; k++)
          corner_backward(point, o.corner[k], project_backward(cam, o.point[k], g[k], gk), clipped.corner);
      }
    }
  }

  // Calls add(gradient of the vertex, face, corner) for the vertices of [begin, end) at all faces' corners, in order.
  template <class Add>
  void gather(Workspace<T>& w, Kind kind, int64_t begin, int64_t end, Vec3* g, Add add) {
    for (int64_t f = 0; f < call.faces; f++) {
      if (w.face_gradients[f].kind != kind) continue;
      for (int k = 0; k < 3; k++) {
        const int64_t v = index(3 * f + k);
        if (begin <= v && v < end) add(g[v], f, k);
      }
    }
  }

  // Gathers a share of the vertices' gradients and takes them to the world: from pixels through the camera, and from
  // camera space for clipped faces.
  void vertices_backward(int view, const Camera& cam, Workspace<T>& w, Share chunks) {
    const int64_t begin = chunks.begin * kChunk, end = min(chunks.end * kChunk, int64_t(call.vertices));
    Vec3* g = view_gradients.data + (int64_t)view * call.vertices;
    for (int64_t v = begin; v < end; v++) g[v] = {0, 0, 0};
    gather(w, kWhole, begin, end, g, [&](Vec3& sum, int64_t f, int k) {
      sum.x += w.face_gradients[f].x[k], sum.y += w.face_gradients[f].y[k];
    });
    for (int64_t c = chunks.begin; c < chunks.end; c++) {
      double* gk = w.partial.data + c * kPartial + 6;
      for (int i = 0; i < 6; i++) gk[i] = 0;
      for (int64_t v = c * kChunk; v < end && v < (c + 1) * kChunk; v++)
        if (w.projected[v].z > cam.near)
          g[v] = project_backward(cam, to_camera(cam, position(view, v)), {g[v].x, g[v].y}, gk);
    }
    if (w.clips)
      gather(w, kClipped, begin, end, g, [&](Vec3& sum, int64_t f, int k) {
        const Vec3 c = w.clipped[f].corner[k];
        sum.x += c.x, sum.y += c.y, sum.z += c.z;
      });
    for (int64_t c = chunks.begin; c < chunks.end; c++) {
      double* gm = w.partial.data + c * kPartial + 12;
      for (int i = 0; i < 12; i++) gm[i] = 0;
      for (int64_t v = c * kChunk; v < end && v < (c + 1) * kChunk; v++)
        g[v] = to_camera_backward(cam, position(view, v), g[v], gm);
    }
  }

  void camera_backward(int view, Workspace<T>& w, int64_t face_chunks, int64_t vertex_chunks) {
    double sum[kPartial] = {};  // K by clipped faces, K by vertices, world to camera
    for (int64_t c = 0; c < max(face_chunks, vertex_chunks); c++)
      for (int i = c < face_chunks ? 0 : 6; i < (c < vertex_chunks ? kPartial : 6); i++) sum[i] += w.partial[c * kPartial + i];
    T* k = (T*)call.grad_intrinsics + 9 * view;
    T* m = (T*)call.grad_world_to_camera + 16 * view;
    for (int i = 0; i < 9; i++) k[i] = i < 6 ? T(sum[i] + sum[6 + i]) : T(0);
    for (int i = 0; i < 16; i++) m[i] = i < 12 ? T(sum[12 + i]) : T(0);
  }
};

template <class T>
int silhouettes(const softras_call* call) {
  Renderer<T> renderer(*call);
  renderer.run();
  return renderer.status;
}

}  // namespace
}  // namespace softras::SOFTRAS_ISA

#define SR_JOIN_(a, b) a##b
#define SR_JOIN(a, b) SR_JOIN_(a, b)
extern "C" int SR_JOIN(softras_silhouettes_float32_, SOFTRAS_ISA)(const softras_call* call) {
  return softras::SOFTRAS_ISA::silhouettes<float>(call);
}
extern "C" int SR_JOIN(softras_silhouettes_float64_, SOFTRAS_ISA)(const softras_call* call) {
  return softras::SOFTRAS_ISA::silhouettes<double>(call);
}
