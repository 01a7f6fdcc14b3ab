// int8: kernels that read x and leave integer sums, extremes and counts. Four elements per instruction: dp4a adds,
// vmaxs4 and vmins4 compare, vabsdiffs4 measures the distance from the pivot.
//
// One: every lane of a vector belongs to the same channel, one sum per thread will do. Otherwise each lane has its own.
#pragma once

#include "centre.h"

namespace nx {

constexpr unsigned kOnes = 0x01010101u, kLowest = 0x80808080u, kHighest = 0x7f7f7f7fu;

template <int W>
using Bytes = Raw<signed char, W>;

template <int W>
__host__ __device__ constexpr int words_of() { return W < 4 ? 1 : W / 4; }

template <int W>
__device__ inline void words(Bytes<W> raw, unsigned (&word)[words_of<W>()]) {
  if constexpr (W == 1)
    word[0] = raw;  // three bytes of zeros beside it
  else
    to_words(raw, word);
}

__device__ inline int byte_of(unsigned word, int i) { return int(int8_t(word >> 8 * i)); }

// A byte in all lanes of its channel -> the words that stand beside a vector's.
template <int W>
__device__ inline void pack_lanes(const int (&lane)[W], unsigned (&word)[words_of<W>()]) {
#pragma unroll
  for (int i = 0; i < words_of<W>(); ++i) word[i] = 0;
#pragma unroll
  for (int j = 0; j < W; ++j) word[j / 4] |= (unsigned(lane[j]) & 255u) << 8 * (j % 4);
}

// A sum per lane, or one for all lanes.
template <int W, bool One>
struct IntSums {
  static constexpr int kCount = One ? 1 : W;
  int sum[kCount];

  __device__ IntSums() {
#pragma unroll
    for (int j = 0; j < kCount; ++j) sum[j] = 0;
  }
  // Adds the signed bytes of word i of a vector.
  __device__ void add(unsigned word, int i) {
    if (One) {
      sum[0] = __dp4a(int(word), int(kOnes), sum[0]);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) sum[(4 * i + j) % kCount] = __dp4a(int(word), 1 << 8 * j, sum[(4 * i + j) % kCount]);
    }
  }
  // Adds the unsigned bytes.
  __device__ void add_unsigned(unsigned word, int i) {
    if (One) {
      sum[0] = int(__dp4a(word, kOnes, unsigned(sum[0])));
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        sum[(4 * i + j) % kCount] = int(__dp4a(word, 1u << 8 * j, unsigned(sum[(4 * i + j) % kCount])));
    }
  }
  // Adds the squares of the signed bytes.
  __device__ void add_squares(unsigned word, int i) {
    if (One) {
      sum[0] = __dp4a(int(word), int(word), sum[0]);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        sum[(4 * i + j) % kCount] = __dp4a(int(word), int(word & 255u << 8 * j), sum[(4 * i + j) % kCount]);
    }
  }
  // Moves the sums to wider ones.
  __device__ void flush(long long (&wide)[kCount]) {
#pragma unroll
    for (int j = 0; j < kCount; ++j) wide[j] += sum[j], sum[j] = 0;
  }
};

// Merges over the block; thread t < tile*held gets channel t.
template <int W, bool One, class V>
__device__ inline long long tally(const Geometry& g, const V (&sum)[One ? 1 : W], long long* slots) {
  long long lane[One ? 1 : W];
#pragma unroll
  for (int j = 0; j < (One ? 1 : W); ++j) lane[j] = sum[j];
  return reduce_tile<long long, One ? 1 : W>(lane, g.held, g.tile, slots, Plus());
}

// The largest (the smallest) byte of each lane, packed.
template <int W>
struct IntExtremes {
  unsigned high[words_of<W>()], low[words_of<W>()];

  __device__ IntExtremes() { forget(); }
  __device__ void forget() {
#pragma unroll
    for (int i = 0; i < words_of<W>(); ++i) high[i] = kLowest, low[i] = kHighest;
  }
  __device__ void see(unsigned word, int i) { see(word, word, i); }
  __device__ void see(unsigned upper, unsigned lower, int i) {
    high[i] = __vmaxs4(high[i], upper), low[i] = __vmins4(low[i], lower);
  }
  __device__ void unpack(int (&top)[W], int (&bottom)[W]) const {
#pragma unroll
    for (int j = 0; j < W; ++j) top[j] = byte_of(high[j / 4], j % 4), bottom[j] = byte_of(low[j / 4], j % 4);
  }
  __device__ void merge(const Geometry& g, int* slots, int& top, int& bottom) const {
    int tops[W], bottoms[W];
    unpack(tops, bottoms);
    top = reduce_tile<int, W>(tops, g.held, g.tile, slots, Greatest());
    bottom = reduce_tile<int, W>(bottoms, g.held, g.tile, slots, Least());
  }
};

// The block's place, and the walk of this thread through its rows: what every int8 kernel begins with.
template <int W, int kFlight = 4, class Visit, class Flush>
__device__ inline void for_part(const Geometry& g, const void* x, const Place& place, Visit visit, Flush flush) {
  Seat seat = seat_of(g);
  Column column = column_of(g, place, seat.tx);
  if (!column.exists) return;
  Span span = part_rows(g, place.part);
  int64_t first = span.low + seat.ty, start = column.offset + place.sample * g.x_stride;
  for_rows<Bytes<W>, kFlight>(static_cast<const signed char*>(x), walk_of(g, g.x_stride, start, first, seat.stride),
                     visits(first, span.high, seat.stride), visit, flush);
}

enum class Look { kSum, kExtremes, kSquares };

// First phase: the sum of q; with it its extremes (Linf) or the sum of squares (L2: all it needs).
template <int W, bool One, Look look>
__global__ void __launch_bounds__(kThreads, 2) int_first_kernel(IntTask task) {
  NX_SHARED(long long, slots, reduce_slots(W));
  const Geometry& g = task.g;
  Place place = place_of(g, blockIdx.x);
  IntSums<W, One> sums, squares;
  IntExtremes<W> extremes;
  long long wide[IntSums<W, One>::kCount] = {};
  for_part<W>(
      g, task.x, place,
      [&](Bytes<W> raw, int64_t) {
        unsigned word[words_of<W>()];
        words<W>(raw, word);
#pragma unroll
        for (int i = 0; i < words_of<W>(); ++i) {
          sums.add(word[i], i);
          if (look == Look::kExtremes) extremes.see(word[i], i);
          if (look == Look::kSquares) squares.add_squares(word[i], i);
        }
      },
      [&] {
        if (look == Look::kSquares) squares.flush(wide);
      });

  Group group = group_of(g, place, int(threadIdx.x) & (g.tile * g.held - 1));
  bool writes = threadIdx.x < unsigned(g.tile * g.held) && group.exists;
  int64_t out = place.part * g.groups + group.index;
  long long sum = tally<W, One>(g, sums.sum, slots);
  if (writes) task.tally.sum[out] = sum;
  if constexpr (look == Look::kSquares) {
    long long size = tally<W, One>(g, wide, slots);
    if (writes) task.tally.size[out] = size;
  }
  if constexpr (look == Look::kExtremes) {
    int top, bottom;
    extremes.merge(g, reinterpret_cast<int*>(slots), top, bottom);
    if (writes) task.tally.high[out] = top, task.tally.low[out] = bottom;
  }
}

// The mean of n integers as kernels.h has it: p = rint(S/n), e = n*p - S.
struct IntMean {
  int p;
  long long e;
};

__device__ inline IntMean int_mean(long long sum, long long n) {
  IntMean mean;
  mean.p = int(rint(__ddiv_rn(double(sum), double(n))));
  mean.e = n * mean.p - sum;
  return mean;
}

// Second phase of L1: distances from the pivot p, and how many elements lie above it and on it.
template <int W, bool One>
__global__ void __launch_bounds__(kThreads, W == 16 && !One ? 1 : 2) int_second_kernel(IntTask task) {
  NX_SHARED(long long, slots, W == 1 ? kThreads : reduce_slots(W));  // of both reductions
  NX_SHARED(float, shared, kGroups);
  const Geometry& g = task.g;
  Place place = place_of(g, blockIdx.x);
  long long sum = merge_parts(g, place, task.tally.sum, 0ll, slots, Plus());
  float lanes[W];
  int pivots[W];
  unsigned pivot[words_of<W>()];
  share<W>(g, float(int_mean(sum, task.n).p), lanes, shared);
#pragma unroll
  for (int j = 0; j < W; ++j) pivots[j] = int(lanes[j]);
  pack_lanes<W>(pivots, pivot);

  constexpr unsigned counted = W == 1 ? 1u : kOnes;  // the bytes that are elements
  IntSums<W, One> size, above, level;
  for_part<W, W == 16 && !One ? 2 : 4>(  // 48 sums per thread leave few registers
      g, task.x, place,
      [&](Bytes<W> raw, int64_t) {
        unsigned word[words_of<W>()];
        words<W>(raw, word);
#pragma unroll
        for (int i = 0; i < words_of<W>(); ++i) {
          size.add_unsigned(__vabsdiffs4(word[i], pivot[i]), i);
          above.add(__vcmpgts4(word[i], pivot[i]) & counted, i);
          level.add(__vcmpeq4(word[i], pivot[i]) & counted, i);
        }
      },
      [] {});

  Group group = group_of(g, place, int(threadIdx.x) & (g.tile * g.held - 1));
  bool writes = threadIdx.x < unsigned(g.tile * g.held) && group.exists;
  int64_t out = place.part * g.groups + group.index;
  long long all = tally<W, One>(g, size.sum, slots);
  if (writes) task.tally.size[out] = all;
  all = tally<W, One>(g, above.sum, slots);
  if (writes) task.tally.above[out] = all;
  all = tally<W, One>(g, level.sum, slots);
  if (writes) task.tally.level[out] = all;
}

}  // namespace nx
