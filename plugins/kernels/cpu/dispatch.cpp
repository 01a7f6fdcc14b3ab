// Which instruction set this process uses: the best that the CPU has, or the one that NORMEXPORT_CPU names.
#include <cstdlib>
#include <cstring>

#include "normexport/kernels.h"
#include "table.h"

namespace nx::cpu {

// Those that CMakeLists.txt compiles for this processor.
#if defined(NX_X86)
extern const Kernels kernels_AVX3_DL, kernels_AVX3, kernels_AVX2, kernels_SSE2;
#elif defined(NX_ARM)
extern const Kernels kernels_NEON;
#else
extern const Kernels kernels_BASELINE;
#endif

namespace {

bool always() { return true; }

#ifdef NX_X86
// All that the compiler may have used; the names are those of the flags in CMakeLists.txt.
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c") && __builtin_cpu_supports("lzcnt") &&
         __builtin_cpu_supports("movbe") && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("aes") &&
         __builtin_cpu_supports("pclmul");
}

bool has_avx3() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
}

bool has_avx3_dl() {
  return has_avx3() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bitalg") &&
         __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512ifma") &&
         __builtin_cpu_supports("gfni") && __builtin_cpu_supports("vaes") && __builtin_cpu_supports("vpclmulqdq");
}
#endif

// An instruction set of this build.
struct Choice {
  const Kernels* kernels;  // compiled for it
  bool (*usable)();        // whether this machine has it
};

// Best first.
const Choice kChoices[] = {
#if defined(NX_X86)
    {&kernels_AVX3_DL, has_avx3_dl},
    {&kernels_AVX3, has_avx3},
    {&kernels_AVX2, has_avx2},
    {&kernels_SSE2, always},
#elif defined(NX_ARM)
    {&kernels_NEON, always},
#else
    {&kernels_BASELINE, always},
#endif
};

// A name that is unknown or beyond the CPU is ignored.
const Kernels& choose() {
  const char* wanted = std::getenv("NORMEXPORT_CPU");
  const Kernels* best = nullptr;
  for (const Choice& choice : kChoices) {
    if (!choice.usable()) continue;
    if (wanted && !std::strcmp(choice.kernels->name, wanted)) return *choice.kernels;
    if (!best) best = choice.kernels;
  }
  return *best;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace nx::cpu

extern "C" const char* nx_cpu_target(void) { return nx::cpu::kernels().name; }
