// SPDX-License-Identifier: MIT
// Exact coverage on the GPU, in three steps.
//
// The contour: a thread for each vertex projects it, one for each face finds the sign of its projected area, and one for each
// edge its winding number, net of all its faces. The caller lists the edges whose number is not zero, in the order of their
// numbers, and a thread for each of them makes its contour edge.
//
// The rows: each row of pixels has a list of the contour edges in it. The order in a list depends on the schedule, but nothing
// that is found with it does.
//
// The outline: an edge e is compared with each other edge f in a row. Two straight edges cross at most once, so f lies to
// the left of e in one span of heights, or in none. The winding number to the left of e at a height is the sum of those of the
// edges f in whose span the height is, and where it or the one to the right of e is zero, and the other is not, e is on the
// outline. No list is sorted and no group divided, as on the CPU (coverage_sweep.h): there one thread goes through a row once,
// here every edge in a row has a thread that looks at all others.
//
// Areas are added up as whole numbers, so that the image has the same bits in any order.
#pragma once
#include "cuda_faces.h"
#include "coverage.h"

namespace softras::SOFTRAS_ISA {

constexpr int kShare = 8;  // threads that share the rows of a contour edge
// A point that comes nearer to an edge, as a share of its distance from the ends of the edge, is compared with it precisely.
constexpr double kSure = 1e-6;
// A pixel is empty or full if its coverage differs by no more from 0 or from 1: rounding leaves so much where edges meet.
constexpr double kClose = 1e-9;
// Areas are whole numbers of kAreaUnit. In a pixel those of all parts of a row add up to less than 2^13.
typedef unsigned long long Area;
constexpr double kAreaUnit = 1.0 / 1125899906842624.0;  // 2^-50

// The argument of the kernels of exact coverage, which engine/softras/raster/native/cuda_structures.py declares too. Fields
// with a name of softras_coverage_call (softras.h) mean the same. N is the number of views in this call, and R of their rows:
// bands times kBand for each view.
struct CoverageCall {
  Call scene;  // sums and transmittance are not used
  int bands;   // of rows in the image
  int pairs, others;
  int coincident;  // how many vertices belong to groups
  const void* source_faces;
  const int *faces, *pair_faces, *pair_vertices, *other_edges;
  const long long* other_ends;
  const int* other_faces;
  const signed char* other_directions;
  const int *copies, *firsts;  // (coincident): vertices that belong to groups, and the first of the group of each
  // The contour.
  Vec2* pixels;          // (N,V): meaningful for vertices in front of the near plane
  unsigned char* front;  // (N,V): 1 if the vertex is in front of the near plane
  signed char* signs;    // (N,F): of the face's projected area; 0 if the face counts nowhere
  int* windings;         // (N,pairs + others + faces): net winding numbers of the edges from their first vertex to their second,
                         // and of the edges at which the near plane cuts faces
  long long count;       // C: the number of contour edges
  const long long* found;  // (C,2): view and number of each edge whose winding number is not zero, ascending
  Contour* contours;       // (C)
  // The rows.
  int* counts;                   // (R): contour edges of each row
  const unsigned char* sampled;  // (N,bands): 1 for bands that are measured by samples
  const long long* begins;       // (R + 1): where the list of each row begins, and the end; none of a row that is sampled
  int* in_row;                   // the contour edges in each row, row after row
  Area* areas;  // (N,H,W + 1): how much more of a pixel is covered than of the pixel before, in kAreaUnit; zero at first. Of
                // rows that are sampled: the samples of each pixel, those of a line in one byte, the leftmost in the lowest bit
  // Samples.
  int first_slot, slots;          // which of the sampled rows are drawn in this call
  int lines;                      // samples in each row and column of a pixel: kSide, or 1 for the centres of pixels
  const int* slot_of_row;         // (R): the number of each row among the sampled ones, negative where it is none
  const long long* sampled_rows;  // the rows that are sampled, among R
  int* changes;  // (slots,lines,lines W): by how much the winding number changes before each sample of a line; zero at first
  // Derivatives (cuda_coverage_backward.h).
  double* end_gradients;     // (C,2,kEndGradient)
  long long* end_vertices;   // (C,2,2): vertices a and b of each end, among those of all N views
  unsigned char* on_outline; // (N,H,W): set to 1 for pixels on the outline
  int parameters, first_parameter, block;  // P, and which of them are taken in this call: `block` from first_parameter on
  const int* row_of;         // (N,H,W): the row of each pixel on the outline
  const void *d_positions, *d_intrinsics, *d_world_to_camera;
  double* motions;           // (C,2,block): how the coverage of a pixel changes through an end of the edge, if its weight is 1
  void* rows;                // (M,P): added to
};

// ---------------------------------------------------------------------------------------------- the contour

// A kernel: sets a bit of `status` if the topology is of other faces, or if vertices that it takes for one lie apart.
template <class T>
__device__ void known(const CoverageCall& call) {
  const Call& scene = call.scene;
  const long long start = blockIdx.x * (long long)kBlock + threadIdx.x, step = gridDim.x * (long long)kBlock;
  bool stale = false;
  for (long long i = start; i < 3LL * scene.faces; i += step)
    stale |= scene.wide_indices
                 ? ((const long long*)scene.face_indices)[i] != ((const long long*)call.source_faces)[i]
                 : ((const int*)scene.face_indices)[i] != ((const int*)call.source_faces)[i];
  for (int view = 0; view < (scene.shared_vertices ? 1 : scene.views); view++)
    for (long long i = start; i < call.coincident; i += step) {
      const Vec3 p = position_of<T>(scene, view, call.copies[i]), q = position_of<T>(scene, view, call.firsts[i]);
      stale |= p.x != q.x || p.y != q.y || p.z != q.z;
    }
  if (stale) atomicOr(scene.status, 1 << 10);
}

// A kernel: projects the vertices.
template <class T>
__device__ void project_vertices(const CoverageCall& call) {
  __shared__ Camera camera;
  const int view = blockIdx.y, vertex = blockIdx.x * kBlock + threadIdx.x;
  load_camera<T>(call.scene, view, camera);
  __syncthreads();
  if (vertex >= call.scene.vertices) return;
  const Vec3 point = to_camera(camera, position_of<T>(call.scene, view, vertex));
  const long long i = (long long)view * call.scene.vertices + vertex;
  call.pixels[i] = project(camera, point), call.front[i] = point.z > camera.near;
}

// Where the edge between two vertices crosses the near plane: its pixel, and how far from `in`, which is in front, to `behind`,
// from 0 to 1. Both the edge and the cut of a face end there, with equal bits, or the contour would have a gap. So this is
// compiled once, since a compiler may round copies of it differently.
struct Crossing {
  Vec2 pixel;
  double s;
};
template <class T>
__device__ __noinline__ Crossing near_crossing(const Call& call, int view, int in, int behind) {
  const Camera camera = camera_of<T>(call, view);
  const Vec3 point[2] = {to_camera(camera, position_of<T>(call, view, in)),
                         to_camera(camera, position_of<T>(call, view, behind))};
  const Corner cut = {0, 1, (camera.near - point[0].z) / (point[1].z - point[0].z)};
  return {project(camera, corner_point(point, cut)), cut.s};
}

// An end of an edge in a view, and its pixel.
struct Place {
  Vec2 pixel;
  End end;
};
__device__ inline Place place_of(const CoverageCall& call, int view, int vertex) {
  return {call.pixels[(long long)view * call.scene.vertices + vertex], {vertex, vertex, 0.0}};
}
template <class T>
__device__ Place place_between(const CoverageCall& call, int view, int in, int behind) {
  const Crossing cut = near_crossing<T>(call.scene, view, in, behind);
  return {cut.pixel, {in, behind, cut.s}};
}

// The vertices of a face, of which coincident ones are one, and whether each is in front of the near plane.
struct Triangle {
  int vertex[3];
  bool front[3];
};
__device__ inline Triangle triangle_of(const CoverageCall& call, int view, int face) {
  Triangle t;
  for (int k = 0; k < 3; k++) {
    t.vertex[k] = call.faces[3LL * face + k];
    t.front[k] = call.front[(long long)view * call.scene.vertices + t.vertex[k]];
  }
  return t;
}

// A kernel: finds the sign of each face, and as the winding number of the edge at which the near plane cuts it, which belongs
// to this face alone, the same sign.
template <class T>
__device__ void face_signs(const CoverageCall& call) {
  const int view = blockIdx.y, face = blockIdx.x * kBlock + threadIdx.x;
  if (face >= call.scene.faces) return;
  const Triangle t = triangle_of(call, view, face);
  Vec2 pixel[4];
  int n = 0;
  bool cut = false;
  for (int k = 0; k < 3; k++) {
    const int next = k == 2 ? 0 : k + 1;
    if (t.front[k]) pixel[n++] = place_of(call, view, t.vertex[k]).pixel;
    if (t.front[k] == t.front[next]) continue;
    const int in = t.front[k] ? k : next, behind = t.front[k] ? next : k;
    pixel[n++] = place_between<T>(call, view, t.vertex[in], t.vertex[behind]).pixel, cut = true;
  }
  const double area2 = n < 3 ? 0.0 : doubled_area(pixel, n);
  const int sign = area2 > 0 ? !call.scene.cull : -!(area2 >= 0);
  call.signs[(long long)view * call.scene.faces + face] = (signed char)sign;
  const long long edges = call.pairs + call.others;
  call.windings[view * (edges + call.scene.faces) + edges + face] = cut ? sign : 0;
}

// The first and the second vertex of an edge of the mesh.
__device__ inline const int* vertices_of(const CoverageCall& call, int edge) {
  return edge < call.pairs ? call.pair_vertices + 2LL * edge : call.other_edges + 2LL * (edge - call.pairs);
}

// A kernel: finds the winding number of each edge; it is zero too if the edge is nowhere in front of the near plane.
template <class T>
__device__ void edge_windings(const CoverageCall& call) {
  const int view = blockIdx.y, edge = blockIdx.x * kBlock + threadIdx.x;
  if (edge >= call.pairs + call.others) return;
  const signed char* sign = call.signs + (long long)view * call.scene.faces;
  int net = 0;
  if (edge < call.pairs) {
    net = sign[call.pair_faces[2LL * edge]] - sign[call.pair_faces[2LL * edge + 1]];
  } else {
    const int other = edge - call.pairs;
    for (long long i = call.other_ends[other]; i < call.other_ends[other + 1]; i++)
      net += call.other_directions[i] * sign[call.other_faces[i]];
  }
  const int* vertex = vertices_of(call, edge);
  const unsigned char* front = call.front + (long long)view * call.scene.vertices;
  call.windings[view * (long long)(call.pairs + call.others + call.scene.faces) + edge] =
      front[vertex[0]] || front[vertex[1]] ? net : 0;
}

// Rows first <= row < last.
struct Rows {
  int first, last;
};
// The rows of the image in which a contour edge can be on the outline, or hide what is to its right.
__device__ inline Rows rows_of(const CoverageCall& call, const Contour& c) {
  const double height = call.scene.height;
  if (!(c.y[0] < c.y[1] && c.y[1] > 0 && c.y[0] < height && min(c.x[0], c.x[1]) < call.scene.width)) return {0, 0};
  return {(int)max(c.y[0], 0.0), (int)round_up(min(c.y[1], height))};
}
// The number of a row among those of all views.
__device__ inline long long row_index(const CoverageCall& call, int view, int row) {
  return (long long)view * call.bands * kBand + row;
}
__device__ inline bool is_sampled(const CoverageCall& call, int view, int row) {
  return call.sampled[(long long)view * call.bands + row / kBand];
}

// A kernel: makes the contour edges, and counts those of each row.
template <class T>
__device__ void make_contours(const CoverageCall& call) {
  const long long i = blockIdx.x * (long long)kBlock + threadIdx.x;
  if (i >= call.count) return;
  const int view = (int)call.found[2 * i], number = (int)call.found[2 * i + 1], edges = call.pairs + call.others;
  const int net = call.windings[view * (long long)(edges + call.scene.faces) + number];
  Place from, to;
  if (number < edges) {
    const int *vertex = vertices_of(call, number), a = vertex[0], b = vertex[1];
    const unsigned char* front = call.front + (long long)view * call.scene.vertices;
    from = front[a] ? place_of(call, view, a) : place_between<T>(call, view, b, a);
    to = front[b] ? place_of(call, view, b) : place_between<T>(call, view, a, b);
  } else {  // from where the face's outline goes behind the near plane to where it comes back
    const Triangle t = triangle_of(call, view, number - edges);
    for (int k = 0; k < 3; k++) {
      const int next = k == 2 ? 0 : k + 1;
      if (t.front[k] && !t.front[next]) from = place_between<T>(call, view, t.vertex[k], t.vertex[next]);
      if (!t.front[k] && t.front[next]) to = place_between<T>(call, view, t.vertex[next], t.vertex[k]);
    }
  }
  Contour c = {};
  make_contour(from.pixel, to.pixel, from.end, to.end, net, c);  // if there is none, it stays without height
  call.contours[i] = c;
  const Rows rows = rows_of(call, c);
  for (int row = rows.first; row < rows.last; row++) atomicAdd(call.counts + row_index(call, view, row), 1);
}

// ---------------------------------------------------------------------------------------------- the rows

// A contour edge, and the rows of it that this thread takes: `row` and every kShare-th after it. The threads of an edge are
// neighbours in a warp.
struct Own {
  Contour c;
  int contour, view, row, last;
};
// False: there is no contour edge for this thread.
__device__ inline bool own_rows(const CoverageCall& call, Own& out) {
  const long long thread = blockIdx.x * (long long)kBlock + threadIdx.x, i = thread / kShare;
  if (i >= call.count) return false;
  out.c = call.contours[i], out.contour = (int)i, out.view = (int)call.found[2 * i];
  const Rows rows = rows_of(call, out.c);
  out.row = rows.first + (int)(thread % kShare), out.last = rows.last;
  return true;
}

// A kernel: lists the contour edges in each row that is not sampled. It counts `counts` down to zero.
template <class T>
__device__ void list_rows(const CoverageCall& call) {
  Own own;
  if (!own_rows(call, own)) return;
  for (; own.row < own.last; own.row += kShare) {
    if (is_sampled(call, own.view, own.row)) continue;
    const long long row = row_index(call, own.view, own.row);
    call.in_row[call.begins[row] + atomicAdd(call.counts + row, -1) - 1] = own.contour;
  }
}

// ---------------------------------------------------------------------------------------------- the outline

// A number in twice the precision: high + low.
struct Twofold {
  double high, low;
};
__device__ inline Twofold difference(double a, double b) {
  const double high = a - b, part = high - a;
  return {high, (a - (high - part)) - (b + part)};
}
__device__ inline Twofold product(Twofold a, Twofold b) {
  const double high = __dmul_rn(a.high, b.high);  // which no compiler joins with a later sum
  return {high, fma(a.high, b.high, -high) + (a.high * b.low + a.low * b.high)};
}

// How far to the right of a contour edge, at its height, a point (x, y) is. The sign is right and the number precise even
// where the point nearly lies on the edge, as where several faces end at one line: otherwise, by rounding, the first of three
// edges could be to the left of the second, that to the left of the third, and the third to the left of the first. The winding
// numbers would not return to zero then, and the error would reach to the end of the row.
__device__ inline double right_of(const Contour& c, double x, double y) {
  if ((x == c.x[0] && y == c.y[0]) || (x == c.x[1] && y == c.y[1])) return 0;
  const double across = x - c.x[0], distance = across - (y - c.y[0]) * c.slope;
  if (absolute(distance) > kSure * (absolute(across) + absolute(c.x[1] - c.x[0]))) return distance;
  const Twofold height = difference(c.y[1], c.y[0]);
  const Twofold p = product(difference(x, c.x[0]), height);
  const Twofold q = product(difference(y, c.y[0]), difference(c.x[1], c.x[0]));
  const Twofold sum = difference(p.high, q.high);
  return (sum.high + (sum.low + (p.low - q.low))) / height.high;
}

// Heights from <= y < to; there are none unless from < to.
struct Span {
  double from, to;
};

// The heights at which contour edge f lies to the left of contour edge e. first: which one is, where one lies on the other.
// Both must see this alike, so that the winding numbers of all edges fit together.
__device__ inline Span left_of(const Contour& f, const Contour& e, bool first) {
  const double a = max(f.y[0], e.y[0]), b = min(f.y[1], e.y[1]);
  if (!(a < b)) return {b, b};
  if (max(f.x[0], f.x[1]) < min(e.x[0], e.x[1])) return {a, b};
  if (min(f.x[0], f.x[1]) > max(e.x[0], e.x[1])) return {b, b};
  const double above = f.y[0] == e.y[0] ? f.x[0] - e.x[0]
                       : f.y[0] > e.y[0] ? right_of(e, f.x[0], f.y[0]) : -right_of(f, e.x[0], e.y[0]);
  const double below = f.y[1] == e.y[1] ? f.x[1] - e.x[1]
                       : f.y[1] < e.y[1] ? right_of(e, f.x[1], f.y[1]) : -right_of(f, e.x[1], e.y[1]);
  if (above == 0 && below == 0) return first ? Span{a, b} : Span{b, b};
  if (above <= 0 && below <= 0) return {a, b};
  if (above >= 0 && below >= 0) return {b, b};
  const double crossing = a + (b - a) * (above / (above - below));
  return above < 0 ? Span{a, crossing} : Span{crossing, b};
}

// Where a contour edge is at a height at which it is.
__device__ inline double x_on(const Contour& c, double y) {
  return min(max(x_at(c, y), min(c.x[0], c.x[1])), max(c.x[0], c.x[1]));
}

// Calls use(upper y, lower y, upper x, lower x, side) for the stretches of a contour edge that are on the outline in a row that
// is not sampled. side: 1 if the silhouette lies to the right of it, -1 if to the left.
template <class Use>
__device__ inline void exact_outline(const CoverageCall& call, const Own& own, Use use) {
  const Contour& mine = own.c;
  const double bottom = min(mine.y[1], own.row + 1.0);
  const long long row = row_index(call, own.view, own.row), end = call.begins[row + 1];
  double top = max(mine.y[0], (double)own.row);  // of the present stretch
  int side = 0;                                  // of the present stretch, 0 if it is not on the outline
  for (double y = top, next; y < bottom; y = next) {
    int left = 0;   // the winding number to the left of the edge from y on
    next = bottom;  // and down to here
    for (long long i = call.begins[row]; i < end; i++) {
      const int number = call.in_row[i];
      const Contour& other = call.contours[number];
      if (number == own.contour || other.y[1] <= y) continue;
      // Of edges that lie on each other, those at which the silhouette begins come first, so that it has no outline where one
      // face ends and another begins.
      const bool first = other.wind != mine.wind ? other.wind > mine.wind : number < own.contour;
      const Span span = left_of(other, mine, first);
      if (!(span.from < span.to)) continue;
      if (span.from > y) next = min(next, span.from);
      else if (span.to > y) next = min(next, span.to), left += other.wind;
    }
    const int now = (left == 0) == (left + mine.wind == 0) ? 0 : left == 0 ? 1 : -1;
    if (now != side) {
      if (side != 0) use(top, y, x_on(mine, top), x_on(mine, y), (double)side);
      side = now, top = y;
    }
  }
  if (side != 0) use(top, bottom, x_on(mine, top), x_on(mine, bottom), (double)side);
}

__device__ inline long long pixel_index(const CoverageCall& call, int view, int row, int column) {
  return ((long long)view * call.scene.height + row) * call.scene.width + column;
}
// The entry of a pixel in `areas`.
__device__ inline long long area_index(const CoverageCall& call, int view, int row, int column) {
  return ((long long)view * call.scene.height + row) * (call.scene.width + 1LL) + column;
}

__device__ inline void add_area(Area* at, double area) {
  atomicAdd(at, (Area)(long long)(area * (1 / kAreaUnit) + (area < 0 ? -0.5 : 0.5)));
}

// A kernel: adds the area to the right of the outline to the pixels of all rows that are not sampled.
template <class T>
__device__ void sweep(const CoverageCall& call) {
  Own own;
  if (!own_rows(call, own)) return;
  for (; own.row < own.last; own.row += kShare) {
    if (is_sampled(call, own.view, own.row)) continue;
    Area* row = call.areas + area_index(call, own.view, own.row, 0);
    exact_outline(call, own, [&](double ya, double yb, double xa, double xb, double side) {
      cut_at_columns(own.c, ya, yb, xa, xb, call.scene.width,
                     [&](int column, double height, double x, double, double, bool any) {
                       if (!any) return;
                       Area* at = row + max(column, 0);
                       add_area(at, side * height * (1 - x));
                       if (x != 0) add_area(at + 1, side * height * x);
                     });
    });
  }
}

// A kernel: finds the coverage of the pixels, a warp for each row.
template <class T>
__device__ void finish_coverage(const CoverageCall& call) {
  const long long number = blockIdx.x * (long long)kWarps + warp_of_thread();
  if (number >= (long long)call.scene.views * call.scene.height) return;
  const int view = (int)(number / call.scene.height), row = (int)(number % call.scene.height), lane = lane_of_thread();
  const Area* areas = call.areas + area_index(call, view, row, 0);
  T* alpha = (T*)call.scene.alpha + pixel_index(call, view, row, 0);
  if (is_sampled(call, view, row)) {
    for (int x = lane; x < call.scene.width; x += kWarp) alpha[x] = T(__popcll(areas[x])) / T(kSide * kSide);
    return;
  }
  Area before = 0;  // the coverage of the pixel to the left of these 32
  for (int first = 0; first < call.scene.width; first += kWarp) {
    const int x = first + lane;
    Area sum = x < call.scene.width ? areas[x] : 0;
    for (int o = 1; o < kWarp; o *= 2) {
      const Area less = __shfl_up_sync(kAll, sum, o);
      if (lane >= o) sum += less;
    }
    sum += before, before = __shfl_sync(kAll, sum, kWarp - 1);
    const double covered = (double)(long long)sum * kAreaUnit;
    if (x < call.scene.width) alpha[x] = covered < kClose ? T(0) : covered > 1 - kClose ? T(1) : T(covered);
  }
}

}  // namespace softras::SOFTRAS_ISA
