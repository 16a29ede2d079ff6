// SPDX-License-Identifier: MIT
// The backward pass from the corners of faces to vertices and cameras. Every sum is taken in an order that the input alone
// decides, so that any number of threads gives the same bits. "The gradient of X" is short for the gradient of the loss with
// respect to X.
#pragma once
#include "scene.h"

namespace softras::SOFTRAS_ISA {

constexpr int64_t kChunk = 256;  // faces or vertices whose part in the gradient of a camera is one partial sum
// Numbers in one partial sum: rows 0 and 1 of K, from clipped faces; the same, from vertices; rows 0 to 2 of
// world_to_camera.
constexpr int kPartial = 24;

// The gradient of the corners of a face, in pixels, if the face lies entirely in front of the near plane.
template <class T>
struct FaceGradient {
  T x[3], y[3];
  Kind kind;
};

// The gradient of the vertices of a clipped face, in camera space.
struct ClippedGradient {
  Vec3 corner[3];
};

// What the members of a team share in the backward pass of one view.
template <class T>
struct FaceGradients : InView {
  Buffer<FaceGradient<T>> face_gradients;  // F
  Buffer<ClippedGradient> clipped;  // F; the system provides only the pages that are used
  Buffer<double> partial;           // (chunks,kPartial)
  int64_t next_chunk = 0;           // counts the chunks of faces that members have taken
  bool clips = false;               // whether some entries of `clipped` are used

  bool reserve(int64_t faces, int64_t chunks) {
    return face_gradients.reserve(faces) && clipped.reserve(faces) && partial.reserve(chunks * kPartial);
  }
};

// The number of chunks of n faces or vertices.
inline int64_t chunks_of(int64_t n) { return (n + kChunk - 1) / kChunk; }

template <class T>
struct Gradients : Scene<T> {
  using Scene<T>::call, Scene<T>::corners, Scene<T>::index, Scene<T>::position;

  Buffer<Vec3> view_gradients;  // (N,V): the gradient of the positions through each view

  explicit Gradients(const softras_call& c) : Scene<T>(c) {}

  bool reserve_views() { return view_gradients.reserve((int64_t)call.views * call.vertices); }

  // Stores the gradient of face f, from the gradient g of the corners of its outline in pixels. Clipped corners depend on K
  // too, whose gradient is added to gk.
  void outline_backward(int view, const Camera& cam, const Face& face, int64_t f, const Vec2* g, FaceGradients<T>& w, double* gk) {
    FaceGradient<T>& out = w.face_gradients[f];
    out.kind = face.kind;
    if (face.kind == kWhole) {
      for (int k = 0; k < 3; k++) out.x[k] = T(g[k].x), out.y[k] = T(g[k].y);
      return;
    }
    __atomic_store_n(&w.clips, true, __ATOMIC_RELAXED);
    ClippedGradient& clipped = w.clipped[f];
    clipped = {};
    Vec3 point[3];
    corners(view, cam, face, point);
    const Outline& o = face.outline;
    for (int k = 0; k < o.corners; k++)
      corner_backward(point, o.corner[k], project_backward(cam, o.point[k], g[k], gk), clipped.corner);
  }

  // Writes the gradient of a share of the positions; if views share positions, it is the sum over the views.
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

  // Goes through the corners of all faces of one kind, in order, and calls add(gradient of the vertex, face, corner) for
  // those whose vertex is in [begin, end).
  template <class Add>
  void gather(FaceGradients<T>& w, Kind kind, int64_t begin, int64_t end, Vec3* g, Add add) {
    for (int64_t f = 0; f < call.faces; f++) {
      if (w.face_gradients[f].kind != kind) continue;
      for (int k = 0; k < 3; k++) {
        const int64_t v = index(3 * f + k);
        if (begin <= v && v < end) add(g[v], f, k);
      }
    }
  }

  // Gathers the gradients of a share of the vertices from the faces, and takes them to the world: from pixels through the
  // camera, or from camera space where they come from clipped faces.
  void vertices_backward(int view, const Camera& cam, FaceGradients<T>& w, Share chunks) {
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

  // Writes the gradient of the camera of a view: the sum of the partial sums, chunk after chunk.
  void camera_backward(int view, FaceGradients<T>& w, int64_t face_chunks, int64_t vertex_chunks) {
    double sum[kPartial] = {};
    for (int64_t c = 0; c < max(face_chunks, vertex_chunks); c++)
      for (int i = c < face_chunks ? 0 : 6; i < (c < vertex_chunks ? kPartial : 6); i++) sum[i] += w.partial[c * kPartial + i];
    T* k = (T*)call.grad_intrinsics + 9 * view;
    T* m = (T*)call.grad_world_to_camera + 16 * view;
    for (int i = 0; i < 9; i++) k[i] = i < 6 ? T(sum[i] + sum[6 + i]) : T(0);
    for (int i = 0; i < 16; i++) m[i] = i < 12 ? T(sum[12 + i]) : T(0);
  }
};

}  // namespace softras::SOFTRAS_ISA
