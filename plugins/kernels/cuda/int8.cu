// The phases of an int8 norm, one launch after the other.
#include "int8_apply.h"
#include "int8_finish.h"
#include "int8_onchip_range.h"
#include "int8_onchip_topk.h"
#include "int8_range.h"
#include "int8_topk.h"
#include "launcher.h"

namespace nx {
namespace {

template <int W, bool Single>
cudaError_t int_phases(const Plan& plan, cudaStream_t stream) {
  Launcher<IntTask> run(plan, plan.int_task, stream);
  switch (plan.int_task.kind) {
    case NX_LINF: run.phase(int_first_kernel<W, Single, Look::kExtremes>); break;
    case NX_L2: run.phase(int_first_kernel<W, Single, Look::kSquares>); break;
    case NX_RANGE: run.phase(int_range_kernel<W, Single>); break;
    case NX_TOPK:
      run.grid(histogram_kernel<W>, plan.histogram_blocks, kThreads);
      if (plan.int_task.tally.bins) run.grid(ends_kernel<0>, plan.int_task.g.groups, kThreads);
      break;
    default:
      run.phase(int_first_kernel<W, Single, Look::kSum>);
      run.finish(int_mean_kernel<0>);
      run.phase(int_second_kernel<W, Single>);
  }
  if (plan.int_task.kind != NX_TOPK) run.finish(int_line_kernel<0>);
  if constexpr (Single)
    run.phase(table_kernel<W>);
  else
    run.phase(int_apply_kernel<W>);
  return run.error();
}

template <int W>
cudaError_t int_on_chip(const Plan& plan, cudaStream_t stream) {
  Launcher<IntTask> run(plan, plan.int_task, stream);
  switch (plan.int_task.kind) {
    case NX_L1: run.on_chip(onchip_int_kernel<W, NX_L1>); break;
    case NX_LINF: run.on_chip(onchip_int_kernel<W, NX_LINF>); break;
    case NX_RANGE: run.on_chip(onchip_int_range_kernel<W>); break;
    case NX_TOPK: run.on_chip(onchip_int_topk_kernel<W>); break;
    default: run.on_chip(onchip_int_kernel<W, NX_L2>);
  }
  return run.error();
}

template <int W>
cudaError_t by_vectors(const Plan& plan, cudaStream_t stream) {
  if (plan.path == Path::kOnChip) return int_on_chip<W>(plan, stream);
  bool single = plan.int_task.g.tile * plan.int_task.g.held == 1;
  return single ? int_phases<W, true>(plan, stream) : int_phases<W, false>(plan, stream);
}

}  // namespace

cudaError_t norm_int8(const Plan& plan, cudaStream_t stream) {
  switch (plan.vector_bytes) {
    case 16: return by_vectors<16>(plan, stream);
    case 4: return by_vectors<4>(plan, stream);
    default: return by_vectors<1>(plan, stream);
  }
}

}  // namespace nx
