#include "norm_plugin.h"

#include <algorithm>
#include <new>
#include <utility>

#include "log.h"
#include "normexport/kernels.h"
#include "tensors.h"

namespace nxtrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr int32_t kInputs = 3, kOutputs = 1;
constexpr int32_t kX = 0, kScale = 1, kBias = 2, kY = 3;  // positions in a format combination
constexpr int32_t kFailed = 1;

bool is_vector(const nvinfer1::Dims& dims, int64_t channels) { return dims.nbDims == 1 && dims.d[0] == channels; }

bool same(const nvinfer1::Dims& a, const nvinfer1::Dims& b) {
  return a.nbDims == b.nbDims && std::equal(a.d, a.d + a.nbDims, b.d);
}

}  // namespace

NormPlugin::NormPlugin(const Operator& op, const Attributes& attributes, std::string node)
    : op_(op), attributes_(attributes), node_(std::move(node)), identity_(op.name + (":" + text(attributes))) {}

int32_t NormPlugin::refuse(const std::string& words) const noexcept {
  error(op_.name, node_, words);
  return kFailed;
}

nvinfer1::IPluginCapability* NormPlugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

nvinfer1::IPluginV3* NormPlugin::clone() noexcept {
  try {
    return new NormPlugin(op_, attributes_, node_);
  } catch (const std::exception& error) {
    refuse(error.what());
    return nullptr;
  }
}

int32_t NormPlugin::getOutputDataTypes(DataType* output, int32_t outputs, const DataType* input,
                                       int32_t inputs) const noexcept {
  if (inputs != kInputs || outputs != kOutputs) return refuse("takes x, scale and bias, and gives y");
  if (input[kScale] != DataType::kFLOAT || input[kBias] != DataType::kFLOAT)
    return refuse("scale and bias must be float32");
  if (type_of(op_, input[kX]) < 0)
    return refuse(op_.quantized ? "x must be int8" : "x must be float32, float16 or bfloat16");
  output[0] = input[kX];
  return 0;
}

int32_t NormPlugin::getOutputShapes(const nvinfer1::DimsExprs* input, int32_t inputs, const nvinfer1::DimsExprs*,
                                    int32_t, nvinfer1::DimsExprs* output, int32_t outputs,
                                    nvinfer1::IExprBuilder&) noexcept {
  if (inputs != kInputs || outputs != kOutputs) return refuse("takes x, scale and bias, and gives y");
  if (input[kX].nbDims < 2) return refuse("x must be (N, C, ...)");
  if (input[kScale].nbDims != 1 || input[kBias].nbDims != 1) return refuse("scale and bias must be vectors (C)");
  output[0] = input[kX];
  return 0;
}

bool NormPlugin::supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensor, int32_t inputs,
                                           int32_t outputs) noexcept {
  if (inputs != kInputs || outputs != kOutputs) return false;
  const PluginTensorDesc& asked = tensor[position].desc;
  if (position == kScale || position == kBias)
    return asked.type == DataType::kFLOAT && asked.format == TensorFormat::kLINEAR;
  if (position == kY) return asked.type == tensor[kX].desc.type && asked.format == tensor[kX].desc.format;
  return type_of(op_, asked.type) >= 0 && layout_of(asked.format, asked.dims.nbDims) >= 0;
}

int32_t NormPlugin::configurePlugin(const DynamicPluginTensorDesc* input, int32_t inputs,
                                    const DynamicPluginTensorDesc* output, int32_t outputs) noexcept {
  try {
    if (inputs != kInputs || outputs != kOutputs) return refuse("takes x, scale and bias, and gives y");
    NxNorm norm;
    std::string what;
    const PluginTensorDesc& x = input[kX].desc;
    if (!norm_of(op_, attributes_, input[kX].max, x.type, x.format, norm, what)) return refuse(what);
    size_t needed = getWorkspaceSize(input, inputs, output, outputs);
    attributes_.workspace = std::max(attributes_.workspace, static_cast<int64_t>(needed));
    return 0;
  } catch (const std::exception& error) {
    return refuse(error.what());
  }
}

size_t NormPlugin::getWorkspaceSize(const DynamicPluginTensorDesc* input, int32_t, const DynamicPluginTensorDesc*,
                                    int32_t) const noexcept {
  try {
    return workspace_bound(op_, attributes_, input[kX]);
  } catch (const std::exception& error) {
    refuse(error.what());
    return 0;
  }
}

int32_t NormPlugin::onShapeChange(const PluginTensorDesc* input, int32_t inputs, const PluginTensorDesc* output,
                                  int32_t outputs) noexcept {
  try {
    if (inputs != kInputs || outputs != kOutputs) return refuse("takes x, scale and bias, and gives y");
    NxNorm norm;
    std::string what;
    if (!norm_of(op_, attributes_, input[kX].dims, input[kX].type, input[kX].format, norm, what)) return refuse(what);
    if (!is_vector(input[kScale].dims, norm.channels) || !is_vector(input[kBias].dims, norm.channels))
      return refuse("scale " + text(input[kScale].dims) + " and bias " + text(input[kBias].dims) +
                    " must have the channels of x " + text(input[kX].dims));
    if (!same(output[0].dims, input[kX].dims) || output[0].type != input[kX].type ||
        output[0].format != input[kX].format)
      return refuse("y must be like x");
    size_t needed = nx_cuda_workspace(&norm);
    if (attributes_.workspace >= 0 && needed > static_cast<size_t>(attributes_.workspace))
      return refuse("x " + text(input[kX].dims) + " needs " + std::to_string(needed) +
                    " bytes of workspace, the plan has " + std::to_string(attributes_.workspace) +
                    ": build it with this shape in its profile");
    return 0;
  } catch (const std::exception& error) {
    return refuse(error.what());
  }
}

int32_t NormPlugin::enqueue(const PluginTensorDesc* input_desc, const PluginTensorDesc*, const void* const* inputs,
                            void* const* outputs, void* workspace, cudaStream_t stream) noexcept {
  try {
    NxNorm norm;
    std::string what;
    const PluginTensorDesc& x = input_desc[kX];
    if (!norm_of(op_, attributes_, x.dims, x.type, x.format, norm, what)) return refuse(what);
    size_t bytes = nx_cuda_workspace(&norm);
    int32_t status =
        nx_cuda_norm(&norm, inputs[kX], inputs[kScale], inputs[kBias], outputs[0], workspace, bytes, stream);
    return status == NX_OK ? 0 : refuse(nx_message(status));
  } catch (const std::exception& error) {
    return refuse(error.what());
  }
}

nvinfer1::IPluginV3* NormPlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept { return clone(); }

const nvinfer1::PluginFieldCollection* NormPlugin::getFieldsToSerialize() noexcept {
  try {
    fields_ = fields_of(attributes_);
    serialized_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
    return &serialized_;
  } catch (const std::exception& error) {
    refuse(error.what());
    return nullptr;
  }
}

}  // namespace nxtrt
