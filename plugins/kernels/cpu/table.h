// What the vectorised code offers, once per instruction set, and the plain structs that it exchanges with the rest.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nx::cpu {

// `rows` rows of `length` contiguous elements, `stride` elements apart. Bytes `ahead` of them lies what will be needed
// next: it is fetched into the cache on the way; 0 for nothing.
struct Stretch {
  const void* x;
  int64_t rows, length, stride;
  ptrdiff_t ahead;
};

// Of Range: the length of a chunk, and how many elements of its first chunk came before this stretch.
struct ChunkPhase {
  int64_t length, passed;
};

// The widest set of lanes whose extremes Top-k keeps: four vectors of 64 bytes.
constexpr int kFloatLanes = 64, kByteLanes = 256;

// The most channels that one call of `apply` takes.
constexpr int64_t kMaxFloatChannels = 256, kMaxByteChannels = 64;

// The ends of the elements seen; empty: high < low.
struct Ends {
  double high, low;
};

// First pass over a part of floats. ends: `lanes` of them; one per lane of the vectors for Top-k, else of all.
// Range: `head` are the ends before the first boundary between chunks, `spans` the sum of high - low over the chunks
// that lie whole inside, `tail` the ends after the last boundary; all is head where no boundary was met (`cut` false).
struct FloatFirst {
  double sum, spans;
  Ends head, tail;
  bool cut;
  int lanes;
  Ends ends[kFloatLanes];
};

// The mean in two parts, high + low, each of the working precision.
struct Center {
  double high, low;
};

// Second pass. L1: sum of |d|, L2: of d^2, added to. Top-k: every |d| > threshold is in the buffer, `count` of them,
// and at least k elements are >= threshold. The buffer holds `capacity` >= k + kFloatLanes values and room for
// kFloatLanes more.
struct FloatSecond {
  double sum, threshold;
  void* buffer;
  int64_t count, capacity, k;
};

// y = (x - mean) * slope + shift
struct FloatAffine {
  double mean, slope, shift;
};

// The same of int8, as integers; bytes are q + 128. spans, head and tail as above.
struct ByteFirst {
  int64_t sum, squares, spans;
  int head_high, head_low, tail_high, tail_low;
  bool cut;
  int lanes;
  uint8_t high[kByteLanes], low[kByteLanes];
};

// L1: distances = sum |q - pivot|, sides = sum |q - other|. Top-k: how often each byte outside low..high occurs.
struct ByteCenter {
  int pivot, other, high, low;
};
struct ByteSecond {
  int64_t distances, sides;
  uint32_t counts[256];
};

// y = ((q - pivot) + shift) * slope + bias, rounded
struct ByteAffine {
  float pivot, shift, slope, bias;
};

// `rows` rows of `channels` x `space` contiguous elements. stream: write past the caches.
struct Rows {
  const void* x;
  void* y;
  int64_t rows, x_stride, y_stride, channels, space;
  ptrdiff_t ahead;
  bool stream;
};

struct FloatTable {
  void (*first)(int32_t kind, const Stretch& part, const ChunkPhase& chunk, FloatFirst* out);
  void (*second)(int32_t kind, const Stretch& part, const Center& center, FloatSecond* out);
  void (*apply)(const Rows& rows, const FloatAffine* channels);
};

struct ByteTable {
  void (*first)(int32_t kind, const Stretch& part, const ChunkPhase& chunk, ByteFirst* out);
  void (*second)(int32_t kind, const Stretch& part, const ByteCenter& center, ByteSecond* out);
  void (*apply)(const Rows& rows, const ByteAffine* channels);
};

struct Kernels {
  const char* name;
  FloatTable float32, float16, bfloat16, float64;
  ByteTable int8;
};

// The set chosen for this process; see kernels.h, nx_cpu_target.
const Kernels& kernels();

// Keeps the k largest of `count` values, drops those of them that are no larger than the k-th, and raises *threshold
// to the k-th. Here, because std::nth_element must be compiled once, for the baseline.
int64_t keep_largest(float* values, int64_t count, int64_t k, double* threshold);
int64_t keep_largest(double* values, int64_t count, int64_t k, double* threshold);

}  // namespace nx::cpu
