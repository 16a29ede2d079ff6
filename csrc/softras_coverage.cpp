// SPDX-License-Identifier: MIT
// Exact coverage on the CPU. Vertices are projected, each face gets the sign of its projected area, and the edges between
// faces of different signs become the contour. Each thread then sweeps bands of rows (coverage_sweep.h). The pieces of the
// silhouette's outline in the pixels are kept for the derivatives, which take little time with them.
// Like softras_cpu.cpp, the file is compiled once for every instruction set, and any number of threads gives the same bits.
#include "coverage_derivatives.h"
#include "coverage_samples.h"
#include "coverage_sweep.h"

namespace softras::SOFTRAS_ISA {
namespace {

// Rows of a band. The number is the same for any number of threads, because it decides the order of the pieces.
constexpr int kBand = 32;

// What is kept of one view for its derivatives.
struct Kept {
  List<Contour> contours;
  List<Piece>* bands;  // the pieces of each band of rows
  int64_t band_count;

  // The number of pieces.
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

// What is kept of all views, from one call to the next: the handle softras_coverage_call::kept.
struct Result {
  int64_t views;
  Kept* kept;
};

// What the members of a team share to render one view.
struct View {
  Buffer<Vec2> pixel;   // V: meaningful for vertices in front of the near plane
  Buffer<bool> front;   // V: whether the vertex is in front of the near plane
  Buffer<int8_t> sign;  // F: the sign of the face's projected area; 0 if the face counts nowhere
  Buffer<int> order, scratch;  // the contour edges by their upper ends, and memory to sort them
  // The contour edges that each member has found, in the order of the mesh's edges, and those in the near plane, in the
  // order of the faces.
  List<Contour> found[kMaxThreads] = {}, near[kMaxThreads] = {};
  int64_t next_band = 0;  // counts the bands of rows that members have taken
  bool clips = false;     // whether some vertex is not in front of the near plane

  ~View() {
    for (int rank = 0; rank < kMaxThreads; rank++) found[rank].clear(), near[rank].clear();
  }
};

template <class T>
struct Coverage : Scene<T> {
  using Scene<T>::call, Scene<T>::status, Scene<T>::fail, Scene<T>::camera, Scene<T>::position;

  const softras_coverage_call& coverage;
  Result* result;  // where the contour edges and pieces are kept, or null

  Coverage(const softras_coverage_call& c, Result* r) : Scene<T>(c.scene), coverage(c), result(r) {}

  void run() {
    if (!current()) return fail(SOFTRAS_STALE_TOPOLOGY);
    // Finding a face's sign and edges takes about a quarter of the time of drawing a small face.
    const int64_t work = call.views * (call.faces + (int64_t)call.height * call.width / 64) / 4;
    Scene<T>::template run<View>(
        work, [&](int view, View& w, Team& team, int rank) { return render(view, w, team, rank); }, [](int, int) {});
  }

  // Whether the topology is of these faces, and the vertices that it takes for coincident are so in these positions.
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

  // Renders one view, or this member's share of it. The members meet after each phase. False: something failed, and all
  // members return at the same barrier.
  bool render(int view, View& w, Team& team, int rank) {
    const Camera cam = camera(view);
    const int64_t bands = (call.height + kBand - 1) / kBand;
    Kept scrap = {};
    Kept& kept = result ? result->kept[view] : scrap;
    if (rank == 0) {
      this->check_camera(cam);
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
    // If nothing is kept, the contour is in the list of the first member.
    const List<Contour>& contours = result ? kept.contours : w.found[0];
    Sweep<T> sweep;
    Samples samples;
    int64_t sampled = 0;
    for (int64_t band; (band = take(w.next_band)) < bands;) {
      sweep.contours = contours.data, sweep.width = call.width, sweep.faces = call.faces;
      sweep.first_row = (int)band * kBand, sweep.last_row = min((int)(band + 1) * kBand, call.height);
      sweep.rows = (T*)call.alpha + ((int64_t)view * call.height + sweep.first_row) * call.width;
      sweep.pieces = result ? kept.bands + band : nullptr;
      if (!sweep.run(w.order.data, contours.count)) sample(view, cam, w, sweep, contours, samples), sampled++;
      if (sweep.failed) fail(SOFTRAS_OUT_OF_MEMORY);
    }
    __atomic_add_fetch(&coverage.sampled_bands[view], sampled, __ATOMIC_RELAXED);
    return !team.barrier(status);
  }

  // Draws a band by samples, after its sweep was given up.
  void sample(int view, const Camera& cam, const View& w, Sweep<T>& band, const List<Contour>& contours, Samples& s) {
    s.width = call.width, s.first_row = band.first_row, s.last_row = band.last_row;
    if (!s.reserve()) return fail(SOFTRAS_OUT_OF_MEMORY);
    s.clear();
    const double top = band.first_row, bottom = band.last_row;
    for (int64_t f = 0; f < call.faces; f++) {
      if (w.sign[f] == 0) continue;
      const int32_t* v = coverage.faces + 3 * f;
      if (w.clips && !(w.front[v[0]] && w.front[v[1]] && w.front[v[2]])) {
        Vec3 point[3];
        for (int k = 0; k < 3; k++) point[k] = to_camera(cam, position(view, v[k]));
        const Outline o = clipped_outline(cam, point);
        if (o.corners >= 3) s.draw(o.pixel, o.corners);
        continue;
      }
      const Vec2 q[3] = {w.pixel[v[0]], w.pixel[v[1]], w.pixel[v[2]]};
      if (max(max(q[0].y, q[1].y), q[2].y) > top && min(min(q[0].y, q[1].y), q[2].y) < bottom) s.draw(q, 3);
    }
    for (int row = band.first_row; row < band.last_row; row++) {
      T* out = band.rows + (int64_t)(row - band.first_row) * call.width;
      s.count_row(row, [&](int64_t x, int count) { out[x] = T(count) / T(kSide * kSide); });
    }
    if (!band.pieces) return;
    band.pieces->count = 0;
    for (int64_t i = 0; i < contours.count; i++) {
      Piece p = {-1, (int)i, {0, 0}};
      auto finish = [&] {
        if (p.pixel >= 0 && !band.pieces->push(p)) band.failed = true;
      };
      s.outline(contours[i], [&](int row, int column, double ta, double tb, int side) {
        const int pixel = row * call.width + column;
        if (pixel != p.pixel) finish(), p.pixel = pixel, p.w[0] = p.w[1] = 0;
        double more[2];
        weigh_piece(ta, tb, side, more);
        p.w[0] += more[0], p.w[1] += more[1];
      });
      finish();
    }
  }

  // Projects a share of the vertices.
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

  // The sign of a face, from twice its projected area: 0 if the face has no area or is culled.
  int sign_of(double area2) const { return area2 == 0 || (call.cull && area2 > 0) ? 0 : area2 > 0 ? 1 : -1; }

  // Finds the signs of a share of the faces, and the contour edges that lie in the near plane.
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

  // The sign of a face that is not entirely in front of the near plane. The edge at which the near plane cuts the face
  // belongs to this face alone and is a contour edge.
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

  // Adds the part of an edge that is in front of the near plane. net: how many times faces traverse it from a to b, minus
  // how many times from b to a.
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

  // Finds the contour edges among a share of the edges that two faces traverse in opposite directions.
  void find_contours(int view, const Camera& cam, const View& w, Share s, List<Contour>& out) {
    constexpr int kBlock = 256;
    const int32_t* pair = coverage.pair_edges;
    const int8_t* sign = w.sign.data;
    int32_t hits[kBlock];
    for (int64_t begin = s.begin; begin < s.end; begin += kBlock) {
      const int n = (int)min(s.end - begin, int64_t(kBlock));
      int count = 0;
      for (int i = 0; i < n; i++) {  // without a branch, because nearly no edge is a contour edge
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

  // Joins the contour edges that the members have found with those among the other edges, in an order that does not depend
  // on the number of members, and sorts them by their upper ends.
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

// Frees what is kept.
void discard(Result* result) {
  if (!result) return;
  for (int64_t v = 0; result->kept && v < result->views; v++) result->kept[v].clear();
  free(result->kept);
  free(result);
}

// Draws and, if asked to, keeps what derivatives need.
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

// Copies what is kept into the caller's contours and pieces, unless they are null, and frees it.
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

extern "C" int SR_ENTRY(softras_coverage_float32)(softras_coverage_call* call) {
  return softras::SOFTRAS_ISA::coverage<float>(call);
}
extern "C" int SR_ENTRY(softras_coverage_float64)(softras_coverage_call* call) {
  return softras::SOFTRAS_ISA::coverage<double>(call);
}
