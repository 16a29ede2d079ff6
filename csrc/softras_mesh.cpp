// SPDX-License-Identifier: MIT
// Losses of a mesh by itself, each with its gradient by the vertices, in closed form: how rough, folded or sheared the mesh is.
// The formulas are those of engine/softras/fitting/terms/surface.py, which says where they come from.
// A call is the work of one thread, in the order of the faces, hinges and vertices, so that its bits depend on nothing else.
// Like softras_cpu.cpp, the file is compiled once for every instruction set.
#include <math.h>
#include <string.h>

#include "memory.h"
#include "simd.h"
#include "softras.h"

namespace softras::SOFTRAS_ISA {
namespace {

// A vector of three numbers in many faces at once, a SIMD lane for each face.
template <class T>
struct V3 {
  using V = typename Simd<T>::V;
  V x, y, z;
  V3 operator+(const V3& b) const { return {x + b.x, y + b.y, z + b.z}; }
  V3 operator-(const V3& b) const { return {x - b.x, y - b.y, z - b.z}; }
  V3 operator*(V s) const { return {x * s, y * s, z * s}; }
  V dot(const V3& b) const { return x * b.x + y * b.y + z * b.z; }
  V3 cross(const V3& b) const { return {y * b.z - z * b.y, z * b.x - x * b.z, x * b.y - y * b.x}; }
};

// The corners of as many successive faces as there are lanes; where the faces end, the last one is there several times.
template <class T>
struct Faces {
  using V = typename Simd<T>::V;
  static constexpr int lanes = Simd<T>::lanes;

  const softras_mesh_call& c;
  int64_t first;  // the face of lane 0
  int count;      // lanes that have a face of their own
  V3<T> a, b, c_, u, w;  // the corners; b - a and c - a

  Faces(const softras_mesh_call& call, int64_t from) : c(call), first(from) {
    count = (int)(c.faces - first < lanes ? c.faces - first : lanes);
    T at[9][lanes];
    for (int l = 0; l < lanes; l++) {
      const int64_t* corners = c.face_indices + 3 * (first + (l < count ? l : count - 1));
      for (int k = 0; k < 3; k++) {
        const T* p = (const T*)c.positions + 3 * corners[k];
        at[3 * k][l] = p[0], at[3 * k + 1][l] = p[1], at[3 * k + 2][l] = p[2];
      }
    }
    a = {load<T>(at[0]), load<T>(at[1]), load<T>(at[2])};
    b = {load<T>(at[3]), load<T>(at[4]), load<T>(at[5])};
    c_ = {load<T>(at[6]), load<T>(at[7]), load<T>(at[8])};
    u = b - a, w = c_ - a;
  }

  // Adds the gradients of the corners to those of the vertices.
  void add(const V3<T>& ga, const V3<T>& gb, const V3<T>& gc) const {
    T g[9][lanes];
    store(g[0], ga.x), store(g[1], ga.y), store(g[2], ga.z);
    store(g[3], gb.x), store(g[4], gb.y), store(g[5], gb.z);
    store(g[6], gc.x), store(g[7], gc.y), store(g[8], gc.z);
    for (int l = 0; l < count; l++) {
      const int64_t* corners = c.face_indices + 3 * (first + l);
      for (int k = 0; k < 3; k++) {
        T* out = (T*)c.gradient + 3 * corners[k];
        out[0] += g[3 * k][l], out[1] += g[3 * k + 1][l], out[2] += g[3 * k + 2][l];
      }
    }
  }
};

// 1 / v where v is not zero, and zero where it is.
template <class T, class V = typename Simd<T>::V>
inline V inverse_or_zero(V v) {
  return v != T(0) ? T(1) / v : V(T(0));
}

// The largest conformal energy per area that counts, as in surface.py.
constexpr double kMostDistortion = 100;
constexpr double kLeastArea = 1e-15;

// scale * the sum over faces of (q - q_0)^2, where q = s / (A + s / kMostDistortion) with the face's area A and s = the sum
// over corners of the cotangent at rest times the square of the opposite side / 4. q_0 is q of a face with s = A. Faces
// with s <= 0 cost nothing.
template <class T>
int distortion(const softras_mesh_call& c) {
  using V = typename Simd<T>::V;
  constexpr int lanes = Simd<T>::lanes;
  const T m = (T)(1 / kMostDistortion), q0 = (T)(1 / (1 + 1 / kMostDistortion)), scale = (T)c.scale;
  double sums[lanes] = {};
  zero((T*)c.gradient, 3 * c.vertices);
  for (int64_t face = 0; face < c.faces; face += lanes) {
    const Faces<T> f(c, face);
    T rest[3][lanes];
    for (int l = 0; l < lanes; l++)
      for (int k = 0; k < 3; k++) rest[k][l] = l < f.count ? ((const T*)c.rest)[3 * (face + l) + k] : T(0);
    const V ka = load<T>(rest[0]) * T(0.25), kb = load<T>(rest[1]) * T(0.25), kc = load<T>(rest[2]) * T(0.25);
    const V3<T> side = f.c_ - f.b;
    const V s = ka * side.dot(side) + kb * f.w.dot(f.w) + kc * f.u.dot(f.u);
    const V3<T> n = f.u.cross(f.w);
    const V twice = __builtin_elementwise_sqrt(n.dot(n));  // the area
    const V sum = twice * T(0.5) + s * m;
    const V bounded = __builtin_elementwise_max(sum, V((T)kLeastArea));
    const V by = T(1) / bounded, q = s * by;
    const V off = s > T(0) ? q - q0 : V(T(0));
    T values[lanes];
    store(values, off * off);
    for (int l = 0; l < lanes; l++) sums[l] += values[l];

    // By s and by A; where the sum is bounded from below q depends on s alone.
    const V d_off = off * (2 * scale), d_sum = sum >= T(kLeastArea) ? -q * by * d_off : V(T(0));
    const V d_s = by * d_off + d_sum * m;
    const V3<T> unit = n * (inverse_or_zero<T>(twice) * (d_sum * T(0.5)));
    const V3<T> gu = f.w.cross(unit), gw = unit.cross(f.u);
    const V3<T> along_side = side * (ka * d_s * T(2)), along_w = f.w * (kb * d_s * T(2)), along_u = f.u * (kc * d_s * T(2));
    const V3<T> gb = gu + along_u - along_side, gc = gw + along_w + along_side;
    f.add((gb + gc) * V(T(-1)), gb, gc);
  }
  double sum = 0;
  for (int l = 0; l < lanes; l++) sum += sums[l];
  *(T*)c.value = (T)(sum * c.scale);
  return SOFTRAS_OK;
}

// A cross product of two sides is nothing but rounding where its length is at most this many times the machine epsilon
// times the sum of the squares of these sides, as in engine/softras/geometry/normals.py.
constexpr double kRounding = 16;

// scale * the sum over hinges of 1 - cos or, with cosines at rest, of max(0, cos at rest - cos), of the angle between the
// normals of the hinge's faces. The normal of a face without area is zero.
template <class T>
int folding(const softras_mesh_call& c) {
  using V = typename Simd<T>::V;
  typedef T T4 __attribute__((ext_vector_type(4)));
  constexpr int lanes = Simd<T>::lanes;
  Buffer<T4> normals, gradients;  // of faces: the unit normal and 1 / the length of the cross product; by the unit normal
  if (!normals.reserve(c.faces) || !gradients.reserve(c.faces)) return SOFTRAS_OUT_OF_MEMORY;
  zero(gradients.data, c.faces);
  zero((T*)c.gradient, 3 * c.vertices);
  const T rounding = T(kRounding) * (sizeof(T) == 4 ? T(0x1p-23) : T(0x1p-52));
  for (int64_t face = 0; face < c.faces; face += lanes) {
    const Faces<T> f(c, face);
    const V3<T> n = f.u.cross(f.w);
    const V length = __builtin_elementwise_sqrt(n.dot(n));
    const V by = length > rounding * (f.u.dot(f.u) + f.w.dot(f.w)) ? T(1) / length : V(T(0));
    T out[4][lanes];
    store(out[0], n.x * by), store(out[1], n.y * by), store(out[2], n.z * by), store(out[3], by);
    for (int l = 0; l < f.count; l++) normals[face + l] = T4{out[0][l], out[1][l], out[2][l], out[3][l]};
  }
  const T scale = (T)c.scale;
  double sum = 0;
  for (int64_t h = 0; h < c.hinges; h++) {
    const int64_t one = c.hinge_faces[2 * h], other = c.hinge_faces[2 * h + 1];
    const T4 p = normals[one], q = normals[other], products = p * q;
    const T sign = c.turned[h] ? T(-1) : T(1);
    const T fold = (c.rest ? ((const T*)c.rest)[h] : T(1)) - sign * (products[0] + products[1] + products[2]);
    const bool counts = !c.rest || fold >= 0;  // no branch, which a processor would guess wrongly half the time
    const T by = counts ? sign * scale : T(0);
    sum += counts ? fold : T(0);
    gradients[one] -= q * by, gradients[other] -= p * by;
  }
  *(T*)c.value = (T)(sum * c.scale);
  for (int64_t face = 0; face < c.faces; face += lanes) {
    const Faces<T> f(c, face);
    T in[7][lanes];
    for (int l = 0; l < lanes; l++) {
      const int64_t own = face + (l < f.count ? l : f.count - 1);
      const T4 p = normals[own], g = gradients[own];
      in[0][l] = p[0], in[1][l] = p[1], in[2][l] = p[2], in[3][l] = p[3];
      in[4][l] = g[0], in[5][l] = g[1], in[6][l] = g[2];
    }
    const V3<T> n = {load<T>(in[0]), load<T>(in[1]), load<T>(in[2])}, g = {load<T>(in[4]), load<T>(in[5]), load<T>(in[6])};
    const V3<T> by_cross = (g - n * n.dot(g)) * load<T>(in[3]);
    const V3<T> gb = f.w.cross(by_cross), gc = by_cross.cross(f.u);
    f.add((gb + gc) * V(T(-1)), gb, gc);
  }
  return SOFTRAS_OK;
}

// scale * the sum over vertices of |L^order x|^2, where L x is each vertex minus the mean of its neighbours, or zero where
// it has none; L = I - D^-1 A with adjacency A and degrees D. The gradient is 2 scale (L^order)^T L^order x.
template <class T>
int roughness(const softras_mesh_call& c) {
  typedef T T4 __attribute__((ext_vector_type(4)));  // the fourth is zero: so many numbers are one SIMD vector
  Buffer<T4> from_buffer, to_buffer;
  if (!from_buffer.reserve(c.vertices) || !to_buffer.reserve(c.vertices)) return SOFTRAS_OUT_OF_MEMORY;
  T4 *from = from_buffer.data, *to = to_buffer.data;
  auto exchange = [&] {
    T4* other = from;
    from = to, to = other;
  };
  auto neighbour_sum = [&](int64_t i) {
    T4 sum = {};
    for (int64_t e = c.starts[i]; e < c.starts[i + 1]; e++) sum += from[c.neighbours[e]];
    return sum;
  };
  auto inverse_degree = [&](int64_t i) {
    const int64_t degree = c.starts[i + 1] - c.starts[i];
    return degree ? T(1) / (T)degree : T(0);
  };
  const T* x = (const T*)c.positions;
  for (int64_t i = 0; i < c.vertices; i++) from[i] = T4{x[3 * i], x[3 * i + 1], x[3 * i + 2], 0};
  for (int time = 0; time < c.order; time++) {
    for (int64_t i = 0; i < c.vertices; i++) {
      const T by = inverse_degree(i);
      to[i] = by != 0 ? from[i] - neighbour_sum(i) * by : T4(T(0));
    }
    exchange();
  }
  double sum = 0;
  for (int64_t i = 0; i < c.vertices; i++) {
    const T4 squares = from[i] * from[i];
    sum += squares[0] + squares[1] + squares[2];
  }
  *(T*)c.value = (T)(sum * c.scale);
  // L^T y is y, or zero without neighbours, minus the sum over the neighbours of y / degree.
  for (int time = 0; time < c.order; time++) {
    for (int64_t i = 0; i < c.vertices; i++) from[i] *= inverse_degree(i);
    for (int64_t i = 0; i < c.vertices; i++) to[i] = from[i] * (T)(c.starts[i + 1] - c.starts[i]) - neighbour_sum(i);
    exchange();
  }
  T* out = (T*)c.gradient;
  const T scale = (T)(2 * c.scale);
  for (int64_t i = 0; i < c.vertices; i++)
    for (int k = 0; k < 3; k++) out[3 * i + k] = from[i][k] * scale;
  return SOFTRAS_OK;
}

}  // namespace
}  // namespace softras::SOFTRAS_ISA

extern "C" int SR_ENTRY(softras_roughness_float32)(const softras_mesh_call* call) {
  return softras::SOFTRAS_ISA::roughness<float>(*call);
}
extern "C" int SR_ENTRY(softras_roughness_float64)(const softras_mesh_call* call) {
  return softras::SOFTRAS_ISA::roughness<double>(*call);
}
extern "C" int SR_ENTRY(softras_folding_float32)(const softras_mesh_call* call) {
  return softras::SOFTRAS_ISA::folding<float>(*call);
}
extern "C" int SR_ENTRY(softras_folding_float64)(const softras_mesh_call* call) {
  return softras::SOFTRAS_ISA::folding<double>(*call);
}
extern "C" int SR_ENTRY(softras_distortion_float32)(const softras_mesh_call* call) {
  return softras::SOFTRAS_ISA::distortion<float>(*call);
}
extern "C" int SR_ENTRY(softras_distortion_float64)(const softras_mesh_call* call) {
  return softras::SOFTRAS_ISA::distortion<double>(*call);
}
