// Launches kernels one after the other until one fails.
#pragma once

#include "plan.h"

namespace nx {

template <class Task>
class Launcher {
 public:
  Launcher(const Plan& plan, const Task& task, cudaStream_t stream) : plan_(plan), task_(task), stream_(stream) {}

  // Over all parts of all tiles.
  template <class Kernel>
  void phase(Kernel kernel) {
    grid(kernel, plan_.blocks, plan_.threads);
  }

  template <class Kernel>
  void grid(Kernel kernel, int64_t blocks, int threads) {
    if (error_ != cudaSuccess) return;
    Launch how;
    how.grid = dim3(unsigned(blocks));
    how.block = dim3(unsigned(threads));
    how.stream = stream_;
    error_ = launch(how, kernel, task_);
  }

  // A few threads per statistic.
  template <class Kernel>
  void finish(Kernel kernel) {
    grid(kernel, plan_.merging_blocks, kThreads);
  }

  // One launch does it all, in shared memory.
  template <class Kernel>
  void on_chip(Kernel kernel) {
    Launch how;
    how.grid = dim3(unsigned(plan_.blocks));
    how.block = dim3(unsigned(plan_.threads));
    how.cluster = dim3(unsigned(plan_.ranks));
    how.smem = plan_.shared_bytes;
    how.stream = stream_;
    error_ = launch(how, kernel, task_);
  }

  cudaError_t error() const { return error_; }

 private:
  const Plan& plan_;
  const Task& task_;
  cudaStream_t stream_;
  cudaError_t error_ = cudaSuccess;
};

// One source per element type.
cudaError_t norm_float32(const Plan& plan, cudaStream_t stream);
cudaError_t norm_float16(const Plan& plan, cudaStream_t stream);
cudaError_t norm_bfloat16(const Plan& plan, cudaStream_t stream);
cudaError_t norm_int8(const Plan& plan, cudaStream_t stream);

}  // namespace nx
