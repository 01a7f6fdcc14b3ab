// Small kernels with and without one bug each. All read kProbeSize floats at x and write as many at y.
#pragma once

#include "cuda/memory/device.cuh"

constexpr int kProbeSize = 256;

using Probe = cudaError_t (*)(bool broken, const float* x, float* y);

struct NamedProbe {
  const char* name;
  Probe run;
};

// Ends with a null name.
extern const NamedProbe kBlockProbes[];  // within a block
extern const NamedProbe kWideProbes[];   // between blocks

// One block of kProbeSize threads.
template <class Kernel>
cudaError_t launch_block(Kernel kernel, const float* x, float* y, size_t shared_bytes = 0) {
  nx::Launch how{dim3(1), dim3(kProbeSize)};
  how.smem = shared_bytes;
  return nx::launch(how, kernel, x, y);
}

// The probe `broken` or healthy, as a kernel template over bool.
#define LAUNCH_BLOCK(kernel) (broken ? launch_block(kernel<true>, x, y) : launch_block(kernel<false>, x, y))
