// SPDX-License-Identifier: MIT
// The CPU backend: tiles of 8 x 8 pixels, exact lists of the faces that reach each tile, SIMD over pixels.
// Compiled once for every instruction set (SOFTRAS_ISA names the entry points); dispatch.cpp chooses.
//
// Order of every sum is fixed by the input, never by the threads, so any number of them gives the same bits.
#include <stdlib.h>
#include <string.h>

#include "simd.h"
#include "softras.h"
#include "softras_math.h"
#include "team.h"

namespace softras {
namespace {

constexpr int kTile = 8;
constexpr int64_t kChunk = 1024;  // faces or vertices in one partial sum

// Growable memory without initialisation.
template <class X>
struct Buffer {
  X* data = nullptr;
  int64_t capacity = 0;
  ~Buffer() { free(data); }
  bool reserve(int64_t n) {
    if (n <= capacity) return true;
    free(data);
    data = (X*)malloc((size_t)n * sizeof(X));
    capacity = data ? n : 0;
    return data != nullptr;
  }
  X& operator[](int64_t i) { return data[i]; }
};

struct TileRect {
  int32_t x0, y0, x1, y1;  // inclusive; x0 > x1: none
  bool has(int x, int y) const { return x0 <= x && x <= x1 && y0 <= y && y <= y1; }
};

struct Entry {
  int32_t face;
  int64_t slot;  // where the backward pass keeps the gradient of this (face, tile): slots of a face are adjacent
};

template <class T>
struct SlotGradient {
  T x[4], y[4];  // of the outline's corners, pixels
};

struct FaceGradient {
  Vec3 corner[3];  // camera space
};

// What one team needs to render one view.
template <class T>
struct Workspace {
  Buffer<Vec3> points;       // V, camera space
  Buffer<Polygon> polygons;  // F
  Buffer<TileRect> rects;    // F
  Buffer<int64_t> first_slot;  // F + 1
  Buffer<int64_t> offsets;   // (members + 1) x tiles: counts, then places in the list
  Buffer<Entry> entries;
  Buffer<SlotGradient<T>> slots;
  Buffer<FaceGradient> face_gradients;
  Buffer<double> partial;  // chunks x 18: K, world to camera
  int64_t member_entries[kMaxThreads];
  int64_t next_tile = 0;
};

template <class T>
struct Renderer {
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  static constexpr int lanes = Simd<T>::lanes;
  static constexpr int block_width = lanes >= 8 ? 4 : 2, block_height = lanes / block_width;
  static constexpr int columns = kTile / block_width, rows = kTile / block_height, blocks = columns * rows;
  static constexpr T saturated = sizeof(T) == 4 ? T(1e8) : T(1e16);  // 1 / transmittance that counts as opaque

  const softras_call& call;
  Buffer<Vec3> view_gradients;  // N x V
  int status = SOFTRAS_OK;
  double sigma, radius, kappa;  // in pixels
  int tiles_x, tiles_y;
  V lane_x, lane_y;

  explicit Renderer(const softras_call& c) : call(c) {
    const double half = 0.5 * (c.height < c.width ? c.height : c.width);
    sigma = c.sigma * half * half;
    radius = __builtin_sqrt(kCutoff * sigma);
    kappa = kappa_of(sigma);
    tiles_x = (c.width + kTile - 1) / kTile, tiles_y = (c.height + kTile - 1) / kTile;
    for (int l = 0; l < lanes; l++) lane_x[l] = T(l % block_width), lane_y[l] = T(l / block_width);
  }

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

  // Threads that pay: starting one costs about as much as the setup of some thousand faces.
  int members() const {
    const int64_t work = call.views * (call.faces + (int64_t)call.height * call.width / 8);
    const int64_t most = 1 + work / 2048;
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
    const int64_t tiles = (int64_t)tiles_x * tiles_y, faces = call.faces;
    const bool backward = call.grad_alpha != nullptr;
    if (rank == 0) {
      check_camera(cam);
      const int64_t chunks = (faces > call.vertices ? faces : call.vertices) / kChunk + 1;
      if (!w.points.reserve(call.vertices) || !w.polygons.reserve(faces) || !w.rects.reserve(faces) ||
          !w.first_slot.reserve(faces + 1) || !w.offsets.reserve((team.size + 1) * tiles) ||
          (backward && (!w.face_gradients.reserve(faces) || !w.partial.reserve(chunks * 18))))
        fail(SOFTRAS_OUT_OF_MEMORY);
      w.next_tile = 0;
    }
    if (team.barrier(status)) return false;
    transform(view, cam, w, share(call.vertices, rank, team.size));
    if (team.barrier(status)) return false;
    const Share mine = share(faces, rank, team.size);
    set_up(cam, w, mine, rank);
    if (team.barrier(status)) return false;
    if (rank == 0) place(w, team.size, backward);
    if (team.barrier(status)) return false;
    fill(w, mine, rank);
    if (team.barrier(status)) return false;
    T* alpha = (T*)call.alpha + (int64_t)view * call.height * call.width;
    for (int64_t tile; (tile = take(w.next_tile)) < tiles;) {
      const Entry* first = w.entries.data + w.offsets[(int64_t)team.size * tiles + tile];
      const Entry* last = w.entries.data + (tile + 1 < tiles ? w.offsets[(int64_t)team.size * tiles + tile + 1] : w.first_slot[faces]);
      const int x = (int)(tile % tiles_x) * kTile, y = (int)(tile / tiles_x) * kTile;
      if (backward)
        tile_backward(w, x, y, first, last, alpha, (const T*)call.grad_alpha + (int64_t)view * call.height * call.width);
      else
        tile_forward(w, x, y, first, last, alpha);
    }
    if (team.barrier(status)) return false;
    if (!backward) return true;
    const int64_t face_chunks = (faces + kChunk - 1) / kChunk, vertex_chunks = (call.vertices + kChunk - 1) / kChunk;
    const Share face_share = share(face_chunks, rank, team.size), vertex_share = share(vertex_chunks, rank, team.size);
    for (int64_t c = face_share.begin; c < face_share.end; c++) faces_backward(cam, w, c);
    if (team.barrier(status)) return false;
    vertices_backward(view, cam, w, vertex_share);
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
      const Vec3 p = position(view, v);
      finite &= __builtin_isfinite(p.x) && __builtin_isfinite(p.y) && __builtin_isfinite(p.z);
      w.points[v] = to_camera(cam, p);
    }
    if (!finite) fail(SOFTRAS_BAD_POSITIONS);
  }

  bool corners(Workspace<T>& w, int64_t face, Vec3 v[3]) {
    for (int k = 0; k < 3; k++) {
      const int64_t i = index(3 * face + k);
      if (i < 0 || i >= call.vertices) return false;
      v[k] = w.points[i];
    }
    return true;
  }

  // Polygons and tile rectangles of a share of the faces, and how many of them reach each tile.
  void set_up(const Camera& cam, Workspace<T>& w, Share s, int rank) {
    const int64_t tiles = (int64_t)tiles_x * tiles_y;
    int64_t* count = w.offsets.data + rank * tiles;
    memset(count, 0, tiles * sizeof(*count));
    int64_t entries = 0;
    for (int64_t f = s.begin; f < s.end; f++) {
      Vec3 v[3];
      if (!corners(w, f, v)) return fail(SOFTRAS_BAD_FACE_INDEX);
      Polygon& p = w.polygons[f] = make_polygon(make_outline(cam, v), call.cull != 0);
      TileRect& r = w.rects[f];
      r = reach(p);
      for_tiles(p, r, [&](int64_t tile) { count[tile]++, entries++; });
    }
    w.member_entries[rank] = entries;
  }

  // Tiles that hold a pixel centre within the cut-off of the polygon's bounds.
  TileRect reach(const Polygon& p) const {
    if (!p.corners) return {1, 1, 0, 0};
    const double x0 = __builtin_ceil(p.x0 - radius - 0.5), x1 = __builtin_floor(p.x1 + radius - 0.5);
    const double y0 = __builtin_ceil(p.y0 - radius - 0.5), y1 = __builtin_floor(p.y1 + radius - 0.5);
    if (!(x0 <= x1 && y0 <= y1 && x1 >= 0 && y1 >= 0 && x0 < call.width && y0 < call.height)) return {1, 1, 0, 0};
    return {(int32_t)max2(x0, 0) / kTile, (int32_t)max2(y0, 0) / kTile, (int32_t)min2(x1, call.width - 1) / kTile,
            (int32_t)min2(y1, call.height - 1) / kTile};
  }

  // Calls f(tile) for the tiles of the rectangle that no edge's line, moved out by the cut-off, leaves behind.
  template <class F>
  void for_tiles(const Polygon& p, const TileRect& r, F f) const {
    const bool small = r.x1 - r.x0 + r.y1 - r.y0 < 2;
    const double half = 0.5 * (kTile - 1);
    for (int y = r.y0; y <= r.y1; y++)
      for (int x = r.x0; x <= r.x1; x++) {
        bool hit = true;
        if (!small)
          for (int k = 0; k < p.corners; k++) {
            const Edge<double>& e = p.edge[k];
            const double across = e.nx * (x * kTile + half + 0.5) + e.ny * (y * kTile + half + 0.5) + e.c;
            hit &= across + half * (__builtin_fabs(e.nx) + __builtin_fabs(e.ny)) + radius >= 0;
          }
        if (hit) f((int64_t)y * tiles_x + x);
      }
  }

  // Counts -> places: where each member writes its entries of each tile, and (last row) where each tile begins.
  void place(Workspace<T>& w, int size, bool backward) {
    const int64_t tiles = (int64_t)tiles_x * tiles_y;
    int64_t at = 0;
    for (int64_t tile = 0; tile < tiles; tile++) {
      w.offsets[size * tiles + tile] = at;
      for (int m = 0; m < size; m++) {
        const int64_t n = w.offsets[m * tiles + tile];
        w.offsets[m * tiles + tile] = at;
        at += n;
      }
    }
    w.first_slot[call.faces] = at;
    if (!w.entries.reserve(at + 1) || (backward && !w.slots.reserve(at + 1))) fail(SOFTRAS_OUT_OF_MEMORY);
  }

  void fill(Workspace<T>& w, Share s, int rank) {
    int64_t* next = w.offsets.data + rank * (int64_t)tiles_x * tiles_y;
    int64_t slot = 0;
    for (int m = 0; m < rank; m++) slot += w.member_entries[m];
    for (int64_t f = s.begin; f < s.end; f++) {
      w.first_slot[f] = slot;
      for_tiles(w.polygons[f], w.rects[f], [&](int64_t tile) { w.entries[next[tile]++] = {(int32_t)f, slot++}; });
    }
  }

  // ------------------------------------------------------------------------------------------ one tile

  // A face's edges over a tile: distances at the first block, and their change from pixel to pixel.
  struct TileFace {
    V across[4], position[4];
    T nx[4], ny[4], half[4];
    uint32_t reached;  // blocks within the polygon's bounds

    TileFace(const Renderer& r, const Polygon& p, int x, int y) {
      for (int k = 0; k < p.corners; k++) {
        const Edge<T> e = local_edge<T>(p.edge[k], x + 0.5, y + 0.5, r.kappa);
        nx[k] = T(r.kappa) * e.nx, ny[k] = T(r.kappa) * e.ny, half[k] = e.h;
        across[k] = nx[k] * r.lane_x + ny[k] * r.lane_y + e.c;
        position[k] = ny[k] * r.lane_x - nx[k] * r.lane_y + e.e;
      }
      const int c0 = first(p.x0 - r.radius - x, block_width), c1 = last(p.x1 + r.radius - x, block_width, columns);
      const int r0 = first(p.y0 - r.radius - y, block_height), r1 = last(p.y1 + r.radius - y, block_height, rows);
      const uint32_t in_row = ((1u << (c1 - c0 + 1)) - 1) << c0;
      reached = 0;
      for (int row = r0; row <= r1; row++) reached |= in_row << (row * columns);
    }
    static int first(double from, int size) { return from <= 0 ? 0 : (int)from / size; }
    static int last(double to, int size, int n) { return to >= kTile ? n - 1 : to < 0 ? 0 : (int)to / size; }

    EdgeDistance<V> distance(int k, T dx, T dy) const {
      return edge_distance<V>(across[k] + (nx[k] * dx + ny[k] * dy), position[k] + (ny[k] * dx - nx[k] * dy), V(half[k]));
    }
  };

  static T block_x(int block) { return T(block % columns * block_width); }
  static T block_y(int block) { return T(block / columns * block_height); }

  // 2^x of the block's pixels, and where the face counts.
  static V exponential(V squared, I inside, I& counts) {
    const V x = inside ? squared : -squared;
    counts = x > T(-kCutoffLog2);
    return exp2_vector<T>(x < T(kMaxExponent) ? x : V(T(kMaxExponent)));
  }

  template <int n>
  static void multiply(const TileFace& f, uint32_t todo, V* product) {
    for (; todo; todo &= todo - 1) {
      const int block = __builtin_ctz(todo);
      const T dx = block_x(block), dy = block_y(block);
      EdgeDistance<V> d = f.distance(0, dx, dy);
      V squared = d.squared, across = d.across;
#pragma clang loop unroll(full)
      for (int k = 1; k < n; k++) {
        d = f.distance(k, dx, dy);
        squared = d.squared < squared ? d.squared : squared;
        across = d.across < across ? d.across : across;
      }
      I counts;
      const V e = exponential(squared, across > T(0), counts);
      product[block] += (V)((I)(product[block] * e) & counts);
    }
  }

  uint32_t blocks_in_image(int x, int y) const {
    uint32_t in = 0;
    for (int b = 0; b < blocks; b++)
      if (x + block_x(b) < call.width && y + block_y(b) < call.height) in |= 1u << b;
    return in;
  }

  void tile_forward(Workspace<T>& w, int x, int y, const Entry* first, const Entry* last, T* alpha) {
    V product[blocks];
    for (int b = 0; b < blocks; b++) product[b] = V(T(1));
    uint32_t open = blocks_in_image(x, y);
    for (const Entry* e = first; e < last && open; e++) {
      const Polygon& p = w.polygons[e->face];
      const TileFace f(*this, p, x, y);
      p.corners == 3 ? multiply<3>(f, f.reached & open, product) : multiply<4>(f, f.reached & open, product);
      if (((e - first) & 3) != 3) continue;
      for (uint32_t todo = open; todo; todo &= todo - 1) {
        const int b = __builtin_ctz(todo);
        if (!any_lane<T>(product[b] < saturated)) open &= ~(1u << b);
      }
    }
    for (int b = 0; b < blocks; b++) {
      const V a = T(1) - T(1) / product[b];
      each_pixel(x, y, b, [&](int64_t pixel, int lane) { alpha[pixel] = a[lane]; });
    }
  }

  template <class F>
  void each_pixel(int x, int y, int block, F f) const {
    const int bx = x + (int)block_x(block), by = y + (int)block_y(block);
    for (int l = 0; l < lanes; l++) {
      const int px = bx + l % block_width, py = by + l / block_width;
      if (px < call.width && py < call.height) f((int64_t)py * call.width + px, l);
    }
  }

  struct VectorSums {
    V across = V(T(0)), across_along = V(T(0)), past = V(T(0)), past_along = V(T(0));
    EdgeSums total() const {
      return {sum_lanes(across), sum_lanes(across_along), sum_lanes(past), sum_lanes(past_along)};
    }
  };

  // Adds a face's sums over the blocks; whether any pixel counted.
  template <int n>
  static bool accumulate(const TileFace& f, uint32_t todo, const V* weight, VectorSums* sums) {
    bool any = false;
    for (; todo; todo &= todo - 1) {
      const int block = __builtin_ctz(todo);
      const T dx = block_x(block), dy = block_y(block);
      EdgeDistance<V> d[n];
      d[0] = f.distance(0, dx, dy);
      V squared = d[0].squared, across = d[0].across;
#pragma clang loop unroll(full)
      for (int k = 1; k < n; k++) {
        d[k] = f.distance(k, dx, dy);
        squared = d[k].squared < squared ? d[k].squared : squared;
        across = d[k].across < across ? d[k].across : across;
      }
      const I inside = across > T(0);
      I counts;
      const V e = exponential(squared, inside, counts);
      counts &= weight[block] != T(0);
      if (!any_lane<T>(counts)) continue;
      any = true;
      const V g = weight[block] * (e / (e + T(1)));
      const V signed_g = (V)((I)(inside ? g : -g) & counts);
      I left = (I)(squared == squared);  // pixels whose nearest edge is not found yet
#pragma clang loop unroll(full)
      for (int k = 0; k < n; k++) {
        const I here = k == n - 1 ? left : (I)(d[k].squared == squared) & left;
        left &= ~here;
        const V s = (V)((I)signed_g & here);
        const V a = s * d[k].across, p = s * d[k].past;
        sums[k].across += a, sums[k].across_along += a * d[k].along;
        sums[k].past += p, sums[k].past_along += p * d[k].along;
      }
    }
    return any;
  }

  void tile_backward(Workspace<T>& w, int x, int y, const Entry* first, const Entry* last, const T* alpha, const T* grad) {
    V weight[blocks];  // dL/d(squared) / D: 2 ln2 transmittance dL/dalpha, zero where the forward pass stopped early
    uint32_t open = 0;
    if (first < last)
      for (int b = 0; b < blocks; b++) {
        weight[b] = V(T(0));
        each_pixel(x, y, b, [&](int64_t pixel, int lane) {
          const T transmittance = T(1) - alpha[pixel];
          weight[b][lane] = transmittance * saturated > T(1) ? T(2 * kLn2) * transmittance * grad[pixel] : T(0);
        });
        if (any_lane<T>(weight[b] != T(0))) open |= 1u << b;
      }
    for (const Entry* e = first; e < last; e++) {
      SlotGradient<T>& out = w.slots[e->slot];
      memset(&out, 0, sizeof(out));
      if (!open) continue;
      const Polygon& p = w.polygons[e->face];
      const TileFace f(*this, p, x, y);
      VectorSums sums[4];
      if (!(p.corners == 3 ? accumulate<3>(f, f.reached & open, weight, sums)
                           : accumulate<4>(f, f.reached & open, weight, sums)))
        continue;
      Vec2 g[4] = {};
      for (int k = 0; k < p.corners; k++)
        edge_backward(p.edge[k], p.flipped, kappa, sums[k].total(), g[k], g[k + 1 == p.corners ? 0 : k + 1]);
      for (int k = 0; k < p.corners; k++) out.x[k] = T(g[k].x), out.y[k] = T(g[k].y);
    }
  }

  // ------------------------------------------------------------------------------------------ from pixels to inputs

  void faces_backward(const Camera& cam, Workspace<T>& w, int64_t chunk) {
    double* gk = w.partial.data + chunk * 18;
    for (int i = 0; i < 6; i++) gk[i] = 0;
    const int64_t end = min2((chunk + 1) * kChunk, call.faces);
    for (int64_t f = chunk * kChunk; f < end; f++) {
      FaceGradient& out = w.face_gradients[f];
      out = {};
      Vec2 g[4] = {};
      bool any = false;
      for (int64_t s = w.first_slot[f]; s < w.first_slot[f + 1]; s++)
        for (int k = 0; k < 4; k++) {
          g[k].x += w.slots[s].x[k], g[k].y += w.slots[s].y[k];
          any |= w.slots[s].x[k] != 0 || w.slots[s].y[k] != 0;
        }
      if (!any) continue;
      Vec3 v[3];
      corners(w, f, v);
      const Outline o = make_outline(cam, v);
      for (int k = 0; k < o.corners; k++)
        corner_backward(v, o.corner[k], project_backward(cam, o.point[k], g[k], gk), out.corner);
    }
  }

  // Gathers a share of the vertices' gradients from all faces, in the faces' order, and takes them to the world.
  void vertices_backward(int view, const Camera& cam, Workspace<T>& w, Share chunks) {
    const int64_t begin = chunks.begin * kChunk, end = (int64_t)min2(chunks.end * kChunk, call.vertices);
    Vec3* g = view_gradients.data + (int64_t)view * call.vertices;
    for (int64_t v = begin; v < end; v++) g[v] = {0, 0, 0};
    for (int64_t f = 0; f < call.faces; f++)
      for (int k = 0; k < 3; k++) {
        const int64_t v = index(3 * f + k);
        if (v < begin || v >= end) continue;
        const Vec3 c = w.face_gradients[f].corner[k];
        g[v].x += c.x, g[v].y += c.y, g[v].z += c.z;
      }
    for (int64_t c = chunks.begin; c < chunks.end; c++) {
      double* gm = w.partial.data + c * 18 + 6;
      for (int i = 0; i < 12; i++) gm[i] = 0;
      for (int64_t v = c * kChunk; v < end && v < (c + 1) * kChunk; v++)
        g[v] = to_camera_backward(cam, position(view, v), g[v], gm);
    }
  }

  void camera_backward(int view, Workspace<T>& w, int64_t face_chunks, int64_t vertex_chunks) {
    double gk[6] = {}, gm[12] = {};
    for (int64_t c = 0; c < face_chunks; c++)
      for (int i = 0; i < 6; i++) gk[i] += w.partial[c * 18 + i];
    for (int64_t c = 0; c < vertex_chunks; c++)
      for (int i = 0; i < 12; i++) gm[i] += w.partial[c * 18 + 6 + i];
    T* k = (T*)call.grad_intrinsics + 9 * view;
    T* m = (T*)call.grad_world_to_camera + 16 * view;
    for (int i = 0; i < 9; i++) k[i] = i < 6 ? T(gk[i]) : T(0);
    for (int i = 0; i < 16; i++) m[i] = i < 12 ? T(gm[i]) : T(0);
  }
};

template <class T>
int silhouettes(const softras_call* call) {
  Renderer<T> renderer(*call);
  renderer.run();
  return renderer.status;
}

}  // namespace
}  // namespace softras

#define SR_JOIN_(a, b) a##b
#define SR_JOIN(a, b) SR_JOIN_(a, b)
extern "C" int SR_JOIN(softras_silhouettes_float32_, SOFTRAS_ISA)(const softras_call* call) {
  return softras::silhouettes<float>(call);
}
extern "C" int SR_JOIN(softras_silhouettes_float64_, SOFTRAS_ISA)(const softras_call* call) {
  return softras::silhouettes<double>(call);
}
