// The phases of a norm of floats, one launch after the other. Included by one source per element type.
#pragma once

#include "finish.h"
#include "launcher.h"
#include "onchip_range.h"
#include "onchip_topk.h"
#include "range.h"

namespace nx {

template <class T, int W, bool Single>
cudaError_t phases(const Plan& plan, cudaStream_t stream) {
  Launcher<Task> run(plan, plan.task, stream);
  switch (plan.task.kind) {
    case NX_LINF:
      run.phase(first_kernel<T, W, Single, true>);
      run.finish(line_kernel<T>);
      break;
    case NX_RANGE:
      run.phase(range_kernel<T, W, Single>);
      run.finish(line_kernel<T>);
      break;
    case NX_TOPK:
      run.phase(first_kernel<T, W, Single, true>);
      run.grid(bound_kernel<T>, plan.task.g.groups, kThreads);
      run.phase(collect_kernel<T, W, Single>);
      run.grid(select_kernel<T>, plan.task.g.groups, kThreads);
      break;
    default:
      run.phase(first_kernel<T, W, Single, false>);
      run.finish(mean_kernel<T>);
      if (plan.task.kind == NX_L1)
        run.phase(second_kernel<T, W, Single, false>);
      else
        run.phase(second_kernel<T, W, Single, true>);
      run.finish(line_kernel<T>);
  }
  run.phase(apply_kernel<T, W, Single>);
  return run.error();
}

template <class T, int W, bool Single>
cudaError_t on_chip(const Plan& plan, cudaStream_t stream) {
  Launcher<Task> run(plan, plan.task, stream);
  switch (plan.task.kind) {
    case NX_L1: run.on_chip(onchip_kernel<T, W, Single, NX_L1>); break;
    case NX_LINF: run.on_chip(onchip_kernel<T, W, Single, NX_LINF>); break;
    case NX_L2: run.on_chip(onchip_kernel<T, W, Single, NX_L2>); break;
    default:
      if constexpr (Single) {
        if (plan.task.kind == NX_TOPK) run.on_chip(onchip_topk_kernel<T, W>);
        if (plan.task.kind == NX_RANGE) run.on_chip(onchip_range_kernel<T, W>);
      }
  }
  return run.error();
}

template <class T, int W>
cudaError_t by_vectors(const Plan& plan, cudaStream_t stream) {
  bool single = plan.task.g.tile * plan.task.g.held == 1;
  if (plan.path == Path::kPhases) return single ? phases<T, W, true>(plan, stream) : phases<T, W, false>(plan, stream);
  if (single) return on_chip<T, W, true>(plan, stream);
  if constexpr (W * sizeof(T) == 16) return on_chip<T, W, false>(plan, stream);
  return cudaErrorInvalidValue;
}

template <class T>
cudaError_t float_norm(const Plan& plan, cudaStream_t stream) {
  switch (plan.vector_bytes / int(sizeof(T))) {
    case 16 / sizeof(T): return by_vectors<T, 16 / sizeof(T)>(plan, stream);
    case 1: return by_vectors<T, 1>(plan, stream);
    default:
      if constexpr (sizeof(T) == 2) return by_vectors<T, 4>(plan, stream);
      return cudaErrorInvalidValue;
  }
}

}  // namespace nx
