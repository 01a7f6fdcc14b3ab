#include "float_norm.h"

namespace nx {

cudaError_t norm_bfloat16(const Plan& plan, cudaStream_t stream) { return float_norm<__nv_bfloat16>(plan, stream); }

}  // namespace nx
