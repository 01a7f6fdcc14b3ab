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

// Top-k: extremes of many stretches of x bound the k-th largest |x - mean| from below; what lies beyond the bound is
// collected, in any order.
struct Selection {
  float* high;                // [slot][group] the largest x of a stretch
  float* low;                 // [slot][group] the smallest
  int64_t slots;              // stretches per statistic
  int64_t capacity;           // candidates that fit
  int64_t k;                  // how many deviations are averaged
  float* threshold;           // [group] at most the k-th largest |x - mean|
  unsigned long long* found;  // [group] elements beyond the threshold; more than `capacity` did not fit
  float* candidate;           // [group][capacity] their |x - mean|
};

// y = (x - m)*a + b of one channel; where m, the mean rounded to float32, is off, b makes up for it.
struct Line {
  float m;  // near the mean
  float a;  // scale / (factor*statistic + epsilon)
  float b;  // bias, and what makes up for m
};

// What a kernel on floats is called with.
struct FloatArgs {
  Geometry g;           // where elements lie
  const void* x;        // [N][Cb][space][v], see NxLayout
  void* y;              // the same
  const float* scale;   // [channel]
  const float* bias;    // [channel]
  double n;             // elements of a statistic
  double factor;        // what the plain statistic is multiplied with
  float epsilon;        // is added to it
  int32_t kind;         // NxKind
  int32_t slices;       // threads that merge the parts of a statistic
  Chunking chunking;    // Range
  Partials partial;     // all but Top-k, which has the sum alone
  Selection selection;  // Top-k
  double* mean;         // [group]
  Line* line;           // [group]
};

}  // namespace nx
