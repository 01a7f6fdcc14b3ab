// What every kernel of one call is told, and where it leaves its part of the statistics.
#pragma once

#include "geometry.h"
#include "normexport/kernels.h"

namespace nx {

// Range: the elements of a statistic are cut into chunks. A part is either several whole chunks, or one of several
// pieces of a chunk.
struct Chunking {
  int64_t length, count, piece;  // elements of a chunk, chunks, elements of a piece
  int64_t per_part, pieces;      // chunks in a part, pieces of a chunk: one of them is 1
  bool by_rows;                  // chunks so short that a row of threads takes a whole one
};

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

struct Task {
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

struct IntTask {
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
