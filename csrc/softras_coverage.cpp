// SPDX-License-Identifier: MIT
// Exact coverage on the CPU. Vertices are projected, each face gets the sign of its projected area, and the edges between
// faces of different signs become the contour. Each thread then sweeps bands of rows (coverage_sweep.h). The pieces of the
// silhouette's outline in the pixels are kept for the derivatives, which take little time with them.
// Like softras_cpu.cpp, the file is compiled once for every instruction set, and any number of threads gives the same bits.
#include "coverage_centres.h"
#include "coverage_derivatives.h"
#include "coverage_kept.h"
#include "coverage_samples.h"
#include "coverage_sweep.h"
#include "simd.h"

namespace softras::SOFTRAS_ISA {
namespace {

// A thread is worth starting for the work of this many faces. One contour edge in a band takes as long as kFacesOfAContour
// faces, and kPixelsOfAFace pixels take as long as one face.
constexpr int64_t kFacesOfAMember = 30000, kFacesOfAContour = 50, kPixelsOfAFace = 16;

// The contour edges that one member of a team has found: those of the mesh, and those that lie in the near plane.
struct Found {
  List<Contour> edges, near;
};

// What the members of a team share to render one view.
struct View {
  Buffer<Vec2> pixel;    // V: meaningful for vertices in front of the near plane
  Buffer<uint8_t> front; // V: 1 if the vertex is in front of the near plane
  Buffer<int8_t> sign;   // F: the sign of the face's projected area; 0 if the face counts nowhere
  Buffer<int64_t> band_begin;  // (bands + 1): where the contour edges of each band begin in in_band, and the end
  Buffer<int> in_band;         // contour edges, band after band
  Found* found = nullptr;      // of each member
  int members = 0;
  List<Contour> contours = {}; // all contour edges, if none are kept
  bool clips = false;          // whether some vertex is not in front of the near plane

  // Makes room for so many members. False: there is no memory.
  bool reserve(int size) {
    if (size <= members) return true;
    Found* moved = (Found*)realloc(found, size * sizeof(Found));
    if (!moved) return false;
    memset((void*)(moved + members), 0, (size - members) * sizeof(Found));
    found = moved, members = size;
    return true;
  }
  ~View() {
    for (int rank = 0; rank < members; rank++) found[rank].edges.clear(), found[rank].near.clear();
    free(found), contours.clear();
  }
};

template <class T>
struct Coverage : Scene<T> {
  using Scene<T>::call, Scene<T>::status, Scene<T>::fail, Scene<T>::camera, Scene<T>::position;

  softras_coverage_call& coverage;
  Result* result;  // where the contour edges and pieces are kept, or null

  Coverage(softras_coverage_call& c, Result* r) : Scene<T>(c.scene), coverage(c), result(r) {}

  // Renders all views. If there are at least as many views as threads, each thread takes whole views; otherwise the threads
  // share one view after another.
  void run() {
    const int64_t work = call.faces + (int64_t)call.height * call.width / kPixelsOfAFace;
    const int threads = team_size(call.views * work, kFacesOfAMember, call.threads);
    if (threads == 1 || threads > call.views) {
      View w;
      for (int view = 0; view < call.views && status == SOFTRAS_OK; view++) render(view, w, threads);
      return;
    }
    int64_t next = 0;
    together(threads, [&](Team&, int) {
      View w;
      for (int64_t view; status_now() == SOFTRAS_OK && (view = take(next)) < call.views;) render((int)view, w, 1);
    });
  }

  int status_now() const { return __atomic_load_n(&status, __ATOMIC_RELAXED); }

  // Calls work(team, rank) in so many threads.
  template <class Work>
  static void together(int threads, Work work) {
    Team team;
    team.size = threads;
    auto member = [&](int rank) { work(team, rank); };
    run_team(team, member);
  }

  // Renders one view by at most so many threads.
  void render(int view, View& w, int threads) {
    const Camera cam = camera(view);
    const int64_t bands = (call.height + kBand - 1) / kBand;
    Kept scrap = {};
    Kept& kept = result ? result->kept[view] : scrap;
    this->check_camera(cam);
    const int for_faces = team_size(call.faces, kFacesOfAMember, threads);
    if (!w.pixel.reserve(call.vertices) || !w.front.reserve(call.vertices) || !w.sign.reserve(call.faces) ||
        !w.reserve(for_faces))
      return fail(SOFTRAS_OUT_OF_MEMORY);
    w.clips = false;
    if (result) {
      kept.bands = (List<Piece>*)calloc(bands, sizeof(List<Piece>));
      kept.band_count = kept.bands ? bands : 0;
      if (!kept.bands) return fail(SOFTRAS_OUT_OF_MEMORY);
    }
    together(for_faces, [&](Team& team, int rank) {
      if (!coincide(view, share(coverage.groups, rank, team.size))) fail(SOFTRAS_STALE_TOPOLOGY);
      transform(view, cam, w, share(call.vertices, rank, team.size));
      if (team.barrier(status)) return;
      signs(view, cam, w, share(call.faces, rank, team.size), w.found[rank].near);
      if (team.barrier(status)) return;
      find_contours(view, cam, w, share(coverage.pairs, rank, team.size), w.found[rank].edges);
    });
    if (status_now() != SOFTRAS_OK) return;
    List<Contour>& contours = result ? kept.contours : w.contours;
    join(view, cam, w, contours);
    if (status_now() != SOFTRAS_OK) return;
    if (coverage.mode == SOFTRAS_COVERAGE_CENTRES) return draw_centres(view, w, contours);
    const int64_t members = w.band_begin[bands];  // contour edges, once for each band
    const int64_t work = kFacesOfAContour * members + (int64_t)call.height * call.width / kPixelsOfAFace;
    int64_t next = 0;
    together(team_size(work, kFacesOfAMember, threads), [&](Team&, int) {
      Sweep<T> sweep;
      Samples samples;
      sweep.contours = contours.data, sweep.width = call.width, sweep.faces = call.faces;
      for (int64_t band; status_now() == SOFTRAS_OK && (band = take(next)) < bands;) {
        sweep.first_row = (int)band * kBand, sweep.last_row = min((int)(band + 1) * kBand, call.height);
        sweep.rows = (T*)call.alpha + ((int64_t)view * call.height + sweep.first_row) * call.width;
        sweep.pieces = result ? kept.bands + band : nullptr;
        const int64_t begin = w.band_begin[band], end = w.band_begin[band + 1];
        if (!sweep.run(w.in_band.data + begin, end - begin)) {
          sample(view, cam, w, sweep, w.in_band.data + begin, end - begin, samples);
          __atomic_add_fetch(&coverage.sampled_bands, 1, __ATOMIC_RELAXED);
        }
        if (sweep.failed) fail(SOFTRAS_OUT_OF_MEMORY);
      }
    });
  }

  // Draws which pixels' centres are covered, in place of exact coverage. It takes little time beside finding the contour.
  void draw_centres(int view, const View& w, const List<Contour>& contours) {
    Centres centres;
    for (int band = 0; band * kBand < call.height; band++) {
      const int64_t begin = w.band_begin[band], n = w.band_begin[band + 1] - begin;
      const int first_row = band * kBand, last_row = min(first_row + kBand, call.height);
      uint8_t* out = (uint8_t*)call.alpha + ((int64_t)view * call.height + first_row) * call.width;
      if (!centres.draw(contours.data, w.in_band.data + begin, n, first_row, last_row, call.width, out))
        return fail(SOFTRAS_OUT_OF_MEMORY);
    }
  }

  // Whether the topology is of these n faces from one on.
  bool known(int64_t begin, int64_t n) const {
    const int64_t bytes = call.wide_indices ? 24 : 12;
    const char *now = (const char*)call.face_indices, *then = (const char*)coverage.source_faces;
    return memcmp(now + begin * bytes, then + begin * bytes, n * bytes) == 0;
  }

  // Whether the vertices that the topology takes for coincident are so in these positions, in a share of the groups.
  bool coincide(int view, Share s) const {
    if (view > 0 && call.shared_vertices) return true;
    for (int64_t g = s.begin; g < s.end; g++) {
      const Vec3 p = position(view, coverage.copies[coverage.group_ends[g]]);
      for (int64_t i = coverage.group_ends[g] + 1; i < coverage.group_ends[g + 1]; i++) {
        const Vec3 q = position(view, coverage.copies[i]);
        if (p.x != q.x || p.y != q.y || p.z != q.z) return false;
      }
    }
    return true;
  }

  // Draws a band by samples, after its sweep was given up. list: the n contour edges that reach into it.
  void sample(int view, const Camera& cam, const View& w, Sweep<T>& band, const int* list, int64_t n, Samples& s) {
    constexpr int64_t kBetween = 256;  // faces from one search for full pixels to the next
    s.width = call.width, s.first_row = band.first_row, s.last_row = band.last_row;
    if (!s.reserve()) return fail(SOFTRAS_OUT_OF_MEMORY);
    s.begin();
    const double top = band.first_row, bottom = band.last_row;
    for (int64_t f = 0; f < call.faces; f++) {
      if (f % kBetween == kBetween - 1) s.find_full();
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
    s.find_outline();
    for (int64_t i = 0; i < n; i++) {
      prefetch(band.contours, list, n, i);
      Piece p = {-1, list[i], {0, 0}};
      auto finish = [&] {
        if (p.pixel >= 0 && !band.pieces->push(p)) band.failed = true;
      };
      s.outline(band.contours[list[i]], [&](int row, int column, double ta, double tb, int side) {
        const int pixel = row * call.width + column;
        if (pixel != p.pixel) finish(), p.pixel = pixel, p.w[0] = p.w[1] = 0;
        double more[2];
        weigh_piece(ta, tb, side, more);
        p.w[0] += more[0], p.w[1] += more[1];
      });
      finish();
    }
  }

  // Projects a share of the vertices, block by block, so that the compiler makes SIMD instructions of the loops.
  void transform(int view, const Camera& cam, View& w, Share s) {
    constexpr int kBlock = 64;
    double x[kBlock], y[kBlock], z[kBlock];
    int infinite = 0, behind = 0;
    for (int64_t begin = s.begin; begin < s.end; begin += kBlock) {
      const int n = (int)min(s.end - begin, int64_t(kBlock));
      const T* p = (const T*)call.positions + 3 * this->position_index(view, begin);
      for (int i = 0; i < n; i++) {
        const Vec3 c = to_camera(cam, {p[3 * i], p[3 * i + 1], p[3 * i + 2]});
        x[i] = c.x, y[i] = c.y, z[i] = c.z;
      }
      for (int i = 0; i < 3 * n; i++) infinite |= !(absolute(p[i]) <= largest());
      uint8_t* front = w.front.data + begin;
      Vec2* pixel = w.pixel.data + begin;
      for (int i = 0; i < n; i++) front[i] = z[i] > cam.near, behind |= !(z[i] > cam.near);
      if (cam.orthographic) {
        for (int i = 0; i < n; i++) pixel[i] = in_plane(cam, x[i], y[i]);
      } else {
        for (int i = 0; i < n; i++) {
          const double inverse = 1.0 / z[i];
          pixel[i] = in_plane(cam, x[i] * inverse, y[i] * inverse);
        }
      }
    }
    if (infinite) fail(SOFTRAS_BAD_POSITIONS);
    if (behind) __atomic_store_n(&w.clips, true, __ATOMIC_RELAXED);
  }
  static D2 load2(const Vec2& q) { return {q.x, q.y}; }
  static T largest() { return sizeof(T) == 4 ? T(3.4028234663852886e38) : T(1.7976931348623157e308); }

  // The sign of a face, from twice its projected area: 0 if the face has no area or is culled.
  int sign_of(double area2) const { return area2 == 0 || (call.cull && area2 > 0) ? 0 : area2 > 0 ? 1 : -1; }

  // Finds the signs of a share of the faces, and the contour edges that lie in the near plane. On the way it checks in the
  // first view that the topology is of these faces, while they are in the cache.
  void signs(int view, const Camera& cam, View& w, Share s, List<Contour>& near) {
    constexpr int kBlock = 64;
    near.count = 0;
    const Vec2* pixel = w.pixel.data;
    const double most = call.cull ? 0 : __builtin_huge_val();  // areas that are greater count nowhere
    for (int64_t begin = s.begin; begin < s.end; begin += kBlock) {
      const int n = (int)min(s.end - begin, int64_t(kBlock));
      const int32_t* v = coverage.faces + 3 * begin;
      if (view == 0 && !known(begin, n)) return fail(SOFTRAS_STALE_TOPOLOGY);
      double area2[kBlock];
      for (int i = 0; i < n; i++) {
        const D2 a = load2(pixel[v[3 * i]]), b = load2(pixel[v[3 * i + 1]]) - a, c = load2(pixel[v[3 * i + 2]]) - a;
        const D2 product = b * c.yx;
        area2[i] = product.x - product.y;
      }
      int8_t* sign = w.sign.data + begin;
      for (int i = 0; i < n; i++) sign[i] = int8_t((area2[i] > 0 && area2[i] <= most) - !(area2[i] >= 0));
      if (!w.clips) continue;
      for (int i = 0; i < n; i++)
        if (!(w.front[v[3 * i]] & w.front[v[3 * i + 1]] & w.front[v[3 * i + 2]]))
          sign[i] = (int8_t)clipped_sign(view, cam, w, v + 3 * i, near);
    }
  }

  // Where the edge between two vertices crosses the near plane: its pixel, and how far from `in`, which is in front, to
  // `behind`, from 0 to 1. Both the edge and the cut of a face end there, with equal bits, or the contour would have a gap.
  // So this is compiled once, since a compiler may round copies of it differently.
  struct Crossing {
    Vec2 pixel;
    double s;
  };
  __attribute__((noinline)) Crossing crossing(int view, const Camera& cam, int32_t in, int32_t behind) {
    const Vec3 point[2] = {to_camera(cam, position(view, in)), to_camera(cam, position(view, behind))};
    const Corner cut = {0, 1, (cam.near - point[0].z) / (point[1].z - point[0].z)};
    return {project(cam, corner_point(point, cut)), cut.s};
  }

  // The sign of a face that is not entirely in front of the near plane. The edge at which the near plane cuts the face
  // belongs to this face alone and is a contour edge.
  int clipped_sign(int view, const Camera& cam, const View& w, const int32_t* vertex, List<Contour>& near) {
    Vec2 pixel[4];
    End end[4];
    int n = 0;
    for (int i = 0; i < 3; i++) {
      const int32_t a = vertex[i], b = vertex[i == 2 ? 0 : i + 1];
      if (w.front[a]) pixel[n] = w.pixel[a], end[n++] = {a, a, 0.0};
      if (w.front[a] == w.front[b]) continue;
      const int32_t in = w.front[a] ? a : b, behind = w.front[a] ? b : a;
      const Crossing cut = crossing(view, cam, in, behind);
      pixel[n] = cut.pixel, end[n++] = {in, behind, cut.s};
    }
    if (n < 3) return 0;
    const int sign = sign_of(doubled_area(pixel, n));
    for (int k = 0; k < n && sign != 0; k++) {
      const int next = k + 1 == n ? 0 : k + 1;
      if (end[k].a == end[k].b || end[next].a == end[next].b) continue;
      Contour c;
      if (make_contour(pixel[k], pixel[next], end[k], end[next], sign, c)) keep(c, near);
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
      const Crossing cut = crossing(view, cam, in, behind);
      any = make_contour(w.pixel[in], cut.pixel, {in, in, 0.0}, {in, behind, cut.s}, front_a ? net : -net, c);
    } else {
      return;
    }
    if (any) keep(c, out);
  }

  // Adds a contour edge to a list if it reaches into the rows of the image.
  void keep(const Contour& c, List<Contour>& out) {
    if (c.y[1] > 0 && c.y[0] < call.height && !out.push(c)) fail(SOFTRAS_OUT_OF_MEMORY);
  }

  // Finds the contour edges among a share of the edges that two faces traverse in opposite directions.
  void find_contours(int view, const Camera& cam, const View& w, Share s, List<Contour>& out) {
    constexpr int kBlock = 256;
    const int8_t* sign = w.sign.data;
    int32_t hits[kBlock];
    out.count = 0;
    for (int64_t begin = s.begin; begin < s.end; begin += kBlock) {
      const int n = (int)min(s.end - begin, int64_t(kBlock));
      const int32_t* face = coverage.pair_faces + 2 * begin;
      int count = 0;
      for (int i = 0; i < n; i++) {  // without a branch, because nearly no edge is a contour edge
        hits[count] = i;
        count += sign[face[2 * i]] != sign[face[2 * i + 1]];
      }
      for (int i = 0; i < count; i++) {
        const int32_t *f = face + 2 * hits[i], *v = coverage.pair_vertices + 2 * (begin + hits[i]);
        add_edge(view, cam, w, v[0], v[1], sign[f[0]] - sign[f[1]], out);
      }
    }
  }

  // Joins the contour edges that the members have found with those among the other edges, in an order that does not depend
  // on the number of members.
  void join(int view, const Camera& cam, View& w, List<Contour>& all) {
    all.count = 0;
    for (int rank = 0; rank < w.members; rank++) append(all, w.found[rank].edges);
    for (int64_t e = 0; e < coverage.others; e++) {
      int net = 0;
      for (int64_t i = coverage.other_ends[e]; i < coverage.other_ends[e + 1]; i++)
        net += coverage.other_directions[i] * w.sign[coverage.other_faces[i]];
      if (net != 0) add_edge(view, cam, w, coverage.other_edges[2 * e], coverage.other_edges[2 * e + 1], net, all);
    }
    for (int rank = 0; rank < w.members; rank++) append(all, w.found[rank].near);
    sort_into_bands(all, w);
  }

  void append(List<Contour>& to, const List<Contour>& from) {
    if (!to.append(from)) fail(SOFTRAS_OUT_OF_MEMORY);
  }

  // Lists the contour edges that reach into each band of rows.
  void sort_into_bands(const List<Contour>& all, View& w) {
    const int64_t bands = (call.height + kBand - 1) / kBand;
    if (!w.band_begin.reserve(bands + 1)) return fail(SOFTRAS_OUT_OF_MEMORY);
    int64_t* begin = w.band_begin.data;
    for (int64_t b = 0; b <= bands; b++) begin[b] = 0;
    // First the number of edges of each band, then where the list of each ends, and while the lists are filled from their
    // ends, where it begins.
    for (int64_t i = 0; i < all.count; i++)
      for (int64_t b = first_band(all[i]); b <= last_band(all[i]); b++) begin[b]++;
    for (int64_t b = 0; b < bands; b++) begin[b + 1] += begin[b];
    if (!w.in_band.reserve(begin[bands])) return fail(SOFTRAS_OUT_OF_MEMORY);
    for (int64_t i = all.count - 1; i >= 0; i--)
      for (int64_t b = first_band(all[i]); b <= last_band(all[i]); b++) w.in_band[--begin[b]] = (int)i;
  }
  int64_t first_band(const Contour& c) const { return (int64_t)max(c.y[0], 0.0) / kBand; }
  int64_t last_band(const Contour& c) const { return (int64_t)min(c.y[1], call.height - 0.5) / kBand; }
};

// Draws and, if asked to, keeps what derivatives need.
template <class T>
int forward(softras_coverage_call* c) {
  Result* result = nullptr;
  if (c->keep) {
    result = (Result*)calloc(1, sizeof(Result));
    if (result) result->views = c->scene.views, result->kept = (Kept*)calloc(max(c->scene.views, 1), sizeof(Kept));
    if (!result || !result->kept) return discard(result), SOFTRAS_OUT_OF_MEMORY;
  }
  c->sampled_bands = c->pieces = c->bytes = 0;
  Coverage<T> renderer(*c, result);
  renderer.run();
  if (renderer.status != SOFTRAS_OK) return discard(result), renderer.status;
  for (int64_t v = 0; result && v < result->views; v++) {
    if (!result->kept[v].compact()) return discard(result), SOFTRAS_OUT_OF_MEMORY;
    const int64_t pieces = result->kept[v].pieces();
    c->pieces += pieces;
    c->bytes += sizeof(OutlineSize) + result->kept[v].contours.count * sizeof(Contour) + pieces * sizeof(Piece);
  }
  c->kept = result;
  return c->bytes <= c->room ? take_kept(c) : SOFTRAS_OK;
}

template <class T>
int coverage(softras_coverage_call* c) {
  switch (c->mode) {
    case SOFTRAS_COVERAGE_FORWARD:
    case SOFTRAS_COVERAGE_CENTRES: return forward<T>(c);
    case SOFTRAS_COVERAGE_TAKE: return take_kept(c);
    case SOFTRAS_COVERAGE_BACKWARD: return backward<T>(*c);
    case SOFTRAS_COVERAGE_PIXELS: return number_pixels(*c);
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
