// What every kernel of one int8 call is told, and where it leaves its part of the statistics.
#pragma once

#include "cuda/memory/chunking.h"
#include "cuda/memory/geometry.cuh"
#include "normexport/kernels.h"

namespace nx {

// int8: everything that a statistic is made of is an integer. [part][group] unless said otherwise.
struct Tallies {
  long long* sum;    // of q
  long long* high;   // the largest q; Range: see Chunking
  long long* low;    // the smallest q
  long long* size;   // sum of |q - p|, or of q^2 for L2
  long long* above;  // elements q > p
  long long* level;  // elements q = p
  unsigned* bins;    // Top-k: histograms [part][group][256], null where one part makes a statistic
};

// The mean of n integers of sum S as kernels.h has it: p = rint(S/n), e = n*p - S.
struct IntMean {
  long long sum, e;
  int p;
};

// y = ((q - p) + offset)*a + bias.
struct IntLine {
  int p;
  float offset, a, bias;
};

struct IntArgs {
  Geometry g;
  Geometry single;  // Top-k counts column by column: its own tiles and parts
  const void* x;
  void* y;
  const float* scale;
  const float* bias;
  long long n, k;
  float factor, epsilon;
  int32_t kind, slices;
  Chunking chunking;
  Tallies tally;
  IntMean* mean;  // [group]
  IntLine* line;  // [group]
};

}  // namespace nx
