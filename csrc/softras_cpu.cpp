// SPDX-License-Identifier: MIT
// The CPU backend. Forward: bands of rows, each drawn by one thread, face after face. Backward: face after face, each
// gathering from the pixels it reaches. No lists of pixels or faces are kept.
// Compiled once for every instruction set (SOFTRAS_ISA names the entry points); dispatch.cpp chooses.
//
// Order of every sum is fixed by the input, never by the threads, so any number of them gives the same bits.
#include "scene.h"

namespace softras::SOFTRAS_ISA {
namespace {

constexpr int64_t kChunk = 256;  // faces or vertices in one partial sum
constexpr int kPartial = 24;     // numbers in one: see camera_backward

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

// What one team needs to render one view. The image has padded rows: products of 1 + 2^x, or weights of the gradients.
template <class T>
struct Workspace : InView {
  Buffer<T> image;
  Buffer<FaceGradient<T>> face_gradients;
  Buffer<ClippedGradient> clipped;  // F; memory the system gives only where it is used
  Buffer<double> partial;           // chunks x kPartial
  int64_t next_chunk = 0;
  bool clips = false;  // some face is clipped
};

template <class T>
struct Renderer : Scene<T> {
  using C = Cells<T>;
  using Scene<T>::call, Scene<T>::status, Scene<T>::blur, Scene<T>::stride;
  using Scene<T>::fail, Scene<T>::index, Scene<T>::position, Scene<T>::corners, Scene<T>::find, Scene<T>::polygon;

  Buffer<Vec3> view_gradients;  // N x V

  explicit Renderer(const softras_call& c) : Scene<T>(c) {}

  void run() {
    if (call.grad_alpha && !view_gradients.reserve((int64_t)call.views * call.vertices)) return fail(SOFTRAS_OUT_OF_MEMORY);
    Scene<T>::template run<Workspace<T>>(
        this->size(), [&](int view, Workspace<T>& w, Team& team, int rank) { return render(view, w, team, rank); },
        [&](int rank, int size) {
          if (call.grad_alpha) sum_views(share(call.vertices, rank, size));
        });
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
    const Camera cam = this->camera(view);
    const bool backward = call.grad_alpha != nullptr;
    const int64_t face_chunks = (call.faces + kChunk - 1) / kChunk, vertex_chunks = (call.vertices + kChunk - 1) / kChunk;
    if (rank == 0) {
      this->check_camera(cam);
      if (!w.projected.reserve(call.vertices) || !w.rows.reserve(call.faces) || !w.image.reserve(stride * call.height) ||
          (backward && (!w.face_gradients.reserve(call.faces) || !w.clipped.reserve(call.faces) ||
                        !w.partial.reserve(max(face_chunks, vertex_chunks) * kPartial))))
        fail(SOFTRAS_OUT_OF_MEMORY);
      w.next_band = w.next_chunk = 0;
      w.clips = false;
    }
    if (team.barrier(status)) return false;
    this->transform(view, cam, w, share(call.vertices, rank, team.size));
    if (!backward)
      return this->draw_bands(view, cam, w, team, rank, [&](Share band, bool skip) { draw(view, cam, w, band, skip); });
    weigh(view, w, share(call.height, rank, team.size));
    if (team.barrier(status)) return false;
    for (int64_t chunk; (chunk = take(w.next_chunk)) < face_chunks;) faces_backward(view, cam, w, chunk);
    if (team.barrier(status)) return false;
    vertices_backward(view, cam, w, share(vertex_chunks, rank, team.size));
    if (team.barrier(status)) return false;
    if (rank == 0) camera_backward(view, w, face_chunks, vertex_chunks);
    return !team.barrier(status);
  }

  // ------------------------------------------------------------------------------------------ forward

  // One band of rows, of all faces; skip: their rows are known.
  void draw(int view, const Camera& cam, Workspace<T>& w, Share band, bool skip) {
    T* product = w.image.data;
    for (int64_t i = band.begin * stride; i < band.end * stride; i++) product[i] = T(1);
    this->walk_band(view, cam, w, band, skip, [&](int64_t, const Face&, const Polygon& p, const typename C::Cell& cell) {
      p.corners == 3 ? C::template multiply<3>(cell, product) : C::template multiply<4>(cell, product);
    });
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

extern "C" int SR_ENTRY(softras_silhouettes_float32)(const softras_call* call) {
  return softras::SOFTRAS_ISA::silhouettes<float>(call);
}
extern "C" int SR_ENTRY(softras_silhouettes_float64)(const softras_call* call) {
  return softras::SOFTRAS_ISA::silhouettes<double>(call);
}
