// SPDX-License-Identifier: MIT
// The distributions that blur a face and the T-conorms that make one alpha of all faces, once, for every backend.
// engine/softras/raster/images/distributions.py and conorms.py are their readable definition and say where the formulas are
// from; the enumerations below are in the order of their tables.
//
// Forward, S = 0 before the first face (u: signed distance in units of the blur, positive inside):
//
//   const auto face = coverage<T>(distribution, shape, shift, u);
//   S = conorm_fold(conorm, S, conorm_term(conorm, p, face));        // double; any order of the faces
//   const auto pixel = conorm_opacity<T>(conorm, p, S);              // pixel.alpha
//
// and backward, with S as the forward pass left it:
//
//   dL/du = dL/dalpha * conorm_factor(conorm, p, face, pixel) * face.density
//
// The factor of `max` is 1 for every face that reaches alpha: the caller gives the gradient to the first of them alone.
// p of `sum` is 1 / the number of faces; those of probabilistic, einstein, hard and max are not looked at.
//
// Everything is finite for finite u, and S = infinity is a pixel of alpha 1. T is float or double; where D and 1 - D are
// above 1e-4, float coverages are accurate to 1e-6, relative (wigner_semicircle 3e-5), since neither is found by
// subtracting where it is small. S and the powers in it are double for the same reason.
#pragma once
#include "softras_math.h"

namespace softras::SOFTRAS_ISA {

// What math.h has, for float and double alike; within this namespace these are found before the global ones.
#if defined(__CUDACC_RTC__)
#define SR_LIBRARY(name) ::name
#else
#define SR_LIBRARY(name) __builtin_##name
#endif
#define SR_UNARY(name)                                        \
  SR_HD double name(double a) { return SR_LIBRARY(name)(a); } \
  SR_HD float name(float a) { return SR_LIBRARY(name##f)(a); }
#define SR_BINARY(name)                                                    \
  SR_HD double name(double a, double b) { return SR_LIBRARY(name)(a, b); } \
  SR_HD float name(float a, float b) { return SR_LIBRARY(name##f)(a, b); }
SR_UNARY(sqrt)
SR_UNARY(fabs)
SR_UNARY(exp)
SR_UNARY(expm1)
SR_UNARY(log)
SR_UNARY(log1p)
SR_UNARY(atan)
SR_UNARY(cosh)
SR_UNARY(erf)
SR_UNARY(erfc)
SR_BINARY(atan2)
SR_BINARY(pow)
SR_HD double tgamma(double a) { return SR_LIBRARY(tgamma)(a); }
#undef SR_BINARY
#undef SR_UNARY
#undef SR_LIBRARY

// ---------------------------------------------------------------------------------------------- distributions

enum class Distribution {
  heaviside, uniform, cubic_hermite, wigner_semicircle, gaussian, laplace, logistic, gudermannian, cauchy, reciprocal,
  gumbel_max, gumbel_min, exponential, exponential_rev, gamma, gamma_rev, levy, levy_rev
};

// What a face does to a pixel: D, 1 - D and dD/du.
template <class T>
struct Coverage {
  T covered, clear, density;
};

template <class T>
constexpr T kTiny = sizeof(T) == 4 ? T(1.1754943508222875e-38) : T(2.2250738585072014e-308);
constexpr double kPi = 3.141592653589793;

// The regularized incomplete gamma functions P(p, x) and 1 - P, 0 < p <= 100, x >= kTiny<float>: the series below
// p + 1, Lentz's continued fraction above (Numerical Recipes, section 6.2).
SR_HD Coverage<double> incomplete_gamma(double p, double x) {
  const double scale = exp(p * log(x) - x) / tgamma(p + 1), density = scale * p / x;
  if (x < p + 1) {
    double sum = 1, term = 1;
    for (int n = 1; n < 1000 && term > 1e-17 * sum; n++) term *= x / (p + n), sum += term;
    return {scale * sum, 1 - scale * sum, density};
  }
  double b = x + 1 - p, c = 1e300, d = 1 / b, fraction = d;
  for (int n = 1; n < 1000; n++) {
    const double a = -n * (n - p);
    b += 2, d = 1 / (a * d + b), c = b + a / c;
    fraction *= c * d;
    if (fabs(c * d - 1) < 1e-16) break;
  }
  const double clear = scale * p * fraction;
  return {1 - clear, clear, density};
}

// The distributions that are no mirror images of others, at x.
template <class T>
SR_HD Coverage<T> standard_coverage(Distribution distribution, double shape, T x) {
  switch (distribution) {
    case Distribution::uniform:
    case Distribution::cubic_hermite: {
      const T y = min(max((1 + x) / 2, T(0)), T(1)), z = min(max((1 - x) / 2, T(0)), T(1));
      if (distribution == Distribution::uniform) return {y, z, fabs(x) < 1 ? T(0.5) : T(0)};
      return {y * y * (1 + 2 * z), z * z * (1 + 2 * y), 3 * y * z};
    }
    case Distribution::wigner_semicircle: {
      const T t = min(max(x, T(-1)), T(1)), up = sqrt(1 + t), down = sqrt(1 - t), height = up * down;
      const T k = T(1 / kPi);
      return {k * (2 * atan2(up, down) + t * height), k * (2 * atan2(down, up) - t * height), 2 * k * height};
    }
    case Distribution::gaussian: {
      const T y = x * T(0.7071067811865476);
      return {erfc(-y) / 2, erfc(y) / 2, exp(-y * y) * T(0.3989422804014327)};
    }
    case Distribution::laplace: {
      const T tail = exp(-fabs(x)) / 2;
      return {x < 0 ? tail : 1 - tail, x < 0 ? 1 - tail : tail, tail};
    }
    case Distribution::logistic: {
      const T e = exp(-fabs(x)), near = 1 / (1 + e), far = e / (1 + e);
      return {x < 0 ? far : near, x < 0 ? near : far, near * far};
    }
    case Distribution::gudermannian: {
      const T k = T(2 / kPi);
      return {k * atan(exp(x)), k * atan(exp(-x)), k / (2 * cosh(x))};
    }
    case Distribution::cauchy: {
      const T k = T(1 / kPi);
      return {k * atan2(T(1), -x), k * atan2(T(1), x), k / (1 + x * x)};
    }
    case Distribution::reciprocal: {
      const T tail = 1 / (2 * (1 + fabs(x)));
      return {x < 0 ? tail : 1 - tail, x < 0 ? 1 - tail : tail, 2 * tail * tail};
    }
    case Distribution::gumbel_max: {
      const T e = exp(-x);
      return {exp(-e), -expm1(-e), exp(-x - e)};
    }
    case Distribution::exponential: {
      const T y = max(x, T(0)), tail = exp(-y);
      return {-expm1(-y), tail, x > 0 ? tail : T(0)};
    }
    case Distribution::gamma: {
      if (!(x > 0)) return {0, 1, 0};
      const Coverage<double> c = incomplete_gamma(shape, max(x, kTiny<T>));
      return {T(c.covered), T(c.clear), T(c.density)};
    }
    case Distribution::levy: {
      const T y = max(x, kTiny<T>), root = 1 / sqrt(2 * y);
      return {erfc(root), erf(root), exp(T(-0.5) / y - T(1.5) * log(y)) * T(0.3989422804014327)};
    }
    default: return {x > 0 ? T(1) : T(0), x > 0 ? T(0) : T(1), 0};  // heaviside
  }
}

// distribution: an index of the table; shape: p of gamma; shift: s.
template <class T>
SR_HD Coverage<T> coverage(int distribution, double shape, double shift, T u) {
  const Distribution d = (Distribution)distribution;
  if (d == Distribution::gumbel_min || d == Distribution::exponential_rev || d == Distribution::gamma_rev ||
      d == Distribution::levy_rev) {  // the mirror image of the one before it: 1 - D(-u)
    const Coverage<T> c = standard_coverage((Distribution)(distribution - 1), shape, T(shift) - u);
    return {c.clear, c.covered, c.density};
  }
  return standard_coverage(d, shape, u + T(shift));
}

// ---------------------------------------------------------------------------------------------- T-conorms

enum class Conorm {
  hard, max, probabilistic, einstein, hamacher, frank, yager, aczel_alsina, dombi, schweizer_sklar, sum
};

// A pixel: alpha and 1 - alpha.
template <class T>
struct Opacity {
  T alpha, clear;
};

SR_HD bool conorm_is_largest(int conorm) { return conorm <= (int)Conorm::max; }
SR_HD double conorm_fold(int conorm, double state, double term) {
  return conorm_is_largest(conorm) ? max(state, term) : state + term;
}

// probabilistic and einstein are those of Hamacher with p = 1 and 2.
SR_HD double hamacher_parameter(Conorm conorm, double p) {
  return conorm == Conorm::probabilistic ? 1 : conorm == Conorm::einstein ? 2 : p;
}

// What a face adds to its pixel's S.
template <class T>
SR_HD double conorm_term(int conorm, double p, const Coverage<T>& face) {
  const T a = face.covered, clear = face.clear, odds = a / clear;
  switch ((Conorm)conorm) {
    case Conorm::probabilistic:
    case Conorm::einstein:
    case Conorm::hamacher: {
      const T q = T(hamacher_parameter((Conorm)conorm, p));
      return q == 0 ? odds : log1p(q * odds) / q;
    }
    case Conorm::frank: {
      const double x = p / (p - 1) * expm1(-a * log(p));
      return x > -0.5 ? -log1p(x) : -log(expm1(clear * log(p)) / (p - 1));
    }
    case Conorm::yager: return pow(double(a), p);
    case Conorm::aczel_alsina: return pow(double(log1p(odds)), p);
    case Conorm::dombi: return pow(double(odds), p);
    case Conorm::schweizer_sklar: return expm1(-p * log1p(odds));
    case Conorm::sum: return a * p;
    default: return a;
  }
}

SR_HD Opacity<double> opacity_of_odds(double r) { return {1 / (1 + 1 / r), 1 / (1 + r)}; }
SR_HD Opacity<double> opacity_of_exponent(double x) { return {-expm1(-x), exp(-x)}; }

SR_HD Opacity<double> opacity_of(Conorm conorm, double p, double state) {
  switch (conorm) {
    case Conorm::hard: return {state > 0.5 ? 1.0 : 0.0, state > 0.5 ? 0.0 : 1.0};
    case Conorm::probabilistic:
    case Conorm::einstein:
    case Conorm::hamacher: {
      const double q = hamacher_parameter(conorm, p);
      return opacity_of_odds(q == 0 ? state : expm1(q * state) / q);
    }
    case Conorm::frank: {
      if (state < kLn2) {
        const double alpha = -log1p((p - 1) / p * expm1(-state)) / log(p);
        return {alpha, 1 - alpha};
      }
      const double clear = log1p((p - 1) * exp(-state)) / log(p);
      return {1 - clear, clear};
    }
    case Conorm::yager: return {min(pow(state, 1 / p), 1.0), -expm1(log(min(state, 1.0)) / p)};
    case Conorm::aczel_alsina: return opacity_of_exponent(pow(state, 1 / p));
    case Conorm::dombi: return opacity_of_odds(pow(state, 1 / p));
    case Conorm::schweizer_sklar: return opacity_of_exponent(-log1p(state) / p);
    default: return {state, 1 - state};
  }
}

template <class T>
SR_HD Opacity<T> conorm_opacity(int conorm, double p, double state) {
  const Opacity<double> o = opacity_of((Conorm)conorm, p, state);
  return {T(o.alpha), T(o.clear)};
}

// (h / whole)^(p - 1), within what the derivative at a coverage of 0 may be for p < 1.
template <class T>
SR_HD T power_factor(T h, T whole, double p) {
  return pow(min(max(h / max(whole, kTiny<T>), T(1e-30)), T(1)), T(p - 1));
}

// d alpha / d D of a face; 0 where the pixel is opaque.
template <class T>
SR_HD T conorm_factor(int conorm, double p, const Coverage<T>& face, const Opacity<T>& pixel) {
  const T a = face.covered, clear = face.clear, alpha = pixel.alpha, rest = pixel.clear;
  switch ((Conorm)conorm) {
    case Conorm::hard: return 0;
    case Conorm::max: return a == alpha ? T(1) : T(0);
    case Conorm::sum: return T(p);
    default: break;
  }
  if (!(rest > 0 && clear > 0)) return 0;
  const T ratio = rest / clear;
  switch ((Conorm)conorm) {
    case Conorm::frank: return expm1(-rest * T(log(p))) / expm1(-clear * T(log(p)));
    case Conorm::yager: return power_factor(a, alpha, p);
    case Conorm::aczel_alsina: return power_factor(log1p(a / clear), log1p(alpha / rest), p) * ratio;
    case Conorm::dombi: return power_factor(a / clear, alpha / rest, p) * ratio * ratio;
    case Conorm::schweizer_sklar: return pow(ratio, T(1 - p));
    default: {  // Hamacher's
      const T q = T(hamacher_parameter((Conorm)conorm, p));
      return ratio * ((rest + q * alpha) / (clear + q * a));
    }
  }
}

}  // namespace softras::SOFTRAS_ISA
