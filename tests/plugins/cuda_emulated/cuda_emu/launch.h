// A kernel launch: checked as CUDA checks it, then run block by block, cluster by cluster, or as one grid.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace cuda_emu {

struct Launch {
  dim3 grid, block, cluster;
  size_t dynamic_shared = 0;
  bool cooperative = false;
  const void* kernel = nullptr;
  void (*body)(const void* arguments) = nullptr;
  const void* arguments = nullptr;
};

cudaError_t launch(const Launch& launch);

}  // namespace cuda_emu
