#include "float_norm.h"

namespace nx {

cudaError_t norm_float32(const Plan& plan, cudaStream_t stream) { return float_norm<float>(plan, stream); }

}  // namespace nx
