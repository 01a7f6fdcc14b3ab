// The phases of a norm of floats, one launch after the other. Included by one source per element type.
#pragma once

#include "cuda/float/finish.cuh"
#include "cuda/float/onchip_range.cuh"
#include "cuda/float/onchip_topk.cuh"
#include "cuda/float/range.cuh"
#include "cuda/launcher.h"

namespace nx {

template <class T, int W, bool Single>
cudaError_t run_phases(const Strategy& strategy, cudaStream_t stream) {
  Launcher<FloatArgs> run(strategy, strategy.args, stream);
  switch (strategy.args.kind) {
    case NX_LINF:
      run.phase(sum_extremes<T, W, Single, true>);
      run.finish(finish_line<T>);
      break;
    case NX_RANGE:
      run.phase(chunk_spans<T, W, Single>);
      run.finish(finish_line<T>);
      break;
    case NX_TOPK:
      run.phase(sum_extremes<T, W, Single, true>);
      run.grid(bound_topk<T>, strategy.args.g.groups, kThreads);
      run.phase(collect_topk<T, W, Single>);
      run.grid(finish_topk<T>, strategy.args.g.groups, kThreads);
      break;
    default:
      run.phase(sum_extremes<T, W, Single, false>);
      run.finish(finish_mean<T>);
      if (strategy.args.kind == NX_L1)
        run.phase(deviations<T, W, Single, false>);
      else
        run.phase(deviations<T, W, Single, true>);
      run.finish(finish_line<T>);
  }
  run.phase(apply_line<T, W, Single>);
  return run.error();
}

template <class T, int W, bool Single>
cudaError_t run_on_chip(const Strategy& strategy, cudaStream_t stream) {
  Launcher<FloatArgs> run(strategy, strategy.args, stream);
  switch (strategy.args.kind) {
    case NX_L1: run.on_chip(onchip_norm<T, W, Single, NX_L1>); break;
    case NX_LINF: run.on_chip(onchip_norm<T, W, Single, NX_LINF>); break;
    case NX_L2: run.on_chip(onchip_norm<T, W, Single, NX_L2>); break;
    default:
      if constexpr (Single) {
        if (strategy.args.kind == NX_TOPK) run.on_chip(onchip_topk<T, W>);
        if (strategy.args.kind == NX_RANGE) run.on_chip(onchip_range<T, W>);
      }
  }
  return run.error();
}

template <class T, int W>
cudaError_t choose_vectors(const Strategy& strategy, cudaStream_t stream) {
  const bool single = strategy.args.g.tile * strategy.args.g.held == 1;
  if (strategy.path == Path::kPhases)
    return single ? run_phases<T, W, true>(strategy, stream) : run_phases<T, W, false>(strategy, stream);
  if (single) return run_on_chip<T, W, true>(strategy, stream);
  if constexpr (W * sizeof(T) == 16) return run_on_chip<T, W, false>(strategy, stream);
  return cudaErrorInvalidValue;
}

template <class T>
cudaError_t float_norm(const Strategy& strategy, cudaStream_t stream) {
  switch (strategy.vector_bytes / int(sizeof(T))) {
    case 16 / sizeof(T): return choose_vectors<T, 16 / sizeof(T)>(strategy, stream);
    case 1: return choose_vectors<T, 1>(strategy, stream);
    default:
      if constexpr (sizeof(T) == 2) return choose_vectors<T, 4>(strategy, stream);
      return cudaErrorInvalidValue;
  }
}

}  // namespace nx
