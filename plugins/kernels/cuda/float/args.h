// What every kernel of one call on floats is told, and where it leaves its part of the statistics.
#pragma once

#include "cuda/memory/chunking.h"
#include "cuda/memory/geometry.cuh"
#include "normexport/kernels.h"

namespace nx {

// Per part and statistic, [part][group]; merged in a fixed order.
struct Partials {
  double* sum;     // of x
  float* high;     // the largest x; Range: see Chunking
  float* low;      // the smallest x
  double* drift;   // sum of x - mean: what rounding left
  double* spread;  // sum of |x - mean| or its square
};

// Top-k: extremes of many stretches of x, [slot][group], bound the k-th largest |x - mean| from below; what lies beyond
// the bound is collected, in any order.
struct Selection {
  float* high;
  float* low;
  int64_t slots;     // stretches per statistic
  int64_t capacity;  // candidates that fit
  int64_t k;
  float* threshold;           // [group] at most the k-th largest |x - mean|
  unsigned long long* found;  // [group] elements beyond the threshold; more than `capacity` did not fit
  float* candidate;           // [group][capacity] their |x - mean|
};

// y = (x - m)*a + b of one channel; where m, the mean rounded to float32, is off, b makes up for it.
struct Line {
  float m, a, b;
};

struct FloatArgs {
  Geometry g;
  const void* x;
  void* y;
  const float* scale;
  const float* bias;
  double n, factor;
  float epsilon;
  int32_t kind;
  int32_t slices;  // threads that merge the parts of a statistic
  Chunking chunking;
  Partials partial;
  Selection selection;
  double* mean;  // [group]
  Line* line;    // [group]
};

}  // namespace nx
