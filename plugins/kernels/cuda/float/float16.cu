#include "cuda/float/norm.cuh"

namespace nx {

cudaError_t norm_float16(const Strategy& strategy, cudaStream_t stream) { return float_norm<__half>(strategy, stream); }

}  // namespace nx
