// SPDX-License-Identifier: MIT
// The Jacobian of silhouettes on the CPU, by the forward mode: the rows of the pixels that are asked for. Each thread takes
// bands of rows of the image, one face after another. The motions of a face's corners, which are the derivatives of their
// pixels with respect to the parameters, are found once; each pixel that the face changes adds two of them to its row, for
// several parameters at once by SIMD.
// Like softras_cpu.cpp, the file is compiled once for every instruction set, and any number of threads gives the same bits.
#include "scene.h"

namespace softras::SOFTRAS_ISA {
namespace {

// What the members of a team share of one view: two images with padded rows.
template <class T>
struct Pixels : InView {
  Buffer<T> weight;     // the weight that Cells::pull() takes; zero where a pixel has no row
  Buffer<int32_t> row;  // the pixel's row of the Jacobian, counted from the first of its band; -1 where it has none
};

template <class T>
struct Jacobian : Scene<T> {
  using C = Cells<T>;
  using V = typename C::V;
  using Scene<T>::call, Scene<T>::stride, Scene<T>::fail, Scene<T>::position;

  const softras_jacobian_call& jacobian;
  const int64_t P;  // number of parameters

  explicit Jacobian(const softras_jacobian_call& j) : Scene<T>(j.scene), jacobian(j), P(j.parameters) {}

  void run() {
    const int64_t work = this->size() + jacobian.count * (1 + P / 32);
    Scene<T>::template run<Pixels<T>>(
        work, [&](int view, Pixels<T>& w, Team& team, int rank) { return render(view, w, team, rank); }, [](int, int) {});
  }

  // Finds the rows of one view, or this member's share of them. False: something failed.
  bool render(int view, Pixels<T>& w, Team& team, int rank) {
    const Camera cam = this->camera(view);
    if (rank == 0) {
      this->check_camera(cam);
      if (!w.projected.reserve(call.vertices) || !w.rows.reserve(call.faces) || !w.weight.reserve(stride * call.height) ||
          !w.row.reserve(stride * call.height))
        fail(SOFTRAS_OUT_OF_MEMORY);
      this->begin(w);
    }
    if (team.barrier(this->status)) return false;
    this->transform(view, cam, w, share(call.vertices, rank, team.size));
    return this->draw_bands(view, cam, w, team, rank, [&](Share band, bool skip) { draw(view, cam, w, band, skip); });
  }

  // Finds the rows of the pixels of one band. skip: as draw_bands() gives it.
  void draw(int view, const Camera& cam, Pixels<T>& w, Share band, bool skip) {
    const int64_t image = (int64_t)view * call.height * call.width;
    const int64_t begin = find_pixel(image + band.begin * call.width), end = find_pixel(image + band.end * call.width);
    if (begin == end) return;
    T* rows = (T*)jacobian.rows + begin * P;
    zero(rows, (end - begin) * P);
    mark(image, w, band, begin, end);
    Buffer<T> motion;
    if (!motion.reserve(16 * P)) return fail(SOFTRAS_OUT_OF_MEMORY);
    typename C::Pull pulls[C::kRuns];
    this->visit_band(view, cam, w, band, skip, [&](const Face& face, const Polygon& p) {
      bool known = false;
      this->walk(face, p, band, [&](const typename C::Cell& cell) {
        const int count = p.corners == 3 ? C::template pull<3>(cell, w.weight.data, pulls)
                                         : C::template pull<4>(cell, w.weight.data, pulls);
        if (count > 0 && !known) motions(view, cam, face, cell.edges, motion.data), known = true;
        for (int i = 0; i < count; i++) {
          const typename C::Pull& pull = pulls[i];
          for (int l = 0; l < C::lanes; l++)
            if ((pull.first[l] != 0 || pull.second[l] != 0) && w.row[pull.pixel + l] >= 0)
              add(rows + w.row[pull.pixel + l] * P, motion.data + 2 * pull.pair[l] * P, pull.first[l], pull.second[l]);
        }
      });
    });
  }

  // The number of the first pixel asked for that is not before this one; a binary search.
  int64_t find_pixel(int64_t pixel) const {
    int64_t low = 0, high = jacobian.count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      jacobian.pixels[middle] < pixel ? low = middle + 1 : high = middle;
    }
    return low;
  }

  // Sets weight and row of a band's pixels, of which those asked for are begin <= i < end. The weight is
  // ln 2 * transmittance, or zero where the forward pass found the pixel opaque and stopped.
  void mark(int64_t image, Pixels<T>& w, Share band, int64_t begin, int64_t end) {
    const int64_t width = call.width;
    zero(w.weight.data + band.begin * stride, (band.end - band.begin) * stride);
    memset(w.row.data + band.begin * stride, 0xff, (band.end - band.begin) * stride * sizeof(int32_t));
    for (int64_t i = begin; i < end; i++) {
      const int64_t pixel = jacobian.pixels[i], y = (pixel - image) / width, x = (pixel - image) % width;
      if (y < band.begin || y >= band.end) continue;  // the caller's pixels are not ascending
      const T left = ((const T*)call.transmittance)[pixel];
      w.weight[y * stride + x] = left * kSaturated<T> > T(1) ? T(kLn2) * left : T(0);
      w.row[y * stride + x] = (int32_t)(i - begin);
    }
  }

  // Finds the motions of a face in the pairs that Cells::Pull describes, P numbers each.
  void motions(int view, const Camera& cam, const Face& face, const LocalEdges<typename C::T4>& edges, T* out) const {
    const int n = face.outline.corners;
    T* corner = out + 2 * n * P;
    for (int k = 0; k < n; k++)
      move(view, cam, face, face.kind == kWhole ? Corner{k, k, 0.0} : face.outline.corner[k], corner + 2 * k * P);
    for (int k = 0; k < n; k++) {
      const T *a = corner + 2 * k * P, *b = corner + 2 * ((k + 1) % n) * P;
      T* along = out + 2 * k * P;
      const T nx = edges.nx[k], ny = edges.ny[k];
      for (int64_t p = 0; p < P; p++) along[p] = nx * a[p] + ny * a[P + p], along[P + p] = nx * b[p] + ny * b[P + p];
    }
  }

  // Finds the motion of a corner: the derivatives of its pixel's x, then of its y, with respect to each parameter.
  void move(int view, const Camera& cam, const Face& face, Corner corner, T* out) const {
    const T* d_positions = (const T*)jacobian.d_positions;
    const T* d_intrinsics = (const T*)jacobian.d_intrinsics;
    const T* d_world_to_camera = (const T*)jacobian.d_world_to_camera;
    const int64_t a = face.vertex[corner.a], b = face.vertex[corner.b];
    T u[kSlope] = {}, v[kSlope] = {};
    corner_slope(cam, 0, corner, position(view, a), position(view, b), u);
    corner_slope(cam, 1, corner, position(view, a), position(view, b), v);
    zero(out, 2 * P);
    if (d_positions) combine<3>(u, v, d_positions + 3 * P * this->position_index(view, a), out, out + P);
    if (d_positions && corner.a != corner.b)
      combine<3>(u + 3, v + 3, d_positions + 3 * P * this->position_index(view, b), out, out + P);
    if (d_intrinsics)
      combine<6>(u + kSlopeIntrinsics, v + kSlopeIntrinsics, d_intrinsics + 9 * P * view, out, out + P);
    if (d_world_to_camera)
      combine<12>(u + kSlopeMatrix, v + kSlopeMatrix, d_world_to_camera + 16 * P * view, out, out + P);
  }

  // Adds the sum of n rows of P numbers to x, each row times its number in by_u, and to y, times its number in by_v.
  template <int n>
  void combine(const T* by_u, const T* by_v, const T* __restrict rows, T* __restrict x, T* __restrict y) const {
    T u[n], v[n];
    for (int i = 0; i < n; i++) u[i] = by_u[i], v[i] = by_v[i];
    for (int64_t p = 0; p < P; p++) {
      T sum_u = x[p], sum_v = y[p];
#pragma clang loop unroll(full)
      for (int i = 0; i < n; i++) sum_u += u[i] * rows[i * P + p], sum_v += v[i] * rows[i * P + p];
      x[p] = sum_u, y[p] = sum_v;
    }
  }

  // Adds first times one motion plus second times the next one to a row of the Jacobian. The last vector overlaps the one
  // before it; it is loaded before anything is stored, so that both store the same sums where they overlap.
  void add(T* row, const T* motion, T first, T second) const {
    constexpr int lanes = C::lanes;
    auto sum = [&](int64_t p) { return load<T>(row + p) + (load<T>(motion + p) * first + load<T>(motion + P + p) * second); };
    if (P < lanes) {
      for (int64_t p = 0; p < P; p++) row[p] += motion[p] * first + motion[P + p] * second;
      return;
    }
    const V last = sum(P - lanes);
    for (int64_t p = 0; p + lanes <= P; p += lanes) store(row + p, sum(p));
    store(row + P - lanes, last);
  }
};

template <class T>
int jacobian(const softras_jacobian_call* call) {
  Jacobian<T> renderer(*call);
  renderer.run();
  return renderer.status;
}

}  // namespace
}  // namespace softras::SOFTRAS_ISA

extern "C" int SR_ENTRY(softras_silhouettes_jacobian_float32)(const softras_jacobian_call* call) {
  return softras::SOFTRAS_ISA::jacobian<float>(call);
}
extern "C" int SR_ENTRY(softras_silhouettes_jacobian_float64)(const softras_jacobian_call* call) {
  return softras::SOFTRAS_ISA::jacobian<double>(call);
}
