// SPDX-License-Identifier: MIT
// The distributions that blur a face, and the T-conorms that make one alpha of the coverages of all faces, in one copy for
// every backend. The readable definitions are engine/softras/raster/images/distributions.py and conorms.py, which say where
// the formulas are from; the enumerations below are in the order of the tables there.
//
// A pixel has one number S, which is 0 before the first face. In the forward pass each face changes it, where u is the
// signed distance of the pixel from the face in units of the blur, positive inside, and p the parameter of the T-conorm:
//
//   const auto face = coverage<T>(distribution, shape, shift, u);
//   S = conorm_fold(conorm, S, conorm_term(conorm, p, face));        // double; any order of the faces
//   const auto pixel = conorm_opacity<T>(conorm, p, S);              // pixel.alpha
//
// In the backward pass, with the S of all faces and L the loss:
//
//   dL/du = dL/dalpha * conorm_factor(conorm, p, face, pixel) * face.density
//
// For the T-conorm `max` the factor is 1 for every face whose coverage equals alpha, and the caller gives the gradient to
// the first of these alone. For `sum`, p is 1 / the number of faces. For probabilistic, einstein, hard and max, p has no
// meaning.
//
// All results are finite for finite u; S = infinity means a pixel of alpha 1. T is float or double. Where D and 1 - D are
// above 1e-4, float coverages have a relative error below 1e-6 (wigner_semicircle: 3e-5), because neither of the two is
// found by a subtraction where it is small. For the same reason S and the powers in it are double.
#pragma once
#include "softras_math.h"

namespace softras::SOFTRAS_ISA {

// The functions of math.h, under one name for float and double. Within this namespace they are found before the global
// ones.
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

// The distribution functions D(u). Their names, formulas and parameters are those of distributions.py.
enum class Distribution {
  heaviside, uniform, cubic_hermite, wigner_semicircle, gaussian, laplace, logistic, gudermannian, cauchy, reciprocal,
  gumbel_max, gumbel_min, exponential, exponential_rev, gamma, gamma_rev, levy, levy_rev
};

// The coverage of a pixel by a face: D, 1 - D and dD/du.
template <class T>
struct Coverage {
  T covered, clear, density;
};

// The least positive normal number.
template <class T>
constexpr T kTiny = T(sizeof(T) == 4 ? 1.1754943508222875e-38 : 2.2250738585072014e-308);
constexpr double kPi = 3.141592653589793;

// The regularized incomplete gamma function P(p, x), 1 - P(p, x) and dP/dx, for 0 < p <= 100 and x >= kTiny<float>: by the
// series for x < p + 1, by Lentz's continued fraction for greater x (Numerical Recipes, section 6.2).
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

// The coverage at x by a distribution that is not defined as the mirror image of another one.
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

// The coverage at signed distance u. distribution: a Distribution; shape: the parameter p of gamma; shift: s, which is
// added to u.
template <class T>
SR_HD Coverage<T> coverage(int distribution, double shape, double shift, T u) {
  const Distribution d = (Distribution)distribution;
  if (d == Distribution::gumbel_min || d == Distribution::exponential_rev || d == Distribution::gamma_rev ||
      d == Distribution::levy_rev) {  // 1 - D(-u), where D is the distribution before this one in the enumeration
    const Coverage<T> c = standard_coverage((Distribution)(distribution - 1), shape, T(shift) - u);
    return {c.clear, c.covered, c.density};
  }
  return standard_coverage(d, shape, u + T(shift));
}

// ---------------------------------------------------------------------------------------------- T-conorms

// The T-conorms. Their names, formulas and parameters are those of conorms.py.
enum class Conorm {
  hard, max, probabilistic, einstein, hamacher, frank, yager, aczel_alsina, dombi, schweizer_sklar, sum
};

// The opacity of a pixel: alpha and 1 - alpha.
template <class T>
struct Opacity {
  T alpha, clear;
};

// Whether S is the largest term of all faces; for the other T-conorms it is the sum of the terms.
SR_HD bool conorm_is_largest(int conorm) { return conorm <= (int)Conorm::max; }
// S after one more face.
SR_HD double conorm_fold(int conorm, double state, double term) {
  return conorm_is_largest(conorm) ? max(state, term) : state + term;
}

// The parameter of Hamacher's T-conorm, of which probabilistic and einstein are the cases p = 1 and p = 2.
SR_HD double hamacher_parameter(Conorm conorm, double p) {
  return conorm == Conorm::probabilistic ? 1 : conorm == Conorm::einstein ? 2 : p;
}

// The term by which a face changes the S of a pixel.
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

// The opacity whose odds alpha / (1 - alpha) are r, and the one with 1 - alpha = exp(-x).
SR_HD Opacity<double> opacity_of_odds(double r) { return {1 / (1 + 1 / r), 1 / (1 + r)}; }
SR_HD Opacity<double> opacity_of_exponent(double x) { return {-expm1(-x), exp(-x)}; }

// The opacity of a pixel whose S is `state`.
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

// (h / whole)^(p - 1), where h / whole is kept between 1e-30 and 1: for p < 1 the power is infinite at h = 0.
template <class T>
SR_HD T power_factor(T h, T whole, double p) {
  return pow(min(max(h / max(whole, kTiny<T>), T(1e-30)), T(1)), T(p - 1));
}

// The derivative of a pixel's alpha with respect to the coverage D of one face; 0 where the pixel is opaque.
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
    default: {  // Hamacher's T-conorm
      const T q = T(hamacher_parameter((Conorm)conorm, p));
      return ratio * ((rest + q * alpha) / (clear + q * a));
    }
  }
}

}  // namespace softras::SOFTRAS_ISA
