// The operators as ONNX Runtime sees them: names, types, provider.
#pragma once

#include <onnxruntime_c_api.h>

#include <string>
#include <vector>

#include "normexport/kernels.h"

namespace nxort {

enum class Provider { kCpu, kCuda };

// Statistics over batch and space, over space, or over space and groups of channels.
enum class Scope { kBatch, kInstance, kGroup };

// One operator for one combination of types; ONNX Runtime merges those of one name into one schema.
struct NormOp : OrtCustomOp {
  NormOp(NxKind kind, Scope scope, NxType type, ONNXTensorElementDataType parameter, Provider provider);

  std::string name;                     // L1BatchNorm, QTopKInstanceNorm, ...
  NxKind kind;                          // L1, ...
  Scope scope;                          // what the statistics are taken over
  NxType type;                          // of X and Y
  ONNXTensorElementDataType parameter;  // of scale and bias
  Provider provider;                    // where it runs
};

// Every operator that this library offers; made once, never destroyed. api: serves shape inference.
const std::vector<NormOp>& norm_ops(const OrtApi& api);

}  // namespace nxort
