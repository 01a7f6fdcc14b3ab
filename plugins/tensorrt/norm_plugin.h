// One live norm as a TensorRT plugin: core, build and runtime in one object. It translates; the kernels compute.
#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <vector>

#include "attributes.h"
#include "operators.h"

namespace nxtrt {

// Inputs x (N, C, ...), scale (C) and bias (C), both float32; output y like x.
class NormPlugin final : public nvinfer1::IPluginV3,
                         public nvinfer1::IPluginV3OneCore,
                         public nvinfer1::IPluginV3OneBuild,
                         public nvinfer1::IPluginV3OneRuntime {
 public:
  NormPlugin(const Operator& op, const Attributes& attributes, std::string node);

  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  // IPluginV3OneCore
  const char* getPluginName() const noexcept override { return op_.name; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  // IPluginV3OneBuild
  int32_t getNbOutputs() const noexcept override { return 1; }
  int32_t getOutputDataTypes(nvinfer1::DataType* output, int32_t outputs, const nvinfer1::DataType* input,
                             int32_t inputs) const noexcept override;
  int32_t getOutputShapes(const nvinfer1::DimsExprs* input, int32_t inputs, const nvinfer1::DimsExprs* shape_input,
                          int32_t shape_inputs, nvinfer1::DimsExprs* output, int32_t outputs,
                          nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensor, int32_t inputs,
                                 int32_t outputs) noexcept override;
  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* input, int32_t inputs,
                          const nvinfer1::DynamicPluginTensorDesc* output, int32_t outputs) noexcept override;
  size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* input, int32_t inputs,
                          const nvinfer1::DynamicPluginTensorDesc* output, int32_t outputs) const noexcept override;
  const char* getTimingCacheID() noexcept override { return identity_.c_str(); }
  const char* getMetadataString() noexcept override { return identity_.c_str(); }

  // IPluginV3OneRuntime
  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* input, int32_t inputs,
                        const nvinfer1::PluginTensorDesc* output, int32_t outputs) noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* input_desc, const nvinfer1::PluginTensorDesc* output_desc,
                  const void* const* inputs, void* const* outputs, void* workspace,
                  cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
  // Says what is wrong, and returns TensorRT's failure.
  int32_t refuse(const std::string& words) const noexcept;

  const Operator& op_;
  Attributes attributes_;
  std::string node_;
  std::string identity_;  // operator and attributes: one tactic's time serves all that share it
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection serialized_ = {};
};

}  // namespace nxtrt
