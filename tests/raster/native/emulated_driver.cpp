// SPDX-License-Identifier: MIT
// The functions of the CUDA driver that engine/softras/raster/native/driver.py calls, over the emulator: whatever is loaded as
// a module, its kernels are those of softras_cuda.cu and of the benchmark's baseline.
#include "cuda_emulator.h"

#define SOFTRAS_SCALAR float32
#define SOFTRAS_PART silhouettes
#include "softras_cuda.cu"
KERNELS(float32, coverage) KERNELS(float32, plain) KERNELS(float32, textured) KERNELS(float32, any)
KERNELS(float64, silhouettes) KERNELS(float64, coverage)
KERNELS(float64, plain) KERNELS(float64, textured) KERNELS(float64, any)
using softras::cuda::min;
#include "../../../benchmarks/published.cu"

// A kernel of one argument, whatever its type.
typedef void (*Launch)(emulator::Index grid, emulator::Index block, void* argument, uint64_t seed);
template <auto kernel>
void launch(emulator::Index grid, emulator::Index block, void* argument, uint64_t seed) {
  emulator::launch(kernel, grid, block, argument, seed);
}
struct Named {
  const char* name;
  Launch launch;
};
#define NAMED(kernel) {#kernel, launch<kernel>}
#define BOTH(name) NAMED(softras_##name##_float32), NAMED(softras_##name##_float64)
#define OF_IMAGES(kind)                                                                                  \
  BOTH(measure_##kind), BOTH(prepare_face_##kind), BOTH(cover_##kind), BOTH(blend_##kind), BOTH(finish_##kind), \
      BOTH(gather_##kind), BOTH(corners_backward_##kind)
static const Named kernels[] = {BOTH(check),
                                BOTH(draw),
                                BOTH(finish),
                                BOTH(faces_backward),
                                BOTH(vertices_backward),
                                BOTH(sum_gradients),
                                BOTH(jacobian),
                                BOTH(known),
                                BOTH(project_vertices),
                                BOTH(face_signs),
                                BOTH(edge_windings),
                                BOTH(make_contours),
                                BOTH(list_rows),
                                BOTH(sweep),
                                BOTH(add_changes),
                                BOTH(draw_samples),
                                BOTH(finish_coverage),
                                BOTH(outline_backward),
                                BOTH(mark_outline),
                                BOTH(move_ends),
                                BOTH(add_pieces),
                                OF_IMAGES(plain),
                                OF_IMAGES(textured),
                                OF_IMAGES(any),
                                NAMED(published_forward),
                                NAMED(published_backward)};

extern "C" {
uint64_t emulator_seed = 1;
uint64_t emulator_call_size = sizeof(softras::cuda::Call);
uint64_t emulator_jacobian_call_size = sizeof(softras::cuda::JacobianCall);
uint64_t emulator_image_call_size = sizeof(softras::cuda::ImageCall);
uint64_t emulator_coverage_call_size = sizeof(softras::cuda::CoverageCall);
uint64_t emulator_shown_face_float32_size = sizeof(softras::cuda::ShownFace<float>);
uint64_t emulator_shown_face_float64_size = sizeof(softras::cuda::ShownFace<double>);
int cuCtxGetCurrent(void** context) { return *context = (void*)1, 0; }
int cuModuleLoadData(void** module, const void* image) {
  return *module = (void*)1, image && strcmp((const char*)image, "of another driver") ? 0 : 200;
}
int cuGetErrorString(int, const char** words) { return *words = "the emulator does not know it", 0; }
int cuModuleGetFunction(Launch* function, void*, const char* name) {
  for (const Named& k : kernels)
    if (strcmp(k.name, name) == 0) return *function = k.launch, 0;
  return 500;
}
int cuLaunchKernel(Launch kernel, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned, void*,
                   void** arguments, void**) {
  kernel({x, y, z}, {bx, by, bz}, arguments[0], emulator_seed);
  return 0;
}
}
