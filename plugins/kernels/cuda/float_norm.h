// The phases of a norm of floats, one launch after the other. Included by one source per element type.
#pragma once

#include "launcher.h"
#include "onchip_range.h"
#include "onchip_topk.h"

namespace nx {

template <class T, int W>
cudaError_t phases(const Plan& plan, cudaStream_t stream) {
  Launcher<Task> run(plan, plan.task, stream);
  switch (plan.task.kind) {
    case NX_LINF: run.phase(first_kernel<T, W, true>); break;
    case NX_RANGE: run.phase(range_kernel<T, W>); break;
    case NX_TOPK:
      run.phase(first_kernel<T, W, true>);
      run.grid(bound_kernel<T>, plan.task.g.groups, kThreads);
      run.phase(collect_kernel<T, W>);
      run.grid(select_kernel<T>, plan.task.g.groups, kThreads);
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
cudaError_t on_chip(const Plan& plan, cudaStream_t stream) {
  Launcher<Task> run(plan, plan.task, stream);
  switch (plan.task.kind) {
    case NX_L1: run.on_chip(onchip_kernel<T, NX_L1>); break;
    case NX_TOPK: run.on_chip(onchip_topk_kernel<T>); break;
    case NX_RANGE: run.on_chip(onchip_range_kernel<T>); break;
    case NX_LINF: run.on_chip(onchip_kernel<T, NX_LINF>); break;
    default: run.on_chip(onchip_kernel<T, NX_L2>);
  }
  return run.error();
}

template <class T>
cudaError_t float_norm(const Plan& plan, cudaStream_t stream) {
  if (plan.path == Path::kOnChip) return on_chip<T>(plan, stream);
  switch (plan.vector_bytes / int(sizeof(T))) {
    case 16 / sizeof(T): return phases<T, 16 / sizeof(T)>(plan, stream);
    case 1: return phases<T, 1>(plan, stream);
    default:
      if constexpr (sizeof(T) == 2) return phases<T, 4>(plan, stream);
      return cudaErrorInvalidValue;
  }
}

}  // namespace nx
