#include "norm_op.h"

#include "norm_kernel.h"
#include "status.h"

namespace nxort {
namespace {

constexpr ONNXTensorElementDataType kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr ONNXTensorElementDataType kDouble = ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;

const NormOp& self(const OrtCustomOp* op) { return *static_cast<const NormOp*>(op); }

const char* title(NxKind kind) {
  switch (kind) {
    case NX_L1: return "L1";
    case NX_LINF: return "Linf";
    case NX_TOPK: return "TopK";
    case NX_RANGE: return "Range";
    default: return "L2";
  }
}

const char* title(Scope scope) {
  switch (scope) {
    case Scope::kBatch: return "BatchNorm";
    case Scope::kInstance: return "InstanceNorm";
    default: return "GroupNorm";
  }
}

ONNXTensorElementDataType element_type(NxType type) {
  switch (type) {
    case NX_FLOAT32: return kFloat;
    case NX_FLOAT16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case NX_BFLOAT16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case NX_INT8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    default: return kDouble;
  }
}

OrtStatus* create_kernel(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
  return guarded(*api, [&] { *kernel = new NormKernel(self(op), *api, *info); });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  auto& norm = *static_cast<NormKernel*>(kernel);
  return guarded(norm.api(), [&] { norm.compute(*context); });
}

const OrtApi* session_api = nullptr;  // for shape inference, which is handed none

OrtStatus* infer_shape(const OrtCustomOp*, OrtShapeInferContext* context) {
  OrtTensorTypeAndShapeInfo* x = nullptr;  // belongs to the context
  if (OrtStatus* status = session_api->ShapeInferContext_GetInputTypeShape(context, 0, &x)) return status;
  return session_api->ShapeInferContext_SetOutputTypeShape(context, 0, x);
}

// Y may take the place of X: kernels.h allows it, and it saves the memory and the writes of a tensor.
size_t may_replace(int** input, int** output) {
  *input = new int[1]{0};
  *output = new int[1]{0};
  return 1;
}

void release_pair(int* input, int* output) {
  delete[] input;
  delete[] output;
}

template <typename Visit>
void for_each_norm(Visit visit) {
  for (NxKind kind : {NX_L1, NX_LINF, NX_TOPK, NX_RANGE, NX_L2})
    for (Scope scope : {Scope::kBatch, Scope::kInstance, Scope::kGroup}) visit(kind, scope);
}

std::vector<NormOp> make_ops() {
  std::vector<NormOp> ops;
  for_each_norm([&](NxKind kind, Scope scope) {
    // Once the library is registered, a type that is missing here is an error: the bodies no longer serve it.
    for (NxType type : {NX_FLOAT32, NX_FLOAT16, NX_BFLOAT16, NX_FLOAT64})
      for (ONNXTensorElementDataType parameter : {kFloat, kDouble})
        ops.emplace_back(kind, scope, type, parameter, Provider::kCpu);
    ops.emplace_back(kind, scope, NX_INT8, kFloat, Provider::kCpu);
#ifdef NORMEXPORT_WITH_CUDA
    // What is missing here, ONNX Runtime places on the CPU.
    if (scope == Scope::kGroup) return;
    for (NxType type : {NX_FLOAT32, NX_FLOAT16, NX_BFLOAT16, NX_INT8})
      ops.emplace_back(kind, scope, type, kFloat, Provider::kCuda);
#endif
  });
  return ops;
}

}  // namespace

NormOp::NormOp(NxKind kind, Scope scope, NxType type, ONNXTensorElementDataType parameter, Provider provider)
    : OrtCustomOp{},
      name(std::string(type == NX_INT8 ? "Q" : "") + title(kind) + title(scope)),
      kind(kind),
      scope(scope),
      type(type),
      parameter(parameter),
      provider(provider) {
  version = ORT_API_VERSION;
  GetName = [](const OrtCustomOp* op) { return self(op).name.c_str(); };
  GetExecutionProviderType = [](const OrtCustomOp* op) -> const char* {
    return self(op).provider == Provider::kCuda ? "CUDAExecutionProvider" : nullptr;
  };
  GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 3; };
  GetInputType = [](const OrtCustomOp* op, size_t index) {
    return index ? self(op).parameter : element_type(self(op).type);
  };
  GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  GetOutputType = [](const OrtCustomOp* op, size_t) { return element_type(self(op).type); };
  GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  GetStartVersion = [](const OrtCustomOp*) { return 1; };
  GetEndVersion = [](const OrtCustomOp*) { return 1; };
  GetMayInplace = may_replace;
  ReleaseMayInplace = release_pair;
  GetAliasMap = [](int** input, int** output) -> size_t {
    *input = *output = nullptr;
    return 0;
  };
  ReleaseAliasMap = release_pair;
  CreateKernelV2 = create_kernel;
  KernelComputeV2 = nxort::compute;
  KernelDestroy = [](void* kernel) { delete static_cast<NormKernel*>(kernel); };
  InferOutputShapeFn = infer_shape;
}

const std::vector<NormOp>& norm_ops(const OrtApi& api) {
  session_api = &api;
  static const auto* ops = new std::vector<NormOp>(make_ops());
  return *ops;
}

}  // namespace nxort
