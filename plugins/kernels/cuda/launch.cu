// nx_cuda_norm and nx_cuda_workspace: checks, a strategy, and the launch of the kernels of the type.
#include "cuda/launcher.h"

using namespace nx;

namespace {

int32_t status_of(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return NX_OK;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInitializationError:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorNoKernelImageForDevice: return NX_NO_DEVICE;
    default: return NX_LAUNCH;
  }
}

cudaError_t compute(const NxNorm& norm, const Strategy& strategy, cudaStream_t stream) {
  switch (norm.type) {
    case NX_FLOAT32: return norm_float32(strategy, stream);
    case NX_FLOAT16: return norm_float16(strategy, stream);
    case NX_BFLOAT16: return norm_bfloat16(strategy, stream);
    default: return norm_int8(strategy, stream);
  }
}

}  // namespace

extern "C" {

size_t nx_cuda_workspace(const NxNorm* norm) {
  if (nx_check(norm) != NX_OK || norm->type == NX_FLOAT64 || norm->num_groups || is_empty(*norm)) return 0;
  return strategy_of(*norm, 16, Device(), nullptr).workspace;
}

int32_t nx_cuda_norm(const NxNorm* norm, const void* x, const void* scale, const void* bias, void* y, void* workspace,
                     size_t workspace_bytes, void* queue) {
  const int32_t status = norm && norm->num_groups ? int32_t(NX_UNSUPPORTED) : nx_check(norm);
  if (status != NX_OK) return status;
  if (norm->type == NX_FLOAT64) return NX_UNSUPPORTED;
  if (is_empty(*norm)) return NX_OK;
  if (!x || !scale || !bias || !y) return NX_BAD_ARGUMENT;

  const int64_t alignment = alignment_of(*norm, x, y);
  if (alignment < element_size(norm->type)) return NX_BAD_ARGUMENT;
  const Device where = device();
  if (!where.compute_capability) return NX_NO_DEVICE;
  Strategy how = strategy_of(*norm, alignment, where, workspace);
  if (how.workspace && (!workspace || workspace_bytes < how.workspace || reinterpret_cast<uintptr_t>(workspace) % 256))
    return NX_WORKSPACE;
  constexpr int64_t most = int64_t(1) << 31;  // blocks of a grid; columns are counted in 32 bits
  if (how.blocks >= most || how.args.g.groups >= most || how.args.g.columns >= most) return NX_TOO_LARGE;
  how.args.x = how.int_args.x = x;
  how.args.y = how.int_args.y = y;
  how.args.scale = how.int_args.scale = static_cast<const float*>(scale);
  how.args.bias = how.int_args.bias = static_cast<const float*>(bias);
  return status_of(compute(*norm, how, static_cast<cudaStream_t>(queue)));
}

}  // extern "C"
