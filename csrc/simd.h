// SPDX-License-Identifier: MIT
// SIMD vectors of kVectorBytes bytes for float and double, by clang's vector extension, which compiles to whatever
// instruction set the file is built for. V is a vector of numbers, I a vector of as many integers of the same size; a
// comparison of two V gives an I whose lanes are all ones where it holds and zero where not.
#pragma once
#include <stdint.h>
#include <string.h>

namespace softras::SOFTRAS_ISA {

// Four doubles, for the edges of a face.
typedef double D4 __attribute__((ext_vector_type(4)));
typedef double D2 __attribute__((ext_vector_type(2)));
inline D4 square_root(D4 a) { return __builtin_elementwise_sqrt(a); }

#if defined(__AVX__)
constexpr int kVectorBytes = 32;  // with AVX-512 too
#else
constexpr int kVectorBytes = 16;
#endif

// The vector 0, 1, 2, ...
template <class V>
inline V ramp_of() {
  V v;
#pragma clang loop unroll(full)
  for (unsigned l = 0; l < sizeof(V) / sizeof(v[0]); l++) v[l] = l;
  return v;
}

// The vectors of a scalar type.
template <class T> struct Simd;
template <> struct Simd<float> {
  static constexpr int lanes = kVectorBytes / 4;
  typedef float V __attribute__((ext_vector_type(kVectorBytes / 4)));
  typedef decltype(V() < V()) I;               // of int32_t
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: added to a number, it leaves the nearest integer in the low bits
  static constexpr int mantissa = 23;          // bits
  static V ramp() { return ramp_of<V>(); }
};
template <> struct Simd<double> {
  static constexpr int lanes = kVectorBytes / 8;
  typedef double V __attribute__((ext_vector_type(kVectorBytes / 8)));
  typedef decltype(V() < V()) I;                       // of 64-bit integers
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int mantissa = 52;                  // bits
  static V ramp() { return ramp_of<V>(); }
};

// 2^r for |r| <= 1/2. For float it is a polynomial with a relative error of 8e-8, for double the Taylor series up to terms
// that only change the last bits.
inline Simd<float>::V exp2_fraction(Simd<float>::V r) {
  Simd<float>::V p = 1.33908657e-3f;
  p = p * r + 9.61884445e-3f;
  p = p * r + 5.55036040e-2f;
  p = p * r + 2.40226484e-1f;
  p = p * r + 6.93147182e-1f;
  return p * r + 1.0f;
}
inline Simd<double>::V exp2_fraction(Simd<double>::V r) {
  const Simd<double>::V y = r * 0.6931471805599453;
  Simd<double>::V p = 1.0 / 6227020800.0;  // 1/13!
  const double inverse[12] = {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0,
                              1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0};
#pragma clang loop unroll(full)
  for (int k = 0; k < 12; k++) p = p * y + inverse[k];
  return p * y + 1.0;
}

// 2^x, where x must be within the range of exponents of T. Lanes in which it is not hold any number, and the caller must
// not use them.
template <class T>
inline typename Simd<T>::V exp2_vector(typename Simd<T>::V x) {
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  const V t = x + Simd<T>::round;
  const V r = x - (t - Simd<T>::round);
  return (V)((I)exp2_fraction(r) + ((I)t << Simd<T>::mantissa));
}

// log2(x) for finite normal x > 0: the exponent, plus log2 of the mantissa m between 0.7 and 1.4, which is 2 atanh(s) / ln 2
// with s = (m - 1) / (m + 1), by its series.
template <class T>
inline typename Simd<T>::V log2_vector(typename Simd<T>::V x) {
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  const I lowest = (I)V(T(0.7071067811865476)), exponent = ((I)x - lowest) >> Simd<T>::mantissa;
  const V m = (V)((I)x - (exponent << Simd<T>::mantissa)), s = (m - T(1)) / (m + T(1)), s2 = s * s;
  V sum = V(T(0));
#pragma clang loop unroll(full)
  for (int k = Simd<T>::mantissa == 23 ? 9 : 21; k > 0; k -= 2) sum = sum * s2 + T(2.885390081777927 / k);
  return __builtin_convertvector(exponent, V) + s * sum;
}

// The functions that softras_texture.h calls for numbers, for vectors.
inline Simd<float>::V round_down(Simd<float>::V a) { return __builtin_elementwise_floor(a); }
inline Simd<double>::V round_down(Simd<double>::V a) { return __builtin_elementwise_floor(a); }
inline Simd<float>::V binary_logarithm(Simd<float>::V a) { return log2_vector<float>(a); }
inline Simd<double>::V binary_logarithm(Simd<double>::V a) { return log2_vector<double>(a); }

// out[i] = the sum of the lanes of v_i. The lanes are added in halves, as a tree, whatever their number.
template <class T, class V>
inline void sum_lanes(V v0, V v1, V v2, V v3, T* out) {
  if constexpr (sizeof(V) == 2 * sizeof(T)) {
    out[0] = v0[0] + v0[1], out[1] = v1[0] + v1[1], out[2] = v2[0] + v2[1], out[3] = v3[0] + v3[1];
  } else if constexpr (sizeof(V) == 4 * sizeof(T)) {
    const V a = __builtin_shufflevector(v0, v1, 0, 4, 1, 5) + __builtin_shufflevector(v0, v1, 2, 6, 3, 7);
    const V b = __builtin_shufflevector(v2, v3, 0, 4, 1, 5) + __builtin_shufflevector(v2, v3, 2, 6, 3, 7);
    const V s = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
    for (int i = 0; i < 4; i++) out[i] = s[i];
  } else {
    sum_lanes<T>(v0.lo + v0.hi, v1.lo + v1.hi, v2.lo + v2.hi, v3.lo + v3.hi, out);
  }
}

// The vector of the numbers from p on, and the opposite; p need not be aligned.
template <class T>
inline typename Simd<T>::V load(const T* p) {
  typename Simd<T>::V v;
  memcpy(&v, p, sizeof(v));
  return v;
}
template <class T, class V>
inline void store(T* p, V v) {
  memcpy(p, &v, sizeof(v));
}

// Numbers in a form that compares faster. The bits of floats that are not negative compare as integers do, and more units
// of a processor can compare integers than floats. For doubles there is no such gain.
inline Simd<float>::I comparable(Simd<float>::V v) { return (Simd<float>::I)v; }
inline Simd<double>::V comparable(Simd<double>::V v) { return v; }

// The smaller of two numbers, at most one of which may be negative.
template <class V>
inline V smaller(V a, V b) {
  return (V)__builtin_elementwise_min(comparable(a), comparable(b));
}
// max(v, 0).
template <class V>
inline V positive_part(V v) {
  return (V)__builtin_elementwise_max(comparable(v), comparable(V(0)));
}
template <class V>
inline V magnitude(V v) {
  return __builtin_elementwise_abs(v);
}

// a in the lanes in which `by` is at least zero, -a in the others.
template <class T, class V = typename Simd<T>::V>
inline V flip_sign(V a, V by) {
  using I = typename Simd<T>::I;
  return (V)((I)a ^ ((I)by & (I)V(T(-0.0))));
}

template <class T>
inline bool any_lane(typename Simd<T>::I mask) {
  return __builtin_reduce_or(mask) != 0;
}

}  // namespace softras::SOFTRAS_ISA
