// SPDX-License-Identifier: MIT
// What the CUDA kernels share: their argument, and how a warp goes through the pixels of its faces. "The gradient of X" is
// short for the gradient of the loss with respect to X.
#pragma once
#define SOFTRAS_ISA cuda

namespace softras::SOFTRAS_ISA {
template <class T>
__device__ inline T positive_part(T a) { return a > 0 ? a : T(0); }
template <class T>
__device__ inline T magnitude(T a) { return a < 0 ? -a : a; }
}  // namespace softras::SOFTRAS_ISA

#include "softras_math.h"

namespace softras::SOFTRAS_ISA {

constexpr int kWarp = 32;                 // threads of a warp
constexpr int kBlock = 128;               // threads of a block
constexpr int kWarps = kBlock / kWarp;    // warps of a block
constexpr unsigned kAll = 0xffffffffu;    // a mask of all threads of a warp
constexpr int kCell = 16;     // pixels: a side of a cell, in which coordinates are small enough for float
constexpr int kPartial = 18;  // numbers of the gradient of a camera: rows 0 and 1 of K, rows 0 to 2 of world_to_camera

// The sums of the pixels are whole numbers of kUnit, 2^-44. That is finer than float64 needs, and coarse enough that no sum
// overflows: a pixel is opaque at kOpaque, and each addition that is under way by then adds at most 54.
typedef unsigned long long Sum;
constexpr double kUnit = 1.0 / 17592186044416.0;
// The sum at which a pixel counts as opaque: log2 of kSaturated.
template <class T>
constexpr Sum kOpaque = Sum((sizeof(T) == 4 ? 26.575424759098897 : 53.150849518197795) / kUnit);

// The argument of the kernels of silhouettes, which engine/softras/raster/native/cuda_structures.py declares too. Fields
// with a name of softras_call (softras.h) mean the same. Arrays are dense and hold numbers of T unless typed here.
struct Call {
  int views, vertices, faces, height, width;
  int shared_vertices, wide_indices, cull;
  int splits;    // how many warps share the cells of a face
  int partials;  // how many blocks vertices_backward has for a view
  int add;       // 1: the gradient of the positions is added to grad_positions; 0: it replaces what is there
  double sigma;  // in squared NDC
  const void *positions, *face_indices, *intrinsics, *world_to_camera;
  const unsigned char* orthographic;
  const double* near_planes;
  int* status;  // bit k is set if the inputs have the fault number k of softras.h, as SOFTRAS_BAD_POSITIONS is number 1
  Sum* sums;    // (N,H,W): of log2(1 + 2^x) over the faces, in kUnit; zero before the first face
  void *alpha, *transmittance;
  const void* grad_alpha;
  // Sums over the faces, zero before the first one.
  double* pixel_gradients;       // (N,V,2): gradient of the pixel of a vertex, from faces entirely before the near plane
  double* point_gradients;       // (N,V,3): gradient of the camera-space point of a vertex, from clipped faces;
                                 // vertices_backward replaces it by the gradient of the position
  double* clipped_intrinsics;    // (N,6): gradient of rows 0 and 1 of K, from clipped faces
  double* corner_gradients;      // (N,F,kCorner), or null. If it is given, the summands of the three above are stored here,
                                 // and the caller adds them up in a fixed order
  double* partial_gradients;     // (N,partials,kPartial): the part of each block in the gradients of the cameras
  void *grad_positions, *grad_intrinsics, *grad_world_to_camera;
};

__device__ inline float exp2_of(float x) { return exp2f(x); }
__device__ inline double exp2_of(double x) { return exp2(x); }
__device__ inline float log2_of(float x) { return log2f(x); }
__device__ inline double log2_of(double x) { return log2(x); }
__device__ inline int rounded_up(float x) { return (int)ceilf(x); }
__device__ inline int rounded_up(double x) { return (int)ceil(x); }
__device__ inline int rounded_down(float x) { return (int)floorf(x); }
__device__ inline int rounded_down(double x) { return (int)floor(x); }
__device__ inline int lane_of_thread() { return threadIdx.x % kWarp; }
__device__ inline int warp_of_thread() { return threadIdx.x / kWarp; }

// The sum over the threads of the warp, which all of them get.
template <class T>
__device__ inline T warp_sum(T v) {
  for (int o = kWarp / 2; o > 0; o /= 2) v += __shfl_xor_sync(kAll, v, o);
  return v;
}

// ---------------------------------------------------------------------------------------------- inputs

// The vertex at corner `corner` % 3 of face `corner` / 3.
__device__ inline long long vertex_of(const Call& call, long long corner) {
  return call.wide_indices ? ((const long long*)call.face_indices)[corner] : ((const int*)call.face_indices)[corner];
}

// The row of a vertex among the positions of all views.
__device__ inline long long position_index(const Call& call, int view, long long vertex) {
  return vertex + (call.shared_vertices ? 0 : (long long)view * call.vertices);
}

template <class T>
__device__ inline Vec3 position_of(const Call& call, int view, long long vertex) {
  const T* p = (const T*)call.positions + 3 * position_index(call, view, vertex);
  return {p[0], p[1], p[2]};
}

// Loads the camera of a view into shared memory, by several threads: the block needs a barrier before it is used.
template <class T>
__device__ inline void load_camera(const Call& call, int view, Camera& camera) {
  const int i = threadIdx.x;
  if (i < 6) camera.k[i] = ((const T*)call.intrinsics)[9LL * view + i];
  if (i < 12) camera.m[i] = ((const T*)call.world_to_camera)[16LL * view + i];
  if (i == 0) camera.near = call.near_planes[view], camera.orthographic = call.orthographic[view] != 0;
}

// The camera of a view, for a thread by itself.
template <class T>
__device__ inline Camera camera_of(const Call& call, int view) {
  Camera camera;
  for (int i = 0; i < 6; i++) camera.k[i] = ((const T*)call.intrinsics)[9LL * view + i];
  for (int i = 0; i < 12; i++) camera.m[i] = ((const T*)call.world_to_camera)[16LL * view + i];
  camera.near = call.near_planes[view], camera.orthographic = call.orthographic[view] != 0;
  return camera;
}

// A kernel that checks the inputs and sets bits of `status` where numbers are not finite or vertices do not exist.
template <class T>
__device__ void check(const Call& call) {
  const long long start = blockIdx.x * (long long)kBlock + threadIdx.x, step = gridDim.x * (long long)kBlock;
  const long long positions = 3LL * call.vertices * (call.shared_vertices ? 1 : call.views);
  int bad = 0;
  for (long long i = start; i < positions; i += step)
    if (!isfinite(((const T*)call.positions)[i])) bad |= 1 << 1;
  for (long long i = start; i < 6LL * call.views; i += step)
    if (!isfinite(((const T*)call.intrinsics)[9 * (i / 6) + i % 6])) bad |= 1 << 2;
  for (long long i = start; i < 12LL * call.views; i += step)
    if (!isfinite(((const T*)call.world_to_camera)[16 * (i / 12) + i % 12])) bad |= 1 << 3;
  for (long long i = start; i < 3LL * call.faces; i += step) {
    const long long v = vertex_of(call, i);
    if (v < 0 || v >= call.vertices) bad |= 1 << 4;
  }
  if (bad) atomicOr(call.status, bad);
}

// ---------------------------------------------------------------------------------------------- faces

// An edge about the middle of a cell, as LocalEdges has it, and 1 / nx.
template <class T>
struct alignas(16) Edge {
  T nx, ny, c, e, h, r, t, inverse_nx;
};

// A cell: a part of the rectangle of a face, whose first pixel is (x, y). Cells are kCell pixels wide and high, and smaller
// at the right and the lower border of the rectangle.
struct Cell {
  int x, y, width, height;
};
__device__ inline Cell cell_at(const Rect& r, int x, int y) {
  return {x, y, min(kCell, r.x1 - x + 1), min(kCell, r.y1 - y + 1)};
}

// The outline of a face all of whose vertices exist. Writes the vertices in camera space to `point`.
template <class T>
__device__ inline Outline outline_of(const Call& call, const Camera& camera, int view, long long face, Vec3* point) {
  Vec2 pixel[3];
  bool whole = true;
  for (int k = 0; k < 3; k++) {
    point[k] = to_camera(camera, position_of<T>(call, view, vertex_of(call, 3 * face + k)));
    pixel[k] = project(camera, point[k]);
    whole = whole && point[k].z > camera.near;
  }
  return whole ? whole_outline(point, pixel) : clipped_outline(camera, point);
}

template <class T>
__device__ inline Edge<T> edge_about_middle(const Cell& cell, const Edges<double>& edge, const Blur<T>& blur) {
  const double x = cell.x + cell.width / 2 + 0.5, y = cell.y + cell.height / 2 + 0.5;
  const LocalEdges<double> e = localize(edge, x, y, blur);
  return {T(e.nx), T(e.ny), T(e.c), T(e.e), T(e.h), T(e.r), T(e.t), T(1) / T(e.nx)};
}

// A face in one view, in shared memory.
template <class T>
struct Face {
  union {
    Edges<double> edge[4];
    Edge<T> single_edge[4];  // if the face has a single cell: the edges about the middle of that cell
  };
  Rect rect;     // the pixels within the cut-off distance of the bounds of the face
  int corners;   // 3 or 4, or 0 if the face counts nowhere
  bool clipped;  // whether the near plane cuts the face
  bool single;   // whether single_edge is set, and not edge
};

// Sets up a face. growth: times its extent, how much farther than the cut-off distance the face counts.
template <class T>
__device__ void set_up(const Call& call, const Camera& camera, const Blur<T>& blur, double growth, int view,
                       long long face, Face<T>& out) {
  out.corners = 0;
  if (face >= call.faces) return;
  Vec3 point[3];
  Vec2 q[4];
  bool whole = true;
  for (int k = 0; k < 3; k++) {
    const long long v = vertex_of(call, 3 * face + k);
    if (v < 0 || v >= call.vertices) return;
    point[k] = to_camera(camera, position_of<T>(call, view, v));
    q[k] = project(camera, point[k]);
    whole = whole && point[k].z > camera.near;
  }
  int n = 3;
  if (!whole) {
    const Vec3 copy[3] = {point[0], point[1], point[2]};  // the copy is indexed, so that `point` can stay in registers
    const Outline outline = clipped_outline(camera, copy);
    n = outline.corners;
    if (n < 3) return;
    for (int k = 0; k < 4; k++)
      if (k < n) q[k] = outline.pixel[k];
  }
  if (n == 3) q[3] = q[0];  // a fourth corner equal to the first changes neither the bounds nor the area
  const Bounds bounds = bounds_of(q, 4);
  const double radius = blur.cutoff_pixels + growth * extent_of(bounds);
  if (!pixels_within(bounds, radius, call.width, call.height, out.rect)) return;
  const double area2 = doubled_area(q, 4);
  if (!visible(area2, bounds, call.cull != 0)) return;
  // In float32 most faces have a single cell, and each thread finds the edges of its face there once. In float64 these
  // would not fit into shared memory.
  out.single = sizeof(T) == 4 && out.rect.x1 - out.rect.x0 < kCell && out.rect.y1 - out.rect.y0 < kCell;
  const Cell cell = cell_at(out.rect, out.rect.x0, out.rect.y0);
  for (int k = 0; k < 4; k++) out.edge[k].c = q[k].x, out.edge[k].e = q[k].y;  // memory that the loop below can index
#pragma unroll 1
  for (int k = 0; k < n; k++) {
    const Edges<double>& next = out.edge[(k + 1) % 4];
    const Vec2 a = {out.edge[k].c, out.edge[k].e}, b = k + 1 < n ? Vec2{next.c, next.e} : q[0];
    const Edges<double> edge = make_edges(a.x, a.y, b.x, b.y, area2 < 0 ? -1.0 : 1.0);
    if (out.single) out.single_edge[k] = edge_about_middle(cell, edge, blur);
    if (!out.single) out.edge[k] = edge;
  }
  out.clipped = !whole;
  out.corners = n;
}

// ---------------------------------------------------------------------------------------------- pixels

// The shared memory of a block.
template <class T>
struct Shared {
  Camera camera;
  Blur<T> blur;
  Face<T> face[kBlock];
  Edge<T> edge[kWarps][4];  // for each warp, the edges of its face about the middle of its present cell
};

// A pixel that a thread visits.
template <class T>
struct Pixel {
  T x, y;           // from the middle of the cell, in pixels
  int column, row;  // in the image
  long long index;  // among the pixels of all views
  bool exists;      // false if the thread has no pixel at this turn
};

// Goes through the pixels of a face, with all threads of a warp. The warp takes the cells first, first + splits, ... of the
// face's rectangle. It calls enter(cell) for each of them and then visit(pixel, edges) for 32 pixels at once, one in each
// thread: for those that lie on the inner side of all edges' lines once these are moved outwards by the cut-off distance.
// Each thread finds the interval of such pixels in one row of the cell, as cells.h does, and the pixels of all intervals are
// dealt out to the threads one after another.
template <int n, class T, class Enter, class Visit>
__device__ void walk(const Call& call, Shared<T>& shared, const Face<T>& f, int view, int first, Enter enter,
                     Visit visit) {
  const int lane = lane_of_thread();
  Edge<T>* local = shared.edge[warp_of_thread()];
  const Blur<T>& blur = shared.blur;
  const T flat = T(1e-6) * T(blur.kappa);
  const int columns = (f.rect.x1 - f.rect.x0) / kCell + 1, rows = (f.rect.y1 - f.rect.y0) / kCell + 1;
  for (int i = first; i < columns * rows; i += call.splits) {
    const Cell cell = cell_at(f.rect, f.rect.x0 + i % columns * kCell, f.rect.y0 + i / columns * kCell);
    const int middle_x = cell.width / 2, middle_y = cell.height / 2;
    if (!f.single) {
      __syncwarp();  // until all threads have read the edges of the cell before
      if (lane < n) local[lane] = edge_about_middle(cell, f.edge[lane], blur);
      __syncwarp();
    }
    Edge<T> edge[n];
    for (int k = 0; k < n; k++) edge[k] = f.single ? f.single_edge[k] : local[k];
    enter(cell);

    T low = T(0), high = T(cell.width - 1);
    for (int k = 0; k < n; k++) {
      const T at = T(middle_x) - (edge[k].ny * T(lane - middle_y) + edge[k].c + blur.cutoff) * edge[k].inverse_nx;
      if (edge[k].nx > flat) low = max(low, at);  // a line that is nearly horizontal bounds no row
      if (edge[k].nx < -flat) high = min(high, at);
    }
    const int start = rounded_up(min(low, T(kCell))), stop = rounded_down(max(high, T(-1)));
    const int count = lane < cell.height ? max(0, stop - start + 1) : 0;
    int end = count;  // becomes the number of pixels in this row and all rows before
    for (int o = 1; o < kCell; o *= 2) {
      const int before = __shfl_up_sync(kAll, end, o);
      if (lane >= o) end += before;
    }
    const int total = __shfl_sync(kAll, end, kCell - 1), from = start - (end - count);
    for (int base = 0; base < total; base += kWarp) {
      const int number = base + lane;
      int row = 0;
      for (int o = kCell / 2; o > 0; o /= 2)
        if (__shfl_sync(kAll, end, row + o - 1) <= number) row += o;
      const int column = number + __shfl_sync(kAll, from, row);
      const bool exists = number < total;
      const int x = cell.x + column, y = cell.y + row;
      const long long index = ((long long)view * call.height + y) * call.width + x;
      visit(Pixel<T>{T(column - middle_x), T(row - middle_y), x, y, exists ? index : 0, exists}, edge);
    }
  }
}
// The same without enter().
template <int n, class T, class Visit>
__device__ void walk(const Call& call, Shared<T>& shared, const Face<T>& f, int view, int first, Visit visit) {
  walk<n>(call, shared, f, view, first, [](const Cell&) {}, visit);
}

// x = +-d^2 log2(e) / sigma of a pixel, positive inside the face.
template <int n, class T>
__device__ inline T exponent(const Pixel<T>& p, const Edge<T>* edge) {
  T squared = 0, inside = 0;
  for (int k = 0; k < n; k++) {
    const Edge<T>& e = edge[k];
    const T across = e.nx * p.x + e.ny * p.y + e.c;
    const T s = squared_distance(across, e.ny * p.x - e.nx * p.y + e.e, e.h);
    squared = k == 0 ? s : min(s, squared);
    inside = k == 0 ? across : min(across, inside);
  }
  return inside < 0 ? -squared : squared;
}

// 2^x, and zero where the face does not count.
template <class T>
__device__ inline T exponential(T x) {
  return x > T(-kCutoffLog2) ? exp2_of(min(x, kMostExponent<T>)) : T(0);
}

// log2(1 + e). The digits of a small e that are lost in 1 + e are added again, since the losses of many faint faces would
// add up.
template <class T>
__device__ inline T log2_of_one_more(T e) {
  const T sum = T(1) + e;
  return log2_of(sum) + (e < T(1) ? (e - (sum - T(1))) * T(kLog2e) : T(0));
}

// Adds a face with e = 2^x to the sum of a pixel.
template <class T>
__device__ inline void add_to(Sum* sum, T e) {
  atomicAdd(sum, Sum(log2_of_one_more(e) * T(1 / kUnit) + T(0.5)));
}

// The transmittance of a pixel, from its sum.
template <class T>
__device__ inline T transmittance_of(Sum sum) {
  return sum < kOpaque<T> ? exp2_of(-(T(sum) * T(kUnit))) : T(1) / kSaturated<T>;
}

// d alpha / dx divided by the coverage D of a face, the same for all faces; zero where the forward pass found the pixel
// opaque and stopped.
template <class T>
__device__ inline T slope_of(const Call& call, long long pixel) {
  const T left = ((const T*)call.transmittance)[pixel];
  return left * kSaturated<T> > T(1) ? T(kLn2) * left : T(0);
}

// The point of a face's outline nearest to a pixel.
template <class T>
struct Nearest {
  T x;             // as exponent() gives it
  T across, past;  // distances of the pixel from the edge, as softras_math.h defines them
  T nx, ny;        // the normal of the edge
  T t;             // from 0 at the first corner of the edge to 1 at the second, where the point lies
  int edge;
};
template <int n, class T>
__device__ inline Nearest<T> nearest_of(const Pixel<T>& p, const Edge<T>* edge) {
  Nearest<T> out = {};
  T squared = 0, inside = 0;
  for (int k = 0; k < n; k++) {
    const Edge<T>& e = edge[k];
    const T a = e.nx * p.x + e.ny * p.y + e.c, position = e.ny * p.x - e.nx * p.y + e.e;
    const T along = nearest_along(position, e.h), beyond = position - along, s = squared_distance(a, beyond);
    inside = k == 0 ? a : min(a, inside);
    if (k == 0 || s < squared) {
      squared = s;
      out.edge = k, out.nx = e.nx, out.ny = e.ny, out.across = a, out.past = beyond, out.t = along * e.r + e.t;
    }
  }
  out.x = inside < 0 ? -squared : squared;
  return out;
}

// How a pixel pulls at a face: the gradient of the nearest point of the outline, which is at t on the edge `edge`.
template <class T>
struct Pull {
  Vector2<T> move;
  T t;
  int edge;
};

// The pull of a pixel, from the derivative g of the loss with respect to x.
template <class T>
__device__ inline Pull<T> pull_of(const Nearest<T>& at, T g) {
  return {nearest_point_gradient(at.x < 0 ? -g : g, at.across, at.past, at.nx, at.ny), at.t, at.edge};
}

// The pull of a pixel, from weight = dL/dx divided by the coverage D of the face.
template <int n, class T>
__device__ inline Pull<T> pull_of(const Pixel<T>& p, const Edge<T>* edge, T weight) {
  const Nearest<T> at = nearest_of<n>(p, edge);
  const T e = exponential(at.x);
  return pull_of(at, weight * e / (e + T(1)));
}

// The share of corner k in the point that is pulled at.
template <int n, class T>
__device__ inline T share_of(const Pull<T>& pull, int k) {
  return pull.edge == k ? T(1) - pull.t : pull.edge == (k + n - 1) % n ? pull.t : T(0);
}

// Sets up the 32 faces of the warp, one in each thread, and calls work(number of the face, face, first cell) with all
// threads for each face that counts somewhere. The first thread of the block has set shared.blur before. growth: as for
// set_up().
template <class T, class Work>
__device__ void for_faces(const Call& call, Shared<T>& shared, double growth, int view, Work work) {
  const int lane = lane_of_thread(), warp = warp_of_thread();
  load_camera<T>(call, view, shared.camera);
  __syncthreads();
  const long long first = blockIdx.x * (long long)kBlock + warp * kWarp;
  Face<T>* face = shared.face + warp * kWarp;
  set_up(call, shared.camera, shared.blur, growth, view, first + lane, face[lane]);
  unsigned left = __ballot_sync(kAll, face[lane].corners > 0);
  __syncwarp();
  for (int i = 0; i < kWarp; i++)
    if (left >> i & 1) work(first + i, face[i], (int)((blockIdx.y + (unsigned)first + i) % (unsigned)call.splits));
}
template <class T, class Work>
__device__ void for_faces(const Call& call, Shared<T>& shared, int view, Work work) {
  if (threadIdx.x == 0) shared.blur = blur_of<T>(call.sigma, call.height, call.width);
  for_faces(call, shared, 0.0, view, work);
}

// The gradients of one face in corner_gradients: of the pixels of its vertices (x, y each); from kCornerPoint on, of their
// camera-space points (x, y, z each); from kCornerIntrinsics on, of rows 0 and 1 of K. In all, kCorner numbers.
constexpr int kCorner = 21, kCornerPoint = 6, kCornerIntrinsics = 15;
__device__ inline double* corner_of(const Call& call, int view, long long face) {
  return call.corner_gradients + kCorner * ((long long)view * call.faces + face);
}

}  // namespace softras::SOFTRAS_ISA
