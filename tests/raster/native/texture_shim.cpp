// The texture header behind plain C functions, for tests/raster/native/test_texture_header.py.
#define SOFTRAS_ISA shim
#include "softras_texture.h"

using namespace softras::shim;

// Lookups at `count` points of a chain of `channels` colours, and their backward pass, as a kernel would write it.
template <class T>
static void lookup(int count, const T* uv, const T* level, const int* size, int channels, const T* texels,
                   const T* grad, T* colour, T* grad_texels, T* grad_uv, T* grad_level) {
  const Texture texture = texture_of(size[0], size[1], size[2], size[3]);
  for (int i = 0; i < count; i++) {
    const Taps<T> taps = texture_taps(texture, uv[2 * i], uv[2 * i + 1], level[i]);
    T pull[8] = {};
    for (int k = 0; k < taps.count; k++) {
      for (int c = 0; c < channels; c++) {
        const int at = taps.index[k] * channels + c;
        colour[i * channels + c] += taps.weight[k] * texels[at];
        grad_texels[at] += taps.weight[k] * grad[i * channels + c];
        pull[k] += grad[i * channels + c] * texels[at];
      }
    }
    const TextureGradient<T> g = texture_backward(texture, taps, pull);
    grad_uv[2 * i] = g.u, grad_uv[2 * i + 1] = g.v, grad_level[i] = g.level;
  }
}

#define SHIM(T)                                                                                                       \
  void lookup_##T(int count, const T* uv, const T* level, const int* size, int channels, const T* texels,            \
                  const T* grad, T* colour, T* grad_texels, T* grad_uv, T* grad_level) {                             \
    lookup(count, uv, level, size, channels, texels, grad, colour, grad_texels, grad_uv, grad_level);                 \
  }                                                                                                                   \
  void surface_##T(int count, const T* barycentrics, int resolution, int* texel) {                                    \
    for (int i = 0; i < count; i++) {                                                                                 \
      texel[i] = surface_texel(barycentrics[3 * i], barycentrics[3 * i + 1], resolution);                             \
    }                                                                                                                 \
  }                                                                                                                   \
  void level_##T(int count, const T* face_level, const T* z, T* level, T* slope) {                                    \
    for (int i = 0; i < count; i++) level[i] = pixel_level(face_level[i], z[i]), slope[i] = pixel_level_slope(z[i]);  \
  }

extern "C" {
SHIM(float)
SHIM(double)
}
