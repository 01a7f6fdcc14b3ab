// The phases of an int8 norm, one launch after the other.
#include "cuda/int8/apply.cuh"
#include "cuda/int8/finish.cuh"
#include "cuda/int8/onchip_range.cuh"
#include "cuda/int8/onchip_topk.cuh"
#include "cuda/int8/range.cuh"
#include "cuda/int8/topk.cuh"
#include "cuda/launcher.h"

namespace nx {
namespace {

template <int W, bool Single>
cudaError_t run_int_phases(const Strategy& strategy, cudaStream_t stream) {
  Launcher<IntArgs> run(strategy, strategy.int_args, stream);
  switch (strategy.int_args.kind) {
    case NX_LINF: run.phase(int_sums<W, Single, Look::kExtremes>); break;
    case NX_L2: run.phase(int_sums<W, Single, Look::kSquares>); break;
    case NX_RANGE: run.phase(int_chunk_spans<W, Single>); break;
    case NX_TOPK:
      run.grid(int_histograms<W>, strategy.histogram_blocks, kThreads);
      if (strategy.int_args.tally.bins) run.grid(int_finish_topk<0>, strategy.int_args.g.groups, kThreads);
      break;
    default:
      run.phase(int_sums<W, Single, Look::kSum>);
      run.finish(int_finish_mean<0>);
      run.phase(int_deviations<W, Single>);
  }
  if (strategy.int_args.kind != NX_TOPK) run.finish(int_finish_line<0>);
  if constexpr (Single)
    run.phase(int_apply_table<W>);
  else
    run.phase(int_apply_line<W>);
  return run.error();
}

template <int W>
cudaError_t run_int_on_chip(const Strategy& strategy, cudaStream_t stream) {
  Launcher<IntArgs> run(strategy, strategy.int_args, stream);
  switch (strategy.int_args.kind) {
    case NX_L1: run.on_chip(onchip_int_norm<W, NX_L1>); break;
    case NX_LINF: run.on_chip(onchip_int_norm<W, NX_LINF>); break;
    case NX_RANGE: run.on_chip(onchip_int_range<W>); break;
    case NX_TOPK: run.on_chip(onchip_int_topk<W>); break;
    default: run.on_chip(onchip_int_norm<W, NX_L2>);
  }
  return run.error();
}

template <int W>
cudaError_t choose_vectors(const Strategy& strategy, cudaStream_t stream) {
  if (strategy.path == Path::kOnChip) return run_int_on_chip<W>(strategy, stream);
  const bool single = strategy.int_args.g.tile * strategy.int_args.g.held == 1;
  return single ? run_int_phases<W, true>(strategy, stream) : run_int_phases<W, false>(strategy, stream);
}

}  // namespace

cudaError_t norm_int8(const Strategy& strategy, cudaStream_t stream) {
  switch (strategy.vector_bytes) {
    case 16: return choose_vectors<16>(strategy, stream);
    case 4: return choose_vectors<4>(strategy, stream);
    default: return choose_vectors<1>(strategy, stream);
  }
}

}  // namespace nx
