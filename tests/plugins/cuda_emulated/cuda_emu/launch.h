// A kernel launch: checked as CUDA checks it, then run block by block, cluster by cluster, or as one grid.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace cuda_emu {

struct Launch {
  dim3 grid;                                      // blocks
  dim3 block;                                     // threads of a block
  dim3 cluster;                                   // blocks of a cluster
  size_t dynamic_shared = 0;                      // bytes a block
  bool cooperative = false;                       // whether all blocks must run side by side
  const void* kernel = nullptr;                   // which kernel, for its attributes
  void (*body)(const void* arguments) = nullptr;  // calls it
  const void* arguments = nullptr;                // what it is called with
};

cudaError_t launch(const Launch& launch);

}  // namespace cuda_emu
