// What every kernel of one int8 call is told, and where it leaves its part of the statistics.
#pragma once

#include "cuda/memory/chunking.h"
#include "cuda/memory/geometry.cuh"
#include "normexport/kernels.h"

namespace nx {

// Everything that a statistic is made of is an integer. [part][group] unless said otherwise.
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
  long long sum;  // S
  long long e;    // n*p - S: what the pivot is off, n times
  int p;          // the pivot, the nearest integer
};

// y = ((q - p) + offset)*a + bias.
struct IntLine {
  int p;         // the pivot
  float offset;  // e/n
  float a;       // scale / (factor*statistic + epsilon)
  float bias;    // of the channel
};

// What a kernel on bytes is called with.
struct IntArgs {
  Geometry g;          // where elements lie
  Geometry single;     // Top-k counts column by column: its own tiles and parts
  const void* x;       // [N][Cb][space][v], see NxLayout
  void* y;             // the same
  const float* scale;  // [channel]
  const float* bias;   // [channel]
  long long n;         // elements of a statistic
  long long k;         // Top-k: how many deviations are averaged
  float factor;        // what the plain statistic is multiplied with
  float epsilon;       // is added to it
  int32_t kind;        // NxKind
  int32_t slices;      // threads that merge the parts of a statistic
  Chunking chunking;   // Range
  Tallies tally;       // what the parts leave
  IntMean* mean;       // [group]
  IntLine* line;       // [group]
};

}  // namespace nx
