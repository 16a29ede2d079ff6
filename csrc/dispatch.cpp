// SPDX-License-Identifier: MIT
// The entry points of the C ABI. Each call goes to the code for the best instruction set that this processor has, or for a
// lesser one that the environment variable SOFTRAS_ISA names, which is for tests.
#include <stdlib.h>
#include <string.h>

#include "softras.h"

#if defined(__x86_64__)
#include <cpuid.h>

// The instruction sets that the library is compiled for, the least first.
#define LEVELS(X) X(x86_64_v2) X(x86_64_v3) X(x86_64_v4)

// The number of the best instruction set of this processor. x86-64-v3 adds AVX2, FMA and BMI to v2; v4 adds AVX-512 F, BW,
// CD, DQ and VL. The operating system must save their registers too, which `xgetbv` tells.
static int highest() {
  unsigned a, b, c, d, b7, c7, d7;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  const unsigned osxsave = 1u << 27, fma = 1u << 12, movbe = 1u << 22, f16c = 1u << 29, avx = 1u << 28;
  const unsigned basic = osxsave | fma | movbe | f16c | avx;
  if ((c & basic) != basic || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const unsigned avx2 = 1u << 5 | 1u << 3 | 1u << 8;
  if ((low & 0x6) != 0x6 || (b7 & avx2) != avx2) return 0;
  const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
  return (low & 0xe6) == 0xe6 && (b7 & avx512) == avx512 ? 2 : 1;
}
#else
#define LEVELS(X) X(baseline)
static int highest() { return 0; }
#endif

#define DECLARE(isa)                                                                        \
  extern "C" int softras_silhouettes_float32_##isa(const softras_call*);                    \
  extern "C" int softras_silhouettes_float64_##isa(const softras_call*);                    \
  extern "C" int softras_silhouettes_jacobian_float32_##isa(const softras_jacobian_call*);  \
  extern "C" int softras_silhouettes_jacobian_float64_##isa(const softras_jacobian_call*);  \
  extern "C" int softras_images_float32_##isa(const softras_image_call*);                   \
  extern "C" int softras_images_float64_##isa(const softras_image_call*);                   \
  extern "C" int softras_coverage_float32_##isa(softras_coverage_call*);                    \
  extern "C" int softras_coverage_float64_##isa(softras_coverage_call*);                    \
  extern "C" int softras_product_float32_##isa(const softras_product_call*);                \
  extern "C" int softras_product_float64_##isa(const softras_product_call*);                \
  extern "C" int softras_sparse_product_float32_##isa(const softras_sparse_call*);          \
  extern "C" int softras_sparse_product_float64_##isa(const softras_sparse_call*);          \
  extern "C" int softras_roughness_float32_##isa(const softras_mesh_call*);                 \
  extern "C" int softras_roughness_float64_##isa(const softras_mesh_call*);                 \
  extern "C" int softras_folding_float32_##isa(const softras_mesh_call*);                   \
  extern "C" int softras_folding_float64_##isa(const softras_mesh_call*);                   \
  extern "C" int softras_distortion_float32_##isa(const softras_mesh_call*);                \
  extern "C" int softras_distortion_float64_##isa(const softras_mesh_call*);                \
  extern "C" int softras_comparison_float32_##isa(const softras_comparison_call*);          \
  extern "C" int softras_comparison_float64_##isa(const softras_comparison_call*);          \
  extern "C" int softras_factor_float64_##isa(const softras_solve_call*);                   \
  extern "C" int softras_solve_float64_##isa(const softras_solve_call*);
LEVELS(DECLARE)

// The entry points of one instruction set.
struct Functions {
  int (*silhouettes[2])(const softras_call*);  // float32, float64
  int (*jacobian[2])(const softras_jacobian_call*);
  int (*images[2])(const softras_image_call*);
  int (*coverage[2])(softras_coverage_call*);
  int (*product[2])(const softras_product_call*);
  int (*sparse_product[2])(const softras_sparse_call*);
  int (*roughness[2])(const softras_mesh_call*);
  int (*folding[2])(const softras_mesh_call*);
  int (*distortion[2])(const softras_mesh_call*);
  int (*comparison[2])(const softras_comparison_call*);
  int (*factor)(const softras_solve_call*);
  int (*solve)(const softras_solve_call*);
};
#define FUNCTIONS(isa)                                                        \
  {{softras_silhouettes_float32_##isa, softras_silhouettes_float64_##isa},    \
   {softras_silhouettes_jacobian_float32_##isa, softras_silhouettes_jacobian_float64_##isa}, \
   {softras_images_float32_##isa, softras_images_float64_##isa},              \
   {softras_coverage_float32_##isa, softras_coverage_float64_##isa},          \
   {softras_product_float32_##isa, softras_product_float64_##isa},            \
   {softras_sparse_product_float32_##isa, softras_sparse_product_float64_##isa}, \
   {softras_roughness_float32_##isa, softras_roughness_float64_##isa},        \
   {softras_folding_float32_##isa, softras_folding_float64_##isa},            \
   {softras_distortion_float32_##isa, softras_distortion_float64_##isa},      \
   {softras_comparison_float32_##isa, softras_comparison_float64_##isa},      \
   softras_factor_float64_##isa, softras_solve_float64_##isa},
static const Functions functions[] = {LEVELS(FUNCTIONS)};
#define NAME(isa) #isa,
static const char* const names[] = {LEVELS(NAME)};

// The number of the instruction set in use. It is found once, because a virtual machine answers cpuid slowly.
static int level() {
  static int known = -1;
  int found = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (found >= 0) return found;
  found = highest();
  const char* wanted = getenv("SOFTRAS_ISA");
  for (int i = 0; wanted && i < found; i++)
    if (strcmp(wanted, names[i]) == 0) found = i;
  __atomic_store_n(&known, found, __ATOMIC_RELAXED);
  return found;
}

extern "C" {
int softras_silhouettes_float32(const softras_call* call) { return functions[level()].silhouettes[0](call); }
int softras_silhouettes_float64(const softras_call* call) { return functions[level()].silhouettes[1](call); }
int softras_silhouettes_jacobian_float32(const softras_jacobian_call* call) { return functions[level()].jacobian[0](call); }
int softras_silhouettes_jacobian_float64(const softras_jacobian_call* call) { return functions[level()].jacobian[1](call); }
int softras_images_float32(const softras_image_call* call) { return functions[level()].images[0](call); }
int softras_images_float64(const softras_image_call* call) { return functions[level()].images[1](call); }
int softras_coverage_float32(softras_coverage_call* call) { return functions[level()].coverage[0](call); }
int softras_coverage_float64(softras_coverage_call* call) { return functions[level()].coverage[1](call); }
int softras_abi(void) { return SOFTRAS_ABI; }
int softras_product_float32(const softras_product_call* call) { return functions[level()].product[0](call); }
int softras_product_float64(const softras_product_call* call) { return functions[level()].product[1](call); }
int softras_sparse_product_float32(const softras_sparse_call* call) { return functions[level()].sparse_product[0](call); }
int softras_sparse_product_float64(const softras_sparse_call* call) { return functions[level()].sparse_product[1](call); }
int softras_roughness_float32(const softras_mesh_call* call) { return functions[level()].roughness[0](call); }
int softras_roughness_float64(const softras_mesh_call* call) { return functions[level()].roughness[1](call); }
int softras_folding_float32(const softras_mesh_call* call) { return functions[level()].folding[0](call); }
int softras_folding_float64(const softras_mesh_call* call) { return functions[level()].folding[1](call); }
int softras_distortion_float32(const softras_mesh_call* call) { return functions[level()].distortion[0](call); }
int softras_distortion_float64(const softras_mesh_call* call) { return functions[level()].distortion[1](call); }
int softras_comparison_float32(const softras_comparison_call* call) { return functions[level()].comparison[0](call); }
int softras_comparison_float64(const softras_comparison_call* call) { return functions[level()].comparison[1](call); }
int softras_factor_float64(const softras_solve_call* call) { return functions[level()].factor(call); }
int softras_solve_float64(const softras_solve_call* call) { return functions[level()].solve(call); }
const char* softras_instruction_set(void) { return names[level()]; }
}
