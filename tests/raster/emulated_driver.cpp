// SPDX-License-Identifier: MIT
// The functions of the CUDA driver that engine/softras/raster/driver.py calls, over the emulator: whatever is loaded as
// a module, its kernels are those of softras_cuda.cu.
#include "cuda_emulator.h"

#define SOFTRAS_SCALAR float32
#include "softras_cuda.cu"
KERNELS(float64)

typedef void (*Kernel)(softras::cuda::Call);
struct Named {
  const char* name;
  Kernel kernel;
};
#define NAMED(name) {"softras_" #name "_float32", softras_##name##_float32}, {"softras_" #name "_float64", softras_##name##_float64}
static const Named kernels[] = {NAMED(check),          NAMED(draw),              NAMED(finish),
                                NAMED(faces_backward), NAMED(vertices_backward), NAMED(sum_gradients)};

extern "C" {
uint64_t emulator_seed = 1;
uint64_t emulator_call_size = sizeof(softras::cuda::Call);
int cuCtxGetCurrent(void** context) { return *context = (void*)1, 0; }
int cuModuleLoadData(void** module, const void* image) { return *module = (void*)1, image ? 0 : 1; }
int cuGetErrorString(int, const char** words) { return *words = "the emulator does not know it", 0; }
int cuModuleGetFunction(Kernel* function, void*, const char* name) {
  for (const Named& k : kernels)
    if (strcmp(k.name, name) == 0) return *function = k.kernel, 0;
  return 500;
}
int cuLaunchKernel(Kernel kernel, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned, void*,
                   void** arguments, void**) {
  emulator::launch(kernel, {x, y, z}, {bx, by, bz}, arguments[0], emulator_seed);
  return 0;
}
}
