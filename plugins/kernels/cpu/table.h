// What the vectorised code offers, once per instruction set, and the plain structs that it exchanges with the rest.
#pragma once

#include <cstddef>
#include <cstdint>

#include "training.h"

namespace nx::cpu {

// What a pass fetches into the cache on its way of what lies `ahead` bytes further and will be needed next. Two passes
// may share the work, so that both overlap with memory.
struct Fetch {
  ptrdiff_t ahead;                                     // bytes; 0 for nothing
  enum Share { kAll, kFirstHalf, kSecondHalf } share;  // of what lies there
};

// `rows` rows of `length` contiguous elements, `stride` elements apart.
struct Stretch {
  const void* x;   // the first element
  int64_t rows;    // how many
  int64_t length;  // elements of a row
  int64_t stride;  // elements from row to row
  Fetch fetch;     // what to fetch on the way
};

// What a kind knows beside the elements.
struct Parameters {
  int64_t chunk;   // Range: elements of a chunk
  int64_t passed;  // Range: elements of its first chunk that came before this stretch
  int64_t k;       // Top-k
};

// The widest set of lanes whose extremes Top-k keeps: four vectors of 64 bytes.
constexpr int kFloatLanes = 64, kByteLanes = 256;

// The most channels that one call of `apply` takes.
constexpr int64_t kMaxFloatChannels = 256, kMaxByteChannels = 64;

// The ends of the elements seen; empty: high < low.
struct Ends {
  double high;  // the largest
  double low;   // the smallest
};

// First pass over a part of floats.
struct FloatFirst {
  double sum;              // of x
  double spans;            // Range: the sum of high - low over the chunks that lie whole inside
  Ends head;               // Range: of what lies before the first boundary between chunks; of all where there is none
  Ends tail;               // Range: of what lies after the last boundary
  bool cut;                // Range: whether there is a boundary
  int lanes;               // how many ends there are
  Ends ends[kFloatLanes];  // Top-k: of each lane of the vectors; else one, of all
};

// The mean in two parts, each of the working precision.
struct Center {
  double high;  // the mean, rounded
  double low;   // what rounding left
  double one;   // 1, kept from the compiler
};

// Second pass over a part of floats.
struct FloatSecond {
  double sum;        // L1: of |d|, L2: of d^2; added to
  double threshold;  // Top-k: at least k elements reach it
  void* buffer;      // Top-k: every |d| above it
  int64_t count;     // Top-k: how many those are
  int64_t capacity;  // Top-k: values that the buffer holds, at least k + kFloatLanes, beside room for kFloatLanes more
  int64_t k;         // Top-k
};

// y = (x - mean) * slope + shift
struct FloatAffine {
  double mean;   // its upper half where it has two
  double slope;  // scale / (factor*statistic + epsilon)
  double shift;  // bias, less what the lower half adds
};

// First pass over a part of int8, as integers; bytes are q + 128.
struct ByteFirst {
  int64_t sum;               // of q
  int64_t squares;           // L2: of q^2
  int64_t spans;             // Range: as FloatFirst
  int head_high;             // Range: the largest byte of the head
  int head_low;              // Range: the smallest
  int tail_high;             // Range: the largest byte of the tail
  int tail_low;              // Range: the smallest
  bool cut;                  // Range: as FloatFirst
  int lanes;                 // how many ends there are
  uint8_t high[kByteLanes];  // the largest byte: of each lane for Top-k, else one, of all
  uint8_t low[kByteLanes];   // the smallest
};

// What the second pass compares bytes with.
struct ByteCenter {
  int pivot;  // L1: the integer nearest to the mean
  int other;  // L1: its neighbour, on the other side of the mean
  int high;   // Top-k: bytes from low to high are not counted
  int low;    // Top-k
};

// Second pass over a part of int8.
struct ByteSecond {
  int64_t distances;     // L1: sum of |q - pivot|
  int64_t sides;         // L1: sum of |q - other|
  uint32_t counts[256];  // Top-k: how often each byte outside low..high occurs
};

// y = ((q - pivot) + shift) * slope + bias, rounded
struct ByteAffine {
  float pivot;  // the integer nearest to the mean
  float shift;  // what the mean is off it
  float slope;  // scale / (factor*statistic + epsilon)
  float bias;   // of the channel
};

// `count` contiguous elements, each of a channel of its own.
struct Each {
  const void* x;      // the first element
  void* y;            // the same of y
  int64_t count;      // of elements
  const void* scale;  // of the first one's channel, in the working precision
  const void* bias;   // the same of bias
};

// `rows` rows of `channels` x `space` contiguous elements.
struct Rows {
  const void* x;     // the first element
  void* y;           // the same of y
  int64_t rows;      // how many
  int64_t x_stride;  // elements from row to row of x
  int64_t y_stride;  // the same of y
  int64_t channels;  // of a row
  int64_t space;     // elements of a channel
  bool stream;       // write past the caches
};

// The passes over floats of one type.
struct FloatTable {
  // Sums and ends of a part.
  void (*first)(int32_t kind, const Stretch& part, const Parameters& parameters, FloatFirst* out);
  // Deviations of a part from the mean.
  void (*second)(int32_t kind, const Stretch& part, const Center& center, FloatSecond* out);
  // y of rows, with an affine map for each of their channels.
  void (*apply)(const Rows& rows, const FloatAffine* channels);
  // y of elements that share a statistic; divisor: factor*statistic + epsilon.
  void (*each)(const Each& elements, const Center& center, double divisor);
};

// The passes over int8.
struct ByteTable {
  // Sums and ends of a part.
  void (*first)(int32_t kind, const Stretch& part, const Parameters& parameters, ByteFirst* out);
  // Distances of a part from the mean.
  void (*second)(int32_t kind, const Stretch& part, const ByteCenter& center, ByteSecond* out);
  // y of rows, with an affine map for each of their channels.
  void (*apply)(const Rows& rows, const ByteAffine* channels);
  // y of elements that share a statistic; mean: slope and bias are not read. divisor: factor*statistic + epsilon.
  void (*each)(const Each& elements, const ByteAffine& mean, float divisor);
};

// Everything that one instruction set offers.
struct Kernels {
  const char* name;          // "AVX2", ...
  FloatTable float32;        // of x and y
  FloatTable float16;        // of x and y, computed in float32
  FloatTable bfloat16;       // the same
  FloatTable float64;        // of x and y
  ByteTable int8;            // of x and y
  TrainingTable training32;  // of float32
  TrainingTable training64;  // of float64
};

// The set chosen for this process; see kernels.h, nx_cpu_target.
const Kernels& kernels();

// select.cpp. Here, and not in the vectorised code, because the standard library's algorithms must be compiled once,
// for the baseline.

// Keeps the k largest of `count` values, drops those of them that are no larger than the k-th, and raises *threshold
// to the k-th. Returns how many are left.
int64_t keep_largest(float* values, int64_t count, int64_t k, double* threshold);
int64_t keep_largest(double* values, int64_t count, int64_t k, double* threshold);

// The k-th largest of `count` >= k values, which are reordered.
float kth_largest(float* values, int64_t count, int64_t k);
double kth_largest(double* values, int64_t count, int64_t k);

// The sum of the k largest of `count` values, or of all where there are fewer: in descending order, so that a set of
// values has one sum.
double sum_of_largest(float* values, int64_t count, int64_t k);
double sum_of_largest(double* values, int64_t count, int64_t k);

}  // namespace nx::cpu
