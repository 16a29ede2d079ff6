// The header of the modes behind plain C functions, for tests/raster/native/test_modes_header.py.
#define SOFTRAS_ISA shim
#include "softras_modes.h"

using namespace softras::shim;

// Coverages (3 numbers each) of distances u.
template <class T>
static void cover(int distribution, double shape, double shift, int count, const T* u, T* out) {
  for (int i = 0; i < count; i++) {
    const Coverage<T> c = coverage<T>(distribution, shape, shift, u[i]);
    out[3 * i] = c.covered, out[3 * i + 1] = c.clear, out[3 * i + 2] = c.density;
  }
}

// Alpha of pixels with `faces` coverages each, and its derivatives, as a kernel would write it.
template <class T>
static void fold(int conorm, double p, int pixels, int faces, const T* covered, const T* clear, T* alpha, T* factor) {
  for (int i = 0; i < pixels; i++) {
    const T *a = covered + i * faces, *c = clear + i * faces;
    double state = 0;
    for (int j = 0; j < faces; j++) {
      state = conorm_fold(conorm, state, conorm_term(conorm, p, Coverage<T>{a[j], c[j], 0}));
    }
    const Opacity<T> pixel = conorm_opacity<T>(conorm, p, state);
    alpha[i] = pixel.alpha;
    for (int j = 0; j < faces; j++) {
      factor[i * faces + j] = conorm_factor(conorm, p, Coverage<T>{a[j], c[j], 0}, pixel);
    }
  }
}

#define SHIM(T)                                                                                                  \
  void cover_##T(int distribution, double shape, double shift, int count, const T* u, T* out) {                  \
    cover(distribution, shape, shift, count, u, out);                                                            \
  }                                                                                                              \
  void fold_##T(int conorm, double p, int pixels, int faces, const T* covered, const T* clear, T* alpha, T* factor) { \
    fold(conorm, p, pixels, faces, covered, clear, alpha, factor);                                               \
  }

extern "C" {
SHIM(float)
SHIM(double)
}
