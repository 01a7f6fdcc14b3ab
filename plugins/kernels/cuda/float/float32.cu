#include "cuda/float/norm.cuh"

namespace nx {

cudaError_t norm_float32(const Strategy& strategy, cudaStream_t stream) { return float_norm<float>(strategy, stream); }

}  // namespace nx
