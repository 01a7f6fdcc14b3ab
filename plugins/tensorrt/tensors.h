// From TensorRT's descriptors to the kernels' NxNorm: types, formats and dimensions.
#pragma once

#include <NvInferRuntime.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "attributes.h"
#include "normexport/kernels.h"
#include "operators.h"

namespace nxtrt {

// NxType of the data an operator computes in, -1 for types it does not take.
int32_t type_of(const Operator& op, nvinfer1::DataType type);

// NxLayout of a format for tensors of this rank, -1 where the kernels have no address formula for it: a vectorised
// format puts one certain dimension into its vectors, and only where that is the channels it is a layout of ours.
int32_t layout_of(nvinfer1::TensorFormat format, int32_t rank);

// The norm of x with these dimensions, (N, C, *space); `what` receives the reason where there is none.
bool norm_of(const Operator& op, const Attributes& attributes, const nvinfer1::Dims& dims, nvinfer1::DataType type,
             nvinfer1::TensorFormat format, NxNorm& norm, std::string& what);

// Bytes that suffice for every shape of a profile. A smaller tensor may need more than the largest one, for how it is
// cut into blocks follows its size; so sizes all over the profile are asked for.
size_t workspace_bound(const Operator& op, const Attributes& attributes, const nvinfer1::DynamicPluginTensorDesc& x);

// "(8, 64, 56, 56)".
std::string text(const nvinfer1::Dims& dims);

}  // namespace nxtrt
