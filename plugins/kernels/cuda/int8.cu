// The phases of an int8 norm, one launch after the other.
#include "int8_apply.h"
#include "int8_topk.h"
#include "launcher.h"

namespace nx {
namespace {

template <int W, bool One>
cudaError_t int_phases(const Plan& plan, cudaStream_t stream) {
  Launcher<IntTask> run(plan, plan.int_task, stream);
  switch (plan.int_task.kind) {
    case NX_LINF: run.phase(int_first_kernel<W, One, Look::kExtremes>); break;
    case NX_L2: run.phase(int_first_kernel<W, One, Look::kSquares>); break;
    case NX_RANGE: run.phase(int_range_kernel<W, One>); break;
    case NX_TOPK:
      run.grid(histogram_kernel<W>, plan.histogram_blocks, kThreads);
      if (plan.int_task.tally.bins) run.grid(ends_kernel<0>, plan.int_task.g.groups, kThreads);
      break;
    default:
      run.phase(int_first_kernel<W, One, Look::kSum>);
      run.phase(int_second_kernel<W, One>);
  }
  if (plan.int_task.g.tile * plan.int_task.g.held == 1)
    run.phase(table_kernel<W>);
  else
    run.phase(int_apply_kernel<W>);
  return run.error();
}

}  // namespace

cudaError_t norm_int8(const Plan& plan, cudaStream_t stream) {
  bool one = plan.int_task.g.held == 1;
  switch (plan.vector_bytes) {
    case 16: return one ? int_phases<16, true>(plan, stream) : int_phases<16, false>(plan, stream);
    case 4: return one ? int_phases<4, true>(plan, stream) : int_phases<4, false>(plan, stream);
    default: return int_phases<1, true>(plan, stream);
  }
}

}  // namespace nx
