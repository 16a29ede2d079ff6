// SPDX-License-Identifier: MIT
// Soft silhouettes on the CPU. In the forward pass each thread draws bands of rows, one face after another. In the backward
// pass each thread takes faces, and each face gathers its gradient from the pixels that it may change. No lists of pixels
// or faces are kept.
//
// The file is compiled once for every instruction set, whose name SOFTRAS_ISA is part of the entry points' names;
// dispatch.cpp chooses one of them. The order of every sum is decided by the input and never by the threads, so any number
// of threads gives the same bits.
#include "gradients.h"

namespace softras::SOFTRAS_ISA {
namespace {

// What the members of a team share to render one view.
template <class T>
struct Workspace : FaceGradients<T> {
  Buffer<T> image;  // padded rows: the products of 1 + 2^x, or in the backward pass the weights of weigh()
};

template <class T>
struct Renderer : Gradients<T> {
  using C = Cells<T>;
  using Scene<T>::call, Scene<T>::status, Scene<T>::blur, Scene<T>::stride;
  using Scene<T>::fail, Scene<T>::set_up, Scene<T>::make_polygon;

  explicit Renderer(const softras_call& c) : Gradients<T>(c) {}

  void run() {
    if (call.backward && !this->reserve_views()) return fail(SOFTRAS_OUT_OF_MEMORY);
    Scene<T>::template run<Workspace<T>>(
        this->size(), [&](int view, Workspace<T>& w, Team& team, int rank) { return render(view, w, team, rank); },
        [&](int rank, int size) {
          if (call.backward) this->sum_views(share(call.vertices, rank, size));
        });
  }

  // ------------------------------------------------------------------------------------------ one view

  // Renders one view, or this member's share of it. The members meet after each phase. False: something failed, and all
  // members return at the same barrier.
  bool render(int view, Workspace<T>& w, Team& team, int rank) {
    const Camera cam = this->camera(view);
    const bool backward = call.backward != 0;
    const int64_t face_chunks = chunks_of(call.faces), vertex_chunks = chunks_of(call.vertices);
    if (rank == 0) {
      this->check_camera(cam);
      if (!w.projected.reserve(call.vertices) || !w.rows.reserve(call.faces) || !w.image.reserve(stride * call.height) ||
          (backward && !w.reserve(call.faces, max(face_chunks, vertex_chunks))))
        fail(SOFTRAS_OUT_OF_MEMORY);
      this->begin(w), w.next_chunk = 0;
      w.clips = false;
    }
    if (team.barrier(status)) return false;
    this->transform(view, cam, w, share(call.vertices, rank, team.size));
    if (!backward)
      return this->draw_bands(view, cam, w, team, rank, [&](Share band, bool skip) { draw(view, cam, w, band, skip); });
    if (team.barrier(status)) return false;
    weigh(view, w, this->share_rows(rank, team.size));
    if (team.barrier(status)) return false;
    for (int64_t chunk; (chunk = take(w.next_chunk)) < face_chunks;) faces_backward(view, cam, w, chunk);
    if (team.barrier(status)) return false;
    this->vertices_backward(view, cam, w, share(vertex_chunks, rank, team.size));
    if (team.barrier(status)) return false;
    if (rank == 0) this->camera_backward(view, w, face_chunks, vertex_chunks);
    return !team.barrier(status);
  }

  // ------------------------------------------------------------------------------------------ forward

  // Draws all faces into one band of rows. skip: as draw_bands() gives it.
  void draw(int view, const Camera& cam, Workspace<T>& w, Share band, bool skip) {
    T* product = w.image.data;
    const Rect affected = this->affected(w, band);
    for (int64_t y = affected.y0; y <= affected.y1; y++)
      for (int64_t x = affected.x0; x <= affected.x1 + C::lanes; x++) product[y * stride + x] = T(1);
    this->visit_band(view, cam, w, band, skip, [&](const Face& face, const Polygon& p) {
      this->walk(face, p, band, [&](const typename C::Cell& cell) {
        p.corners == 3 ? C::template multiply<3>(cell, product) : C::template multiply<4>(cell, product);
      });
    });
    const int64_t width = call.width, image = (int64_t)view * call.height * width;
    for (int64_t y = band.begin; y < band.end; y++) {
      T* alpha = (T*)call.alpha + image + y * width;
      T* transmittance = (T*)call.transmittance + image + y * width;
      fill_row(transmittance, width, y, affected, T(1), [&](int64_t x) { return T(1) / product[y * stride + x]; });
      fill_row(alpha, width, y, affected, T(0), [&](int64_t x) { return T(1) - transmittance[x]; });
    }
  }

  // ------------------------------------------------------------------------------------------ backward

  // Finds the weight of each pixel of some rows: with x the exponent of a face and D its coverage, dL/dx = weight * D. So
  // the weight is ln 2 * transmittance * dL/dalpha. It is zero where the forward pass found the pixel opaque and stopped,
  // and in the padding.
  void weigh(int view, Workspace<T>& w, Share rows) {
    const int64_t width = call.width, image = (int64_t)view * call.height * width;
    const Rect affected = this->affected(w, rows);
    for (int64_t y = affected.y0; y <= affected.y1; y++) {
      const T* left = (const T*)call.transmittance + image + y * width;
      const T* grad = (const T*)call.grad_alpha + image + y * width;
      T* weight = w.image.data + y * stride;
      for (int64_t x = affected.x0; x <= affected.x1; x++)
        weight[x] = left[x] * kSaturated<T> > T(1) ? T(kLn2) * left[x] * grad[x] : T(0);
      for (int64_t x = affected.x1 + 1; x <= affected.x1 + C::lanes; x++) weight[x] = T(0);
    }
  }

  // Finds the gradients of the corners of one chunk of faces.
  void faces_backward(int view, const Camera& cam, Workspace<T>& w, int64_t chunk) {
    double* gk = w.partial.data + chunk * kPartial;
    for (int i = 0; i < 6; i++) gk[i] = 0;
    Face face;
    Polygon p;
    const int64_t end = min((chunk + 1) * kChunk, int64_t(call.faces));
    for (int64_t f = chunk * kChunk; f < end; f++) {
      w.face_gradients[f].kind = kUnseen;
      if (!set_up(view, cam, w, f, face) || !make_polygon(face, p)) continue;
      Vec2 g[4] = {};
      this->walk(face, p, this->all_rows(), [&](const typename C::Cell& cell) {
        p.corners == 3 ? C::template accumulate<3>(cell, w.image.data, g) : C::template accumulate<4>(cell, w.image.data, g);
      });
      this->outline_backward(view, cam, face, f, g, w, gk);
    }
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
