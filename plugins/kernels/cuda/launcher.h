// Launches kernels one after the other until one fails.
#pragma once

#include "cuda/strategy.h"

namespace nx {

template <class Args>
class Launcher {
 public:
  Launcher(const Strategy& strategy, const Args& args, cudaStream_t stream)
      : strategy_(strategy), args_(args), stream_(stream) {}

  // Over all parts of all tiles.
  template <class Kernel>
  void phase(Kernel kernel) {
    grid(kernel, strategy_.blocks, strategy_.threads);
  }

  template <class Kernel>
  void grid(Kernel kernel, int64_t blocks, int threads) {
    if (error_ != cudaSuccess) return;
    Launch how;
    how.grid = dim3(unsigned(blocks));
    how.block = dim3(unsigned(threads));
    how.stream = stream_;
    error_ = launch(how, kernel, args_);
  }

  // A few threads per statistic.
  template <class Kernel>
  void finish(Kernel kernel) {
    grid(kernel, strategy_.merging_blocks, kThreads);
  }

  // One launch does it all, in shared memory.
  template <class Kernel>
  void on_chip(Kernel kernel) {
    Launch how;
    how.grid = dim3(unsigned(strategy_.blocks));
    how.block = dim3(unsigned(strategy_.threads));
    how.cluster = dim3(unsigned(strategy_.ranks));
    how.smem = strategy_.shared_bytes;
    how.stream = stream_;
    error_ = launch(how, kernel, args_);
  }

  cudaError_t error() const { return error_; }

 private:
  const Strategy& strategy_;
  const Args& args_;
  cudaStream_t stream_;
  cudaError_t error_ = cudaSuccess;
};

// One source per element type.
cudaError_t norm_float32(const Strategy& strategy, cudaStream_t stream);
cudaError_t norm_float16(const Strategy& strategy, cudaStream_t stream);
cudaError_t norm_bfloat16(const Strategy& strategy, cudaStream_t stream);
cudaError_t norm_int8(const Strategy& strategy, cudaStream_t stream);

}  // namespace nx
