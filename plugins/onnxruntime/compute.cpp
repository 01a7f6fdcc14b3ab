// The calls into the kernels: parameters in the kernels' precision, workspace, and ONNX Runtime's threads or stream.

#include <cstdint>

#include "norm_kernel.h"
#include "status.h"

namespace nxort {
namespace {

constexpr size_t kAlignment = 256;  // what the kernels ask of a workspace

// A workspace from ONNX Runtime's allocator, which promises less alignment than the kernels want.
class Workspace {
 public:
  Workspace(const OrtApi& api, OrtAllocator* allocator, size_t bytes) : api_(api), allocator_(allocator) {
    if (!bytes) return;
    check(api_, api_.AllocatorAlloc(allocator_, bytes + kAlignment, &block_));
    auto address = reinterpret_cast<uintptr_t>(block_);
    data_ = reinterpret_cast<void*>((address + kAlignment - 1) / kAlignment * kAlignment);
  }
  ~Workspace() {
    if (block_)
      if (OrtStatus* status = api_.AllocatorFree(allocator_, block_)) api_.ReleaseStatus(status);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  void* data() const { return data_; }

 private:
  const OrtApi& api_;
  OrtAllocator* allocator_;
  void* block_ = nullptr;
  void* data_ = nullptr;
};

template <typename From, typename To>
const void* converted_to(const void* from, size_t count, std::vector<double>& room) {
  room.resize(count);  // bytes enough for either type
  auto* to = reinterpret_cast<To*>(room.data());
  for (size_t i = 0; i < count; ++i) to[i] = static_cast<To>(static_cast<const From*>(from)[i]);
  return to;
}

}  // namespace

// scale or bias in the precision that the kernels take: float64 beside float64 tensors, else float32.
const void* NormKernel::parameter(const Tensor& given, std::vector<double>& room) const {
  bool is_double = op_.parameter == ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
  bool wants_double = op_.type == NX_FLOAT64;
  if (is_double == wants_double) return given.data;
  auto count = static_cast<size_t>(given.shape[0]);
  return is_double ? converted_to<double, float>(given.data, count, room)
                   : converted_to<float, double>(given.data, count, room);
}

void NormKernel::run_cpu(OrtKernelContext& context, const NxNorm& norm, const Tensor& x, const Tensor& scale,
                         const Tensor& bias, void* y) const {
  std::vector<double> scale_room, bias_room;
  size_t bytes = nx_cpu_workspace(&norm);
  Workspace workspace(api_, allocator_, bytes);
  Pool pool(api_, context, pool_size_);
  require(nx_cpu_norm(&norm, x.data, parameter(scale, scale_room), parameter(bias, bias_room), y, workspace.data(),
                      bytes, pool.threads()));
}

#ifdef NORMEXPORT_WITH_CUDA
void NormKernel::run_cuda(OrtKernelContext& context, const NxNorm& norm, const Tensor& x, const Tensor& scale,
                          const Tensor& bias, void* y) const {
  void* stream = nullptr;
  check(api_, api_.KernelContext_GetGPUComputeStream(&context, &stream));
  size_t bytes = nx_cuda_workspace(&norm);
  // Handed back while the kernels are still queued: whoever gets it next is queued on the same stream.
  Workspace workspace(api_, allocator_, bytes);
  require(nx_cuda_norm(&norm, x.data, scale.data, bias.data, y, workspace.data(), bytes, stream));
}
#else
void NormKernel::run_cuda(OrtKernelContext&, const NxNorm&, const Tensor&, const Tensor&, const Tensor&, void*) const {
  fail("this build has no CUDA kernels; run: normexport plugins build --cuda");
}
#endif

}  // namespace nxort
