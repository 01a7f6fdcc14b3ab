#include "norm.h"

#include <algorithm>
#include <cmath>

namespace nx {
namespace {

constexpr double kPi = 3.14159265358979323846;

double extreme_constant(int64_t n) {
  return (1 + std::sqrt(kPi * std::log(4.0))) / std::sqrt(8 * std::log(double(std::max<int64_t>(n, 2))));
}

bool is_enumerator(int32_t value, int32_t last) { return value >= 0 && value <= last; }

// Whether the product of non-negative sizes stays within 2^62.
bool fits(int64_t a, int64_t b, int64_t c) {
  constexpr int64_t limit = int64_t(1) << 62;
  if (a && b > limit / a) return false;
  int64_t ab = a * b;
  return !(ab && c > limit / ab);
}

}  // namespace

int64_t lanes(int32_t layout, int64_t channels) {
  switch (layout) {
    case NX_CHW2: return 2;
    case NX_CHW4: return 4;
    case NX_CHW32: return 32;
    case NX_HWC: return std::max<int64_t>(channels, 1);
    case NX_HWC8: return std::max<int64_t>((channels + 7) / 8 * 8, 8);
    case NX_HWC16: return std::max<int64_t>((channels + 15) / 16 * 16, 16);
    default: return 1;
  }
}

int64_t sample_elements(const NxNorm& norm) {
  int64_t v = lanes(norm.layout, norm.channels);
  return (norm.channels + v - 1) / v * v * norm.space;
}

int64_t element_size(int32_t type) {
  switch (type) {
    case NX_FLOAT32: return 4;
    case NX_FLOAT16:
    case NX_BFLOAT16: return 2;
    case NX_INT8: return 1;
    case NX_FLOAT64: return 8;
    default: return 0;
  }
}

Chunks chunk_layout(int64_t n, int64_t chunks) {
  int64_t length = std::max<int64_t>(2, n / chunks + (n % chunks != 0));
  return {length, std::max<int64_t>(1, n / length + (n % length != 0))};
}

double factor(const NxNorm& norm) {
  if (norm.correction != 0) return norm.correction;
  switch (norm.kind) {
    case NX_L1: return std::sqrt(kPi / 2);
    case NX_RANGE: return 0.35 * extreme_constant(chunk_layout(reduced_elements(norm), norm.chunks).length);
    case NX_L2: return 1;
    default: return extreme_constant(reduced_elements(norm));
  }
}

}  // namespace nx

extern "C" {

int32_t nx_abi_version(void) { return NX_ABI_VERSION; }

const char* nx_message(int32_t status) {
  switch (status) {
    case NX_OK: return "good";
    case NX_BAD_ARGUMENT: return "a pointer is null, a size negative, a stride too short or an enumerator unknown";
    case NX_BAD_K: return "Top-k needs 1 <= k <= elements reduced per channel; choose a smaller k or a larger input";
    case NX_BAD_CHUNKS: return "Range needs chunks >= 1";
    case NX_UNSUPPORTED: return "this back end has no kernel for that type and layout; use LINEAR, or another type";
    case NX_WORKSPACE: return "the workspace is null, smaller than the queried size or not aligned to 256 bytes";
    case NX_TOO_LARGE: return "the tensor is too large: int8 takes fewer than 2^31 elements per statistic";
    case NX_NO_DEVICE: return "no usable CUDA device: check the driver and that this build covers the GPU";
    case NX_LAUNCH: return "CUDA refused the launch; cudaGetLastError says why";
    case NX_BAD_GROUPS: return "num_groups must divide the channels, and stands beside no instance flag";
    default: return "unknown status";
  }
}

int32_t nx_check(const NxNorm* norm) {
  using namespace nx;
  if (!norm || !is_enumerator(norm->kind, NX_L2) || !is_enumerator(norm->type, NX_FLOAT64) ||
      !is_enumerator(norm->layout, NX_HWC16) || !is_enumerator(norm->instance, 1) || norm->batch < 0 ||
      norm->channels < 0 || norm->space < 0 || norm->x_stride < 0 || norm->y_stride < 0 || norm->num_groups < 0)
    return NX_BAD_ARGUMENT;
  if (norm->num_groups && (norm->instance || norm->channels % norm->num_groups)) return NX_BAD_GROUPS;
  if (norm->num_groups && norm->layout != NX_LINEAR) return NX_UNSUPPORTED;
  if (norm->kind == NX_RANGE && norm->chunks < 1) return NX_BAD_CHUNKS;
  if (norm->kind == NX_TOPK && norm->k < 1) return NX_BAD_K;
  if (is_empty(*norm)) return NX_OK;
  if (norm->channels > (int64_t(1) << 61) || !fits(norm->batch, norm->channels + 31, norm->space)) return NX_TOO_LARGE;
  int64_t sample = sample_elements(*norm);
  if ((norm->x_stride && norm->x_stride < sample) || (norm->y_stride && norm->y_stride < sample))
    return NX_BAD_ARGUMENT;
  if (!fits(norm->batch, norm->x_stride, 1) || !fits(norm->batch, norm->y_stride, 1)) return NX_TOO_LARGE;
  if (norm->kind == NX_TOPK && norm->k > reduced_elements(*norm)) return NX_BAD_K;
  if (norm->type == NX_INT8 && reduced_elements(*norm) >= (int64_t(1) << 31)) return NX_TOO_LARGE;
  return NX_OK;
}

int64_t nx_elements(const NxNorm* norm) {
  return !norm || nx::is_empty(*norm) ? 0 : norm->batch * nx::sample_elements(*norm);
}

}  // extern "C"
