// What the CPU and the CUDA side must agree on before any kernel runs: sizes, factors, validity. Host code.
#pragma once

#include <cstdint>

#include "normexport/kernels.h"

namespace nx {

// n: elements that one statistic reduces.
inline int64_t reduced_elements(const NxNorm& norm) {
  if (norm.num_groups) return norm.channels / norm.num_groups * norm.space;
  return norm.instance ? norm.space : norm.batch * norm.space;
}

// Statistics that one call computes: channels, samples times channels, or samples times groups.
inline int64_t groups(const NxNorm& norm) {
  if (norm.num_groups) return norm.batch * norm.num_groups;
  return norm.instance ? norm.batch * norm.channels : norm.channels;
}

inline bool is_empty(const NxNorm& norm) { return norm.batch == 0 || norm.channels == 0 || norm.space == 0; }

// Lanes v of a layout (kernels.h): how many channels stand side by side. channels: C.
int64_t lanes(int32_t layout, int64_t channels);

// Elements of one sample, padding lanes included.
int64_t sample_elements(const NxNorm& norm);

// Bytes of one element of x; 0 for an unknown type.
int64_t element_size(int32_t type);

// How Range cuts a statistic.
struct Chunks {
  int64_t length;  // elements of a chunk, the last one possibly shorter
  int64_t count;   // of chunks
};

// Range: the chunks of n elements.
Chunks chunk_layout(int64_t n, int64_t chunks);

// What the plain statistic is multiplied with: the correction, or the kind's own constant.
double factor(const NxNorm& norm);

}  // namespace nx
