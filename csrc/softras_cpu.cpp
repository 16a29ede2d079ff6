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

struct TileRect {
  int32_t x0, y0, x1, y1;  // inclusive; x0 > x1: none
  bool has(int x, int y) const { return x0 <= x && x <= x1 && y0 <= y && y <= y1; }
};

struct Entry {
  int32_t face;
  int64_t slot;  // where the backward pass keeps the gradient of this (face, tile): slots of a face are adjacent
};

template <class T>
struct Slot {
  T x[4], y[4];  // gradient of the outline's corners, pixels
};

struct FaceGradient {
  Vec3 corner[3];  // camera space
};

// What one team needs to render one view.
template <class T>
struct Workspace {
  Buffer<Vec3> points;       // V, camera space
  Buffer<Vec2> pixels;       // V, where in front of the near plane
  Buffer<Polygon> polygons;  // F
  Buffer<TileRect> rects;    // F
  Buffer<int64_t> first_slot;  // F + 1
  Buffer<int64_t> offsets;   // (members + 1) x tiles: counts, then places in the list
  Buffer<Entry> entries;
  Buffer<Slot<T>> slots;
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
  typedef T B __attribute__((ext_vector_type(blocks)));
  typedef T T4 __attribute__((ext_vector_type(4)));
  typedef double D4 __attribute__((ext_vector_type(4)));
  static constexpr T saturated = sizeof(T) == 4 ? T(1e8) : T(1e16);  // 1 / transmittance that counts as opaque
  static constexpr T most_exponent = sizeof(T) == 4 ? T(27) : T(54);   // so does 2^x beyond it
  static constexpr int unchecked = 3;  // entries between checks: 2^27 ^ 3 times 1e8 is finite in float

  const softras_call& call;
  Buffer<Vec3> view_gradients;  // N x V
  int status = SOFTRAS_OK;
  double sigma, radius, kappa;  // in pixels
  int tiles_x, tiles_y;
  V lane_x, lane_y;
  B blocks_x, blocks_y;
  T reach;  // the cut-off in units of 1 / kappa, a little more

  explicit Renderer(const softras_call& c) : call(c) {
    const double half = 0.5 * (c.height < c.width ? c.height : c.width);
    sigma = c.sigma * half * half;
    radius = __builtin_sqrt(kCutoff * sigma);
    kappa = kappa_of(sigma);
    tiles_x = (c.width + kTile - 1) / kTile, tiles_y = (c.height + kTile - 1) / kTile;
    for (int l = 0; l < lanes; l++) lane_x[l] = T(l % block_width), lane_y[l] = T(l / block_width);
    for (int b = 0; b < blocks; b++) blocks_x[b] = block_x(b), blocks_y[b] = block_y(b);
    reach = T(1.0001 * kappa * radius);
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

  // Threads that pay: starting one costs about as much as some hundred faces.
  int members() const {
    const int64_t work = call.views * (call.faces + (int64_t)call.height * call.width / 8);
    const int64_t most = 1 + work / 768;
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
      if (!w.points.reserve(call.vertices) || !w.pixels.reserve(call.vertices) || !w.polygons.reserve(faces) || !w.rects.reserve(faces) ||
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
    const int64_t image = (int64_t)view * call.height * call.width;
    for (int64_t tile; (tile = take(w.next_tile)) < tiles;) {
      const Entry* first = w.entries.data + w.offsets[(int64_t)team.size * tiles + tile];
      const Entry* last = w.entries.data + (tile + 1 < tiles ? w.offsets[(int64_t)team.size * tiles + tile + 1] : w.first_slot[faces]);
      const int x = (int)(tile % tiles_x) * kTile, y = (int)(tile / tiles_x) * kTile;
      if (backward)
        tile_backward(w, x, y, first, last, (const T*)call.transmittance + image, (const T*)call.grad_alpha + image);
      else
        tile_forward(w, x, y, first, last, (T*)call.alpha + image, (T*)call.transmittance + image);
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

  __attribute__((noinline)) void transform(int view, const Camera& cam, Workspace<T>& w, Share s) {
    bool finite = true;
    for (int64_t v = s.begin; v < s.end; v++) {
      const Vec3 p = position(view, v);
      finite &= __builtin_isfinite(p.x) && __builtin_isfinite(p.y) && __builtin_isfinite(p.z);
      w.points[v] = to_camera(cam, p);
      w.pixels[v] = project(cam, w.points[v]);
    }
    if (!finite) fail(SOFTRAS_BAD_POSITIONS);
  }

  struct Triangle {
    Vec3 point[3];
    Vec2 pixel[3];
    bool whole;  // in front of the near plane
  };

  bool triangle(const Camera& cam, Workspace<T>& w, int64_t face, Triangle& t) {
    t.whole = true;
    for (int k = 0; k < 3; k++) {
      const int64_t i = index(3 * face + k);
      if (i < 0 || i >= call.vertices) return false;
      t.point[k] = w.points[i], t.pixel[k] = w.pixels[i];
      t.whole &= t.point[k].z > cam.near;
    }
    return true;
  }

  // Polygons and tile rectangles of a share of the faces, and how many of them reach each tile.
  __attribute__((noinline)) void set_up(const Camera& cam, Workspace<T>& w, Share s, int rank) {
    const int64_t tiles = (int64_t)tiles_x * tiles_y;
    int64_t* count = w.offsets.data + rank * tiles;
    memset(count, 0, tiles * sizeof(*count));
    int64_t entries = 0;
    for (int64_t f = s.begin; f < s.end; f++) {
      Triangle t;
      if (!triangle(cam, w, f, t)) return fail(SOFTRAS_BAD_FACE_INDEX);
      Polygon& p = w.polygons[f];
      TileRect& r = w.rects[f];
      if (t.whole) {
        r = polygon(t.pixel, 3, p);
      } else {
        const Outline o = clipped_outline(cam, t.point);
        r = polygon(o.pixel, o.corners, p);
      }
      for_tiles(p, r, [&](int64_t tile) { count[tile]++, entries++; });
    }
    w.member_entries[rank] = entries;
  }

  // The polygon, and the tiles that hold a pixel centre within the cut-off of its bounds.
  TileRect polygon(const Vec2* pixel, int corners, Polygon& p) const {
    p.corners = 0;
    if (corners < 3) return {1, 1, 0, 0};
    const Bounds b = bounds_of(pixel, corners);
    const double x0 = __builtin_ceil(b.x0 - radius - 0.5), x1 = __builtin_floor(b.x1 + radius - 0.5);
    const double y0 = __builtin_ceil(b.y0 - radius - 0.5), y1 = __builtin_floor(b.y1 + radius - 0.5);
    if (!(x0 <= x1 && y0 <= y1 && x1 >= 0 && y1 >= 0 && x0 < call.width && y0 < call.height)) return {1, 1, 0, 0};
    make_polygon(pixel, corners, b, call.cull != 0, p);
    if (!p.corners) return {1, 1, 0, 0};
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
            const double across = p.nx[k] * (x * kTile + half + 0.5) + p.ny[k] * (y * kTile + half + 0.5) + p.c[k];
            hit &= across + half * (__builtin_fabs(p.nx[k]) + __builtin_fabs(p.ny[k])) + radius >= 0;
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

  __attribute__((noinline)) void fill(Workspace<T>& w, Share s, int rank) {
    int64_t* next = w.offsets.data + rank * (int64_t)tiles_x * tiles_y;
    int64_t slot = 0;
    for (int m = 0; m < rank; m++) slot += w.member_entries[m];
    for (int64_t f = s.begin; f < s.end; f++) {
      w.first_slot[f] = slot;
      for_tiles(w.polygons[f], w.rects[f], [&](int64_t tile) { w.entries[next[tile]++] = {(int32_t)f, slot++}; });
    }
  }

  // ------------------------------------------------------------------------------------------ one tile

  // A face's edges over a tile: distance and position at every lane of a block, plus those of every block's corner.
  template <int n>
  struct TileFace {
    V lane_across[n], lane_position[n];
    B block_across[n], block_position[n];
    T4 nx, ny, half, rate;
    uint32_t reached;  // blocks that no edge's line, moved out by the cut-off, leaves behind

    TileFace(const Renderer& r, const Polygon& p, int x, int y) {
      const Edges<D4> global = {*(const D4*)p.nx, *(const D4*)p.ny, *(const D4*)p.c, *(const D4*)p.e, *(const D4*)p.h, *(const D4*)p.r};
      const Edges<D4> local = localize(global, x + 0.5, y + 0.5, r.kappa);
      nx = __builtin_convertvector(local.nx, T4), ny = __builtin_convertvector(local.ny, T4);
      const T4 c = __builtin_convertvector(local.c, T4), e = __builtin_convertvector(local.e, T4);
      half = __builtin_convertvector(local.h, T4), rate = __builtin_convertvector(local.r, T4);
      const T4 most = (nx > T(0) ? nx : T4(T(0))) * T(block_width - 1) + (ny > T(0) ? ny : T4(T(0))) * T(block_height - 1) + r.reach;
      B least = B(T(0));
#pragma clang loop unroll(full)
      for (int k = 0; k < n; k++) {
        lane_across[k] = nx[k] * r.lane_x + ny[k] * r.lane_y;
        lane_position[k] = ny[k] * r.lane_x - nx[k] * r.lane_y;
        block_across[k] = nx[k] * r.blocks_x + ny[k] * r.blocks_y + c[k];
        block_position[k] = ny[k] * r.blocks_x - nx[k] * r.blocks_y + e[k];
        const B across = block_across[k] + most[k];
        least = across < least ? across : least;
      }
      reached = 0;
      for (int b = 0; b < blocks; b++) reached |= (uint32_t)(least[b] >= 0) << b;
    }

    static T at(const T4& v, int k) { return ((const T*)&v)[k]; }

    EdgeDistance<V> distance(int k, int block) const {
      const T across = ((const T*)&block_across[k])[block], position = ((const T*)&block_position[k])[block];
      return edge_distance<V>(lane_across[k] + across, lane_position[k] + position, V(at(half, k)));
    }
  };

  static T block_x(int block) { return T(block % columns * block_width); }
  static T block_y(int block) { return T(block / columns * block_height); }

  // 2^x of a block's pixels, zero where the face does not count; across < 0 outside.
  static V exponential(V squared, V across, I& counts) {
    const V x = (V)((I)squared ^ ((I)across & (I)V(T(-0.0))));
    counts = x > T(-kCutoffLog2);
    return (V)((I)exp2_vector<T>(x < most_exponent ? x : V(most_exponent)) & counts);
  }

  // Multiplies a face into the blocks' products of 1 + 2^x.
  template <int n>
  void multiply(const Polygon& p, int x, int y, uint32_t todo, V* product) const {
    const TileFace<n> f(*this, p, x, y);
    for (todo &= f.reached; todo; todo &= todo - 1) {
      const int block = __builtin_ctz(todo);
      EdgeDistance<V> d = f.distance(0, block);
      V squared = d.squared, across = d.across;
#pragma clang loop unroll(full)
      for (int k = 1; k < n; k++) {
        d = f.distance(k, block);
        squared = d.squared < squared ? d.squared : squared;
        across = d.across < across ? d.across : across;
      }
      I counts;
      const V e = exponential(squared, across, counts);
      product[block] += product[block] * e;
    }
  }

  uint32_t blocks_in_image(int x, int y) const {
    uint32_t in = 0;
    for (int b = 0; b < blocks; b++)
      if (x + block_x(b) < call.width && y + block_y(b) < call.height) in |= 1u << b;
    return in;
  }

  // The polygon of an entry; has the processor load the one of a later entry meanwhile.
  static const Polygon& fetch(const Workspace<T>& w, const Entry* e, const Entry* last) {
    if (e + 4 < last)
      for (int line = 0; line < 3; line++) __builtin_prefetch((const char*)(w.polygons.data + e[4].face) + 64 * line);
    return w.polygons.data[e->face];
  }

  __attribute__((noinline)) void tile_forward(Workspace<T>& w, int x, int y, const Entry* first, const Entry* last, T* alpha,
                                              T* transmittance) {
    V product[blocks];
    for (int b = 0; b < blocks; b++) product[b] = V(T(1));
    uint32_t open = blocks_in_image(x, y);
    for (const Entry* e = first; e < last && open;) {
      for (const Entry* stop = last - e > unchecked ? e + unchecked : last; e < stop; e++) {
        const Polygon& p = fetch(w, e, last);
        p.corners == 3 ? multiply<3>(p, x, y, open, product) : multiply<4>(p, x, y, open, product);
      }
      for (uint32_t todo = open; todo; todo &= todo - 1) {
        const int b = __builtin_ctz(todo);
        const I more = product[b] < saturated;
        product[b] = more ? product[b] : V(saturated);
        if (!any_lane<T>(more)) open &= ~(1u << b);
      }
    }
    for (int b = 0; b < blocks; b++) {
      const V left = T(1) / product[b], a = T(1) - left;
      each_pixel(x, y, b, [&](int64_t pixel, int lane) { alpha[pixel] = a[lane], transmittance[pixel] = left[lane]; });
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

  // Sums the gradient of a face's corners over the blocks.
  template <int n>
  void accumulate(const Polygon& p, int x, int y, uint32_t todo, const V* weight, Slot<T>& out) const {
    const TileFace<n> f(*this, p, x, y);
    V sum_x[4], sum_y[4];
    for (int k = 0; k < 4; k++) sum_x[k] = sum_y[k] = V(T(0));
    bool any = false;
    for (todo &= f.reached; todo; todo &= todo - 1) {
      const int block = __builtin_ctz(todo);
      EdgeDistance<V> d = f.distance(0, block);
      V squared = d.squared, across = d.across, past = d.past, least = d.across;
      V t = d.along * f.at(f.rate, 0), nx = V(f.at(f.nx, 0)), ny = V(f.at(f.ny, 0));
      I closer[n];
#pragma clang loop unroll(full)
      for (int k = 1; k < n; k++) {
        d = f.distance(k, block);
        closer[k] = d.squared < squared;
        least = d.across < least ? d.across : least;
        squared = closer[k] ? d.squared : squared;
        across = closer[k] ? d.across : across;
        past = closer[k] ? d.past : past;
        t = closer[k] ? d.along * f.at(f.rate, k) : t;
        nx = closer[k] ? V(f.at(f.nx, k)) : nx;
        ny = closer[k] ? V(f.at(f.ny, k)) : ny;
      }
      I counts;
      const V e = exponential(squared, least, counts);
      const V w = weight[block];
      if (!any_lane<T>(counts & (w != T(0)))) continue;
      any = true;
      const V g = (V)((I)(w * e / (e + T(1))) ^ ((I)least & (I)V(T(-0.0))));
      const Vector2<V> move = nearest_point_gradient(g, across, past, nx, ny);
      const V to = T(0.5) + t, from = T(0.5) - t;
      I mine[n];  // pixels whose nearest edge is edge k
      I later = I(0);
#pragma clang loop unroll(full)
      for (int k = n - 1; k > 0; k--) mine[k] = closer[k] & ~later, later |= closer[k];
      mine[0] = ~later;
#pragma clang loop unroll(full)
      for (int k = 0; k < n; k++) {
        const V share = mine[k] ? from : (V)((I)to & mine[k == 0 ? n - 1 : k - 1]);
        sum_x[k] += move.x * share, sum_y[k] += move.y * share;
      }
    }
    if (!any) return;
    sum_lanes<T>(sum_x[0], sum_x[1], sum_x[2], sum_x[3], out.x);
    sum_lanes<T>(sum_y[0], sum_y[1], sum_y[2], sum_y[3], out.y);
  }

  __attribute__((noinline)) void tile_backward(Workspace<T>& w, int x, int y, const Entry* first, const Entry* last,
                                               const T* transmittance, const T* grad) {
    V weight[blocks];  // |dL/d(squared)| / D: ln2 transmittance dL/dalpha, zero where the forward pass stopped early
    uint32_t open = 0;
    if (first < last)
      for (int b = 0; b < blocks; b++) {
        weight[b] = V(T(0));
        each_pixel(x, y, b, [&](int64_t pixel, int lane) {
          const T left = transmittance[pixel];
          weight[b][lane] = left * saturated > T(1) ? T(kLn2) * left * grad[pixel] : T(0);
        });
        if (any_lane<T>(weight[b] != T(0))) open |= 1u << b;
      }
    for (const Entry* e = first; e < last; e++) {
      Slot<T>& out = w.slots[e->slot];
      memset(&out, 0, sizeof(out));
      const Polygon& p = fetch(w, e, last);
      p.corners == 3 ? accumulate<3>(p, x, y, open, weight, out) : accumulate<4>(p, x, y, open, weight, out);
    }
  }

  // ------------------------------------------------------------------------------------------ from pixels to inputs

  __attribute__((noinline)) void faces_backward(const Camera& cam, Workspace<T>& w, int64_t chunk) {
    double* gk = w.partial.data + chunk * 18;
    for (int i = 0; i < 6; i++) gk[i] = 0;
    const int64_t end = min2((chunk + 1) * kChunk, call.faces);
    for (int64_t f = chunk * kChunk; f < end; f++) {
      FaceGradient& out = w.face_gradients[f];
      out = {};
      const int64_t first = w.first_slot[f], last = w.first_slot[f + 1];
      if (first == last) continue;
      Vec2 g[4] = {};
      for (int64_t s = first; s < last; s++)
        for (int k = 0; k < 4; k++) g[k].x += w.slots[s].x[k], g[k].y += w.slots[s].y[k];
      Triangle t;
      triangle(cam, w, f, t);
      const Outline o = t.whole ? whole_outline(t.point, t.pixel) : clipped_outline(cam, t.point);
      for (int k = 0; k < o.corners; k++)
        corner_backward(t.point, o.corner[k], project_backward(cam, o.point[k], g[k], gk), out.corner);
    }
  }

  // Gathers a share of the vertices' gradients from all faces, in the faces' order, and takes them to the world.
  __attribute__((noinline)) void vertices_backward(int view, const Camera& cam, Workspace<T>& w, Share chunks) {
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
