#include "tensors.h"

#include <algorithm>
#include <initializer_list>
#include <set>

namespace nxtrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::TensorFormat;

int64_t space_of(const Dims& dims) {
  int64_t space = 1;
  for (int32_t i = 2; i < dims.nbDims; ++i) space *= dims.d[i];
  return space;
}

// Sizes from `least` to `most`: both ends, the powers of two between, and the neighbours of each.
std::set<int64_t> probes(int64_t least, int64_t most) {
  std::set<int64_t> found = {least, most};
  auto around = [&](int64_t size) {
    for (int64_t near = size - 17; near <= size + 17; ++near)
      if (near >= least && near <= most) found.insert(near);
  };
  around(most);
  for (int64_t power = 1; power < most; power *= 2) around(power);
  return found;
}

}  // namespace

int32_t type_of(const Operator& op, DataType type) {
  if (op.quantized) return type == DataType::kINT8 ? NX_INT8 : -1;
  switch (type) {
    case DataType::kFLOAT: return NX_FLOAT32;
    case DataType::kHALF: return NX_FLOAT16;
    case DataType::kBF16: return NX_BFLOAT16;
    default: return -1;
  }
}

int32_t layout_of(TensorFormat format, int32_t rank) {
  if (format == TensorFormat::kLINEAR) return NX_LINEAR;
  if (rank == 4) switch (format) {
      case TensorFormat::kCHW2: return NX_CHW2;
      case TensorFormat::kCHW4: return NX_CHW4;
      case TensorFormat::kCHW32: return NX_CHW32;
      case TensorFormat::kHWC: return NX_HWC;
      case TensorFormat::kHWC8: return NX_HWC8;
      case TensorFormat::kHWC16: return NX_HWC16;
      default: return -1;
    }
  if (rank == 5) switch (format) {
      case TensorFormat::kCDHW32: return NX_CHW32;
      case TensorFormat::kDHWC8: return NX_HWC8;
      case TensorFormat::kDHWC: return NX_HWC;
      default: return -1;
    }
  return -1;
}

bool norm_of(const Operator& op, const Attributes& attributes, const Dims& dims, DataType type, TensorFormat format,
             NxNorm& norm, std::string& what) {
  norm = {};
  if (dims.nbDims < 2) {
    what = "x has shape " + text(dims) + ", (N, C, ...) is needed";
    return false;
  }
  norm.kind = op.kind;
  norm.instance = op.instance;
  norm.type = type_of(op, type);
  norm.layout = layout_of(format, dims.nbDims);
  norm.batch = dims.d[0];
  norm.channels = dims.d[1];
  norm.space = space_of(dims);
  norm.k = attributes.k;
  norm.chunks = attributes.chunks;
  norm.epsilon = attributes.epsilon;
  norm.correction = attributes.correction;
  if (norm.type < 0 || norm.layout < 0) {
    what = "does not take this type or format of x";
    return false;
  }
  if (int32_t status = nx_check(&norm)) {
    what = std::string(nx_message(status)) + " (x has shape " + text(dims) + ", " + text(attributes) + ")";
    return false;
  }
  return true;
}

size_t workspace_bound(const Operator& op, const Attributes& attributes, const nvinfer1::DynamicPluginTensorDesc& x) {
  NxNorm norm;
  std::string what;
  if (!norm_of(op, attributes, x.max, x.desc.type, x.desc.format, norm, what)) return 0;
  std::set<int64_t> batches = probes(std::max<int64_t>(x.min.d[0], 1), norm.batch);
  std::set<int64_t> spaces = probes(std::max<int64_t>(space_of(x.min), 1), norm.space);
  size_t most = 0;
  for (int64_t batch : batches)
    for (int64_t space : spaces) {
      norm.batch = batch;
      norm.space = space;
      most = std::max(most, nx_cuda_workspace(&norm));
    }
  return most;
}

std::string text(const Dims& dims) {
  std::string words = "(";
  for (int32_t i = 0; i < dims.nbDims; ++i) words += (i ? ", " : "") + std::to_string(dims.d[i]);
  return words + ")";
}

}  // namespace nxtrt
