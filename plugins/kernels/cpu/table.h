// What the vectorised code offers, once per instruction set, and the plain structs that it exchanges with the rest.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nx::cpu {

// What a pass fetches into the cache on its way of what lies `ahead` bytes further and will be needed next. Two passes
// may share the work, so that both overlap with memory.
struct Fetch {
  ptrdiff_t ahead;  // 0 for nothing
  enum Share { kAll, kFirstHalf, kSecondHalf } share;
};

// `rows` rows of `length` contiguous elements, `stride` elements apart.
struct Stretch {
  const void* x;
  int64_t rows, length, stride;
  Fetch fetch;
};

// Of Range: the length of a chunk, and how many elements of its first chunk came before this stretch. Of Top-k: k.
struct Parameters {
  int64_t chunk, passed, k;
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

// The mean in two parts, high + low, each of the working precision. one: 1, kept from the compiler.
struct Center {
  double high, low, one;
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
  bool stream;
};

struct FloatTable {
  void (*first)(int32_t kind, const Stretch& part, const Parameters& parameters, FloatFirst* out);
  void (*second)(int32_t kind, const Stretch& part, const Center& center, FloatSecond* out);
  void (*apply)(const Rows& rows, const FloatAffine* channels);
};

struct ByteTable {
  void (*first)(int32_t kind, const Stretch& part, const Parameters& parameters, ByteFirst* out);
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
