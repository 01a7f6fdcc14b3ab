// The operators as ONNX Runtime sees them: names, types, provider.
#pragma once

#include <onnxruntime_c_api.h>

#include <string>
#include <vector>

#include "normexport/kernels.h"

namespace nxort {

enum class Provider { kCpu, kCuda };

// One operator for one combination of types; ONNX Runtime merges those of one name into one schema.
struct NormOp : OrtCustomOp {
  NormOp(NxKind kind, bool instance, NxType type, ONNXTensorElementDataType parameter, Provider provider);

  std::string name;                     // L1BatchNorm, QTopKInstanceNorm, ...
  NxKind kind;                          // L1, ...
  bool instance;                        // statistics per sample
  NxType type;                          // of X and Y
  ONNXTensorElementDataType parameter;  // of scale and bias
  Provider provider;                    // where it runs
};

// Every operator that this library offers; made once, never destroyed. api: serves shape inference.
const std::vector<NormOp>& norm_ops(const OrtApi& api);

}  // namespace nxort
