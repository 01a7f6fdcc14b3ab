// int8: kernels that read x and leave integer sums, extremes and counts. Four elements per instruction: dp4a adds,
// vmaxs4 and vmins4 compare, vabsdiffs4 measures the distance from the pivot.
//
// One: every lane of a vector belongs to the same channel, one sum per thread will do. Otherwise each lane has its own.
#pragma once

#include "cuda/block/group.cuh"
#include "cuda/block/reduce.cuh"
#include "cuda/int8/args.h"
#include "cuda/memory/element.cuh"

namespace nx {

constexpr unsigned kOnes = 0x01010101u, kLowest = 0x80808080u, kHighest = 0x7f7f7f7fu;

template <int W>
using Bytes = Raw<signed char, W>;

template <int W>
__host__ __device__ constexpr int word_count() {
  return W < 4 ? 1 : W / 4;
}

template <int W>
__device__ inline void byte_words(Bytes<W> raw, unsigned (&word)[word_count<W>()]) {
  if constexpr (W == 1)
    word[0] = raw;  // three bytes of zeros beside it
  else
    to_words(raw, word);
}

__device__ inline int byte_of(unsigned word, int i) { return int(int8_t(word >> 8 * i)); }

// A byte in all lanes of its channel -> the words that stand beside a vector's.
template <int W>
__device__ inline void pack_lanes(const int (&lane)[W], unsigned (&word)[word_count<W>()]) {
#pragma unroll
  for (int i = 0; i < word_count<W>(); ++i) word[i] = 0;
#pragma unroll
  for (int j = 0; j < W; ++j) word[j / 4] |= (unsigned(lane[j]) & 255u) << 8 * (j % 4);
}

// A sum per lane, or one for all lanes.
template <int W, bool One>
struct IntSums {
  static constexpr int kCount = One ? 1 : W;
  int sum[kCount];  // of each lane

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
    for (int j = 0; j < kCount; ++j) {
      wide[j] += sum[j];
      sum[j] = 0;
    }
  }
};

// Leaves the sums of all warps; a barrier, and take reads them.
template <int Count, class V>
__device__ inline void put_sums(const Geometry& g, const V (&sum)[Count], long long* slots) {
  long long lane[Count];
#pragma unroll
  for (int j = 0; j < Count; ++j) lane[j] = sum[j];
  merge<Count>(lane, g.held, g.tile, Plus());
  put<Count>(lane, g.held, g.tile, slots);
}

// The largest (the smallest) byte of each lane, packed.
template <int W>
struct IntExtremes {
  unsigned high[word_count<W>()];  // the largest bytes
  unsigned low[word_count<W>()];   // the smallest

  __device__ IntExtremes() { forget(); }
  __device__ void forget() {
#pragma unroll
    for (int i = 0; i < word_count<W>(); ++i) {
      high[i] = kLowest;
      low[i] = kHighest;
    }
  }
  __device__ void see(unsigned word, int i) { see(word, word, i); }
  __device__ void see(unsigned upper, unsigned lower, int i) {
    high[i] = __vmaxs4(high[i], upper);
    low[i] = __vmins4(low[i], lower);
  }
  __device__ void unpack(int (&top)[W], int (&bottom)[W]) const {
#pragma unroll
    for (int j = 0; j < W; ++j) {
      top[j] = byte_of(high[j / 4], j % 4);
      bottom[j] = byte_of(low[j / 4], j % 4);
    }
  }
  // Leaves both, of all warps; a barrier, and take reads them.
  __device__ void put_extremes(const Geometry& g, int* tops, int* bottoms) const {
    int top[W], bottom[W];
    unpack(top, bottom);
    merge<W>(top, g.held, g.tile, Greatest());
    merge<W>(bottom, g.held, g.tile, Least());
    put<W>(top, g.held, g.tile, tops);
    put<W>(bottom, g.held, g.tile, bottoms);
  }
};

// The rows of this thread, four vectors in flight.
template <int W, int kFlight = 4, class Visit, class Flush>
__device__ inline void for_part(const Geometry& g, const void* x, const Place& place, Visit visit, Flush flush) {
  const Seat seat = seat_of(g);
  const Column column = column_of(g, place, seat.tx);
  if (!column.exists) return;
  const Span span = part_rows(g, place.part);
  const int64_t first = span.low + seat.ty, start = column.offset + place.sample * g.x_stride;
  for_rows<Bytes<W>, kFlight>(static_cast<const signed char*>(x), walk_of(g, g.x_stride, start, first, seat.stride),
                              count_visits(first, span.high, seat.stride), visit, flush);
}

enum class Look { kSum, kExtremes, kSquares };

// First phase: the sum of q; with it its extremes (Linf) or the sum of squares (L2: all it needs).
template <int W, bool Single, Look look>
__global__ void __launch_bounds__(kThreads, 2) int_sums(IntArgs args) {
  constexpr bool kOne = Single || W == 1;
  constexpr int kSlots = reduce_slots(Single ? 1 : W);
  NX_SHARED(long long, slots, look == Look::kSum ? kSlots : 2 * kSlots);
  const Geometry g = specialise<W, Single>(args.g);
  const Place place = place_of(g, blockIdx.x);
  IntSums<W, kOne> sums, squares;
  IntExtremes<W> extremes;
  long long wide[IntSums<W, kOne>::kCount] = {};
  for_part<W>(
      g, args.x, place,
      [&](Bytes<W> raw, int64_t) {
        unsigned word[word_count<W>()];
        byte_words<W>(raw, word);
#pragma unroll
        for (int i = 0; i < word_count<W>(); ++i) {
          sums.add(word[i], i);
          if (look == Look::kExtremes) extremes.see(word[i], i);
          if (look == Look::kSquares) squares.add_squares(word[i], i);
        }
      },
      [&] {
        if (look == Look::kSquares) squares.flush(wide);
      });

  put_sums(g, sums.sum, slots);
  int* tops = reinterpret_cast<int*>(slots + kSlots);
  if constexpr (look == Look::kSquares) put_sums(g, wide, slots + kSlots);
  if constexpr (look == Look::kExtremes) extremes.put_extremes(g, tops, tops + kSlots);
  __syncthreads();
  const int groups = g.tile * g.held;
  const Group group = group_of(g, place, int(threadIdx.x) & (groups - 1));
  if (int(threadIdx.x) >= groups || !group.exists) return;
  const int64_t out = place.part * g.groups + group.index;
  args.tally.sum[out] = take<long long>(groups, slots, Plus());
  if constexpr (look == Look::kSquares) args.tally.size[out] = take<long long>(groups, slots + kSlots, Plus());
  if constexpr (look == Look::kExtremes) {
    args.tally.high[out] = take<int>(groups, tops, Greatest());
    args.tally.low[out] = take<int>(groups, tops + kSlots, Least());
  }
}

__device__ inline IntMean int_mean(long long sum, long long n) {
  const int p = int(rint(__ddiv_rn(double(sum), double(n))));
  return {sum, n * p - sum, p};
}

// Second phase of L1: distances from the pivot p, and how many elements lie above it and on it.
template <int W, bool Single>
__global__ void __launch_bounds__(kThreads, W == 16 && !Single ? 1 : 2) int_deviations(IntArgs args) {
  constexpr bool kOne = Single || W == 1;
  constexpr int kSlots = reduce_slots(Single ? 1 : W);
  NX_SHARED(long long, slots, kSlots);
  NX_SHARED(int, shared, Single ? 1 : kGroups);
  const Geometry g = specialise<W, Single>(args.g);
  const Place place = place_of(g, blockIdx.x);
  const int groups = g.tile * g.held;
  const Group group = group_of(g, place, int(threadIdx.x) & (groups - 1));
  publish(g, group.exists ? args.mean[group.index].p : 0, shared);
  int pivots[W];
  unsigned pivot[word_count<W>()];
#pragma unroll
  for (int j = 0; j < W; ++j) pivots[j] = shared[local_of(g, j)];
  pack_lanes<W>(pivots, pivot);

  constexpr unsigned counted = W == 1 ? 1u : kOnes;  // the bytes that are elements
  IntSums<W, kOne> size, above, level;
  for_part<W, W == 16 && !kOne ? 2 : 4>(  // 48 sums per thread leave few registers
      g, args.x, place,
      [&](Bytes<W> raw, int64_t) {
        unsigned word[word_count<W>()];
        byte_words<W>(raw, word);
#pragma unroll
        for (int i = 0; i < word_count<W>(); ++i) {
          size.add_unsigned(__vabsdiffs4(word[i], pivot[i]), i);
          above.add(__vcmpgts4(word[i], pivot[i]) & counted, i);
          level.add(__vcmpeq4(word[i], pivot[i]) & counted, i);
        }
      },
      [] {});

  const int64_t out = place.part * g.groups + group.index;
  const bool writes = int(threadIdx.x) < groups && group.exists;
  const auto leave = [&](const auto& sums, long long* to) {
    __syncthreads();  // the slots may still be read
    put_sums(g, sums, slots);
    __syncthreads();
    if (writes) to[out] = take<long long>(groups, slots, Plus());
  };
  leave(size.sum, args.tally.size);
  leave(above.sum, args.tally.above);
  leave(level.sum, args.tally.level);
}

}  // namespace nx
