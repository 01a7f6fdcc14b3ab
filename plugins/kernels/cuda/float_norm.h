// The phases of a norm of floats, one launch after the other. Included by one source per element type.
#pragma once

#include "apply.h"
#include "plan.h"
#include "topk.h"

namespace nx {

// Launches until one fails.
class Launcher {
 public:
  Launcher(const Plan& plan, cudaStream_t stream) : plan_(plan), stream_(stream) {}

  template <class Kernel>
  void phase(Kernel kernel) { go(kernel, plan_.blocks, plan_.threads); }

  // One block per statistic.
  template <class Kernel>
  void per_group(Kernel kernel) { go(kernel, plan_.task.g.groups, kThreads); }

  cudaError_t error() const { return error_; }

 private:
  template <class Kernel>
  void go(Kernel kernel, int64_t blocks, int threads) {
    if (error_ != cudaSuccess) return;
    Launch how;
    how.grid = dim3(unsigned(blocks));
    how.block = dim3(unsigned(threads));
    how.stream = stream_;
    error_ = launch(how, kernel, plan_.task);
  }

  const Plan& plan_;
  cudaStream_t stream_;
  cudaError_t error_ = cudaSuccess;
};

template <class T, int W>
cudaError_t phases(const Plan& plan, cudaStream_t stream) {
  Launcher run(plan, stream);
  switch (plan.task.kind) {
    case NX_LINF: run.phase(first_kernel<T, W, true>); break;
    case NX_RANGE: run.phase(range_kernel<T, W>); break;
    case NX_TOPK:
      run.phase(first_kernel<T, W, true>);
      run.per_group(bound_kernel<T>);
      run.phase(collect_kernel<T, W>);
      run.per_group(select_kernel<T>);
      break;
    case NX_L1:
      run.phase(first_kernel<T, W, false>);
      run.phase(second_kernel<T, W, false>);
      break;
    default:
      run.phase(first_kernel<T, W, false>);
      run.phase(second_kernel<T, W, true>);
  }
  run.phase(apply_kernel<T, W>);
  return run.error();
}

template <class T>
cudaError_t float_norm(const Plan& plan, cudaStream_t stream) {
  switch (plan.vector_bytes / int(sizeof(T))) {
    case 16 / sizeof(T): return phases<T, 16 / sizeof(T)>(plan, stream);
    case 1: return phases<T, 1>(plan, stream);
    default:
      if constexpr (sizeof(T) == 2) return phases<T, 4>(plan, stream);
      return cudaErrorInvalidValue;
  }
}

// Defined by float32.cu, float16.cu, bfloat16.cu and int8.cu.
cudaError_t norm_float32(const Plan& plan, cudaStream_t stream);
cudaError_t norm_float16(const Plan& plan, cudaStream_t stream);
cudaError_t norm_bfloat16(const Plan& plan, cudaStream_t stream);

}  // namespace nx
