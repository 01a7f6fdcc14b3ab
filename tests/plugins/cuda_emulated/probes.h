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

// Cooperative grids and a block's rank in its cluster: what CUDA and the emulation have, and no norm needs.
template <class... P, class... A>
cudaError_t launch_cooperative(dim3 grid, dim3 block, void (*kernel)(P...), A&&... arguments) {
  cuda_emu::Launch how;
  how.grid = grid;
  how.block = block;
  how.cluster = dim3(1);
  how.cooperative = true;
  return cuda_emu::launch(how, kernel, std::forward<A>(arguments)...);
}
inline void sync_grid(NX_EMU_SITE) { cuda_emu::sync_grid(file, line); }
inline unsigned cluster_rank(NX_EMU_SITE) { return cuda_emu::rank_in_cluster(file, line); }

// The probe `broken` or healthy, as a kernel template over bool.
#define LAUNCH_BLOCK(kernel) (broken ? launch_block(kernel<true>, x, y) : launch_block(kernel<false>, x, y))
