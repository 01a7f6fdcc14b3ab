#include "cuda/float/norm.cuh"

namespace nx {

cudaError_t norm_bfloat16(const Strategy& strategy, cudaStream_t stream) {
  return float_norm<__nv_bfloat16>(strategy, stream);
}

}  // namespace nx
