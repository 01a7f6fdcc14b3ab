#include "float_norm.h"

namespace nx {

cudaError_t norm_float16(const Plan& plan, cudaStream_t stream) { return float_norm<__half>(plan, stream); }

}  // namespace nx
