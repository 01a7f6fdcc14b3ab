// The k largest of many non-negative floats, by their bits: as integers they have the same order.
//
// The keys may be spread over a team of blocks: Alone is one block, ClusterTeam (float/onchip_topk.cuh) a cluster. What
// the team knows is known to all threads of all its blocks.
#pragma once

#include "cuda/block/reduce.cuh"

namespace nx {

using Count = unsigned long long;

// Shared memory of a block that selects; `threads` stands for the most threads it may have. Bin: what counts its keys.
template <class Bin>
struct SelectSpace {
  Bin* bins;         // [256]
  Bin* answer;       // [2]: a bin, and how many keys lie above it
  unsigned* top;     // [threads]
  long long* total;  // [threads]
};

struct Alone {
  template <class Bin>
  __device__ const Bin* bins(const SelectSpace<Bin>& space) const {
    return space.bins;
  }
  __device__ unsigned top(unsigned value) const { return value; }
  __device__ double sum(double value) const { return value; }
};

struct Kth {
  unsigned bits;  // of the k-th largest
  Count greater;  // keys that are larger
};

// One warp: the bin that the `left`-th largest key is in, and how many keys lie in the bins above it.
template <class Bin>
__device__ inline void find_bin(const Bin* bins, Count left, Bin* answer) {
  constexpr int kOwn = 256 / 32;
  const int lane = int(threadIdx.x);
  Bin own[kOwn], sum = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) sum += own[i] = bins[lane * kOwn + i];
  Bin above = sum;  // of this lane and all higher ones
#pragma unroll
  for (int apart = 1; apart < 32; apart *= 2) {
    Bin higher = __shfl_down_sync(0xffffffffu, above, unsigned(apart));
    if (lane + apart < 32) above += higher;
  }
  above -= sum;
#pragma unroll
  for (int i = kOwn - 1; i >= 0; --i) {
    if (above < left && left <= above + own[i]) {
      answer[0] = Bin(lane * kOwn + i);
      answer[1] = above;
    }
    above += own[i];
  }
}

// each(f) calls f(bits) for every key of this thread; the team has at least k keys. Four rounds of eight bits, each
// counting the keys that share what is known of the k-th: counts do not depend on the order.
template <class Each, class Bin, class Team>
__device__ inline Kth kth_largest(Each each, Count k, const SelectSpace<Bin>& space, const Team& team) {
  unsigned known = 0;
  Count left = k;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (unsigned b = threadIdx.x; b < 256; b += blockDim.x) space.bins[b] = 0;
    __syncthreads();
    each([&](unsigned bits) {
      if (shift == 24 || bits >> (shift + 8) == known) atomicAdd(&space.bins[bits >> shift & 255], Bin(1));
    });
    __syncthreads();
    const Bin* bins = team.bins(space);
    if (threadIdx.x < 32) find_bin(bins, left, space.answer);
    __syncthreads();
    known = known << 8 | unsigned(space.answer[0]);
    left -= space.answer[1];
  }
  return {known, k - left};
}

// Sum of the keys above `limit`, at most k of them. Fixed point under the largest key, so that no order of adding
// changes a bit; the 2^61 / k steps of a key are finer than float32's.
template <class Each, class Bin, class Team>
__device__ inline double sum_above(Each each, unsigned limit, Count k, const SelectSpace<Bin>& space,
                                   const Team& team) {
  unsigned top = 0;
  each([&](unsigned bits) { top = bits > top ? bits : top; });
  top = team.top(reduce_all(top, space.top, Greatest()));
  int room = 61;
  while (k >> (61 - room)) --room;
  const double unit = ldexp(1., room - (int(top >> 23) - 126));
  long long sum = 0;
  each([&](unsigned bits) {
    if (bits > limit) sum += llrint(double(__uint_as_float(bits)) * unit);
  });
  return team.sum(double(reduce_all(sum, space.total, Plus())) / unit);
}

// Sum of the k largest keys.
template <class Each, class Bin, class Team>
__device__ inline double sum_of_largest(Each each, Count k, const SelectSpace<Bin>& space, const Team& team) {
  const Kth kth = kth_largest(each, k, space, team);
  return sum_above(each, kth.bits, k, space, team) + double(k - kth.greater) * double(__uint_as_float(kth.bits));
}

}  // namespace nx
