#include "norm_kernel.h"

#include "status.h"

namespace nxort {
namespace {

// Defaults of the operators' attributes.
constexpr float kEpsilon = 1e-5f;
constexpr int64_t kK = 10, kChunks = 16, kNumGroups = 1;

std::string words_of(const std::vector<int64_t>& shape) {
  std::string words = "(";
  for (size_t i = 0; i < shape.size(); ++i) words += (i ? ", " : "") + std::to_string(shape[i]);
  return words + ")";
}

std::string node_name(const OrtApi& api, const OrtKernelInfo& info) {
  size_t size = 0;
  check(api, api.KernelInfo_GetNodeName(&info, nullptr, &size));
  std::string name(size, '\0');
  check(api, api.KernelInfo_GetNodeName(&info, name.data(), &size));
  name.resize(size ? size - 1 : 0);  // the size counts the zero at the end
  return name;
}

// Whether the attribute was given; ONNX Runtime reports one that is absent as a failure.
bool given(const OrtApi& api, OrtStatus* status) {
  if (status) api.ReleaseStatus(status);
  return !status;
}

}  // namespace

NormKernel::NormKernel(const NormOp& op, const OrtApi& api, const OrtKernelInfo& info)
    : op_(op), api_(api), node_(node_name(api, info)) {
  norm_.kind = op.kind;
  norm_.type = op.type;
  norm_.layout = NX_LINEAR;
  norm_.instance = op.scope == Scope::kInstance;
  norm_.epsilon = float_attribute(info, "epsilon", kEpsilon);
  norm_.correction = float_attribute(info, "correction", 0);
  norm_.k = integer_attribute(info, "k", kK);
  norm_.chunks = integer_attribute(info, "chunks", kChunks);
  if (op.scope == Scope::kGroup) {
    norm_.num_groups = integer_attribute(info, "num_groups", kNumGroups);
    if (norm_.num_groups < 1) fail("num_groups = " + std::to_string(norm_.num_groups) + "; choose at least 1");
  }
  require(nx_check(&norm_));  // empty as yet: what fails now fails for every input
  check(api_, api_.KernelInfoGetAllocator(&info, OrtMemTypeDefault, &allocator_));
}

NormKernel::~NormKernel() {
  if (allocator_) api_.ReleaseAllocator(allocator_);
}

void NormKernel::fail(const std::string& cause) const {
  throw Failure(ORT_INVALID_ARGUMENT, "normexport: node '" + node_ + "' (" + op_.name + "): " + cause);
}

void NormKernel::require(int32_t status) const {
  if (status != NX_OK) fail(nx_message(status));
}

float NormKernel::float_attribute(const OrtKernelInfo& info, const char* name, float otherwise) const {
  float value = 0;
  return given(api_, api_.KernelInfoGetAttribute_float(&info, name, &value)) ? value : otherwise;
}

int64_t NormKernel::integer_attribute(const OrtKernelInfo& info, const char* name, int64_t otherwise) const {
  int64_t value = 0;
  return given(api_, api_.KernelInfoGetAttribute_int64(&info, name, &value)) ? value : otherwise;
}

NormKernel::Tensor NormKernel::input(const OrtKernelContext& context, size_t index) const {
  const OrtValue* value = nullptr;
  check(api_, api_.KernelContext_GetInput(&context, index, &value));
  Tensor tensor{};
  check(api_, api_.GetTensorMutableData(const_cast<OrtValue*>(value), &tensor.data));
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api_, api_.GetTensorTypeAndShape(value, &info));
  size_t rank = 0;
  OrtStatus* status = api_.GetDimensionsCount(info, &rank);
  if (!status) {
    tensor.shape.resize(rank);
    status = api_.GetDimensions(info, tensor.shape.data(), rank);
  }
  api_.ReleaseTensorTypeAndShapeInfo(info);
  check(api_, status);
  return tensor;
}

NxNorm NormKernel::shaped(const std::vector<int64_t>& x) const {
  if (x.size() < 2) fail("X has shape " + words_of(x) + ", expected (N, C, ...)");
  NxNorm norm = norm_;
  norm.batch = x[0];
  norm.channels = x[1];
  norm.space = 1;
  for (size_t i = 2; i < x.size(); ++i) norm.space *= x[i];
  int32_t status = nx_check(&norm);
  if (status == NX_BAD_K) {
    int64_t n = norm.num_groups ? norm.channels / norm.num_groups * norm.space
                : norm.instance ? norm.space
                                : norm.batch * norm.space;
    fail("k = " + std::to_string(norm.k) + " of only " + std::to_string(n) + " elements reduced; " +
         nx_message(status));
  }
  if (status == NX_BAD_GROUPS)
    fail(std::to_string(norm.channels) +
         " channels can't be shared out among num_groups = " + std::to_string(norm.num_groups));
  require(status);
  return norm;
}

void NormKernel::compute(OrtKernelContext& context) const {
  Tensor x = input(context, 0), scale = input(context, 1), bias = input(context, 2);
  NxNorm norm = shaped(x.shape);
  for (auto [name, tensor] : {std::pair{"scale", &scale}, std::pair{"bias", &bias}})
    if (tensor->shape != std::vector<int64_t>{norm.channels})
      fail(std::string(name) + " has shape " + words_of(tensor->shape) + ", expected (" +
           std::to_string(norm.channels) + ") as X has shape " + words_of(x.shape));
  OrtValue* output = nullptr;
  check(api_, api_.KernelContext_GetOutput(&context, 0, x.shape.data(), x.shape.size(), &output));
  void* y = nullptr;
  check(api_, api_.GetTensorMutableData(output, &y));
  if (nx_elements(&norm) == 0) return;
  if (op_.provider == Provider::kCuda)
    run_cuda(context, norm, x, scale, bias, y);
  else
    run_cpu(context, norm, x, scale, bias, y);
}

}  // namespace nxort
