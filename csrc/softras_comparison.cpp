// SPDX-License-Identifier: MIT
// How silhouettes compare with masks: the sums over pixels that the losses of a fit are made of, and their gradient.
// Like softras_cpu.cpp, the file is compiled once for every instruction set. A thread adds up whole views, so that any number
// of threads gives the same bits.
#include "simd.h"
#include "softras.h"
#include "team.h"

namespace softras::SOFTRAS_ISA {
namespace {

// A thread is worth starting for this many pixels.
constexpr int64_t kWorthAThread = 1 << 19;
// So many pixels are added in T before their sum is added to that of the view, which is of double.
constexpr int64_t kRun = 2048;

template <class T>
struct Comparison {
  using V = typename Simd<T>::V;
  static constexpr int lanes = Simd<T>::lanes;
  const softras_comparison_call& c;

  // The pixels of one view: alpha a, and of its mask m = k t and k.
  struct View {
    const T *a, *m, *k;
  };
  View view(int64_t i) const {
    const T* mask = (const T*)c.masks + c.mask_of_view[i] * 2 * c.pixels;
    return {(const T*)c.alpha + i * c.pixels, mask, mask + c.pixels};
  }

  void run() const {
    Team team;
    team.size = team_size(c.views * c.pixels, kWorthAThread, c.threads);
    if (team.size > c.views) team.size = (int)c.views;
    auto member = [&](int rank) {
      const Share part = share(c.views, rank, team.size);
      for (int64_t i = part.begin; i < part.end; i++) c.grad_alpha ? backward(i) : forward(i);
    };
    run_team(team, member);
  }

  // The sums of a m, k a and (k a - m)^2. Where a is zero in all lanes, k is not read.
  void forward(int64_t i) const {
    const View at = view(i);
    double sums[3] = {};
    for (int64_t first = 0; first < c.pixels; first += kRun) {
      const int64_t end = first + kRun < c.pixels ? first + kRun : c.pixels;
      V both = {}, seen = {}, squares = {};
      int64_t p = first;
      for (; p + lanes <= end; p += lanes) {
        const V a = load<T>(at.a + p), m = load<T>(at.m + p);
        if (any_lane<T>(a != T(0))) add(a, m, load<T>(at.k + p), both, seen, squares);
        else squares += m * m;
      }
      T total[4];
      sum_lanes<T>(both, seen, squares, V(), total);
      for (; p < end; p++) add(at.a[p], at.m[p], at.k[p], total[0], total[1], total[2]);
      for (int s = 0; s < 3; s++) sums[s] += total[s];
    }
    for (int s = 0; s < 3; s++) ((T*)c.sums)[3 * i + s] = (T)sums[s];
  }

  template <class X>
  static void add(X a, X m, X k, X& both, X& seen, X& squares) {
    const X ka = k * a;
    both += a * m, seen += ka, squares += (ka - m) * (ka - m);
  }

  // The gradient by a: g_0 m + g_1 k + 2 g_2 k (k a - m) with the gradients g by the three sums.
  void backward(int64_t i) const {
    const View at = view(i);
    const T* g = (const T*)c.sums + 3 * i;
    T* out = (T*)c.grad_alpha + i * c.pixels;
    int64_t p = 0;
    for (; p + lanes <= c.pixels; p += lanes) {
      const V a = load<T>(at.a + p);
      if (c.outline && !any_lane<T>((a > T(0)) & (a < T(1)))) store(out + p, V(T(0)));
      else store(out + p, derivative(a, load<T>(at.m + p), load<T>(at.k + p), g));
    }
    for (; p < c.pixels; p++) out[p] = derivative(at.a[p], at.m[p], at.k[p], g);
  }

  template <class X>
  static X derivative(X a, X m, X k, const T* g) {
    return m * g[0] + k * ((k * a - m) * (2 * g[2]) + g[1]);
  }
};

template <class T>
int comparison(const softras_comparison_call& call) {
  Comparison<T>{call}.run();
  return SOFTRAS_OK;
}

}  // namespace
}  // namespace softras::SOFTRAS_ISA

extern "C" int SR_ENTRY(softras_comparison_float32)(const softras_comparison_call* call) {
  return softras::SOFTRAS_ISA::comparison<float>(*call);
}
extern "C" int SR_ENTRY(softras_comparison_float64)(const softras_comparison_call* call) {
  return softras::SOFTRAS_ISA::comparison<double>(*call);
}
