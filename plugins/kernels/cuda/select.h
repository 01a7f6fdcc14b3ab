// The k largest of many non-negative floats, by their bits: as integers they have the same order.
//
// The keys may be spread over a team of blocks: Alone is one block, ClusterTeam (onchip_topk.h) a cluster. What the
// team knows is known to all threads of all its blocks.
#pragma once

#include "reduce.h"

namespace nx {

using Count = unsigned long long;

// Shared memory of a block that selects; `threads` stands for the most threads it may have.
struct SelectSpace {
  Count* bins;       // 256
  Count* answer;     // 2
  unsigned* top;     // threads
  long long* total;  // threads
};

struct Alone {
  __device__ const Count* bins(const SelectSpace& space) const { return space.bins; }
  __device__ unsigned top(unsigned value) const { return value; }
  __device__ double sum(double value) const { return value; }
};

struct Kth {
  unsigned bits;  // of the k-th largest
  Count greater;  // keys that are larger
};

// each(f) calls f(bits) for every key of this thread; the team has at least k keys. Four rounds of eight bits, each
// counting the keys that share what is known of the k-th: counts do not depend on the order.
template <class Each, class Team>
__device__ inline Kth kth_largest(Each each, Count k, const SelectSpace& space, const Team& team) {
  unsigned known = 0;
  Count left = k;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (unsigned b = threadIdx.x; b < 256; b += blockDim.x) space.bins[b] = 0;
    __syncthreads();
    each([&](unsigned bits) {
      if (shift == 24 || bits >> (shift + 8) == known) atomicAdd(&space.bins[bits >> shift & 255], Count(1));
    });
    __syncthreads();
    const Count* bins = team.bins(space);
    for (unsigned b = threadIdx.x; b < 256; b += blockDim.x) {
      Count above = 0, here = bins[b];
      for (unsigned higher = b + 1; higher < 256; ++higher) above += bins[higher];
      if (above < left && left <= above + here) space.answer[0] = b, space.answer[1] = above;
    }
    __syncthreads();
    known = known << 8 | unsigned(space.answer[0]);
    left -= space.answer[1];
  }
  return {known, k - left};
}

// Sum of the keys above `limit`, at most k of them. Fixed point under the largest key, so that no order of adding
// changes a bit; the 2^61 / k steps of a key are finer than float32's.
template <class Each, class Team>
__device__ inline double sum_above(Each each, unsigned limit, Count k, const SelectSpace& space, const Team& team) {
  unsigned top = 0;
  each([&](unsigned bits) { top = bits > top ? bits : top; });
  top = team.top(reduce_all(top, space.top, Greatest()));
  int room = 61;
  while (k >> (61 - room)) --room;
  double unit = ldexp(1., room - (int(top >> 23) - 126));
  long long sum = 0;
  each([&](unsigned bits) {
    if (bits > limit) sum += llrint(double(__uint_as_float(bits)) * unit);
  });
  return team.sum(double(reduce_all(sum, space.total, Plus())) / unit);
}

// Sum of the k largest keys.
template <class Each, class Team>
__device__ inline double sum_of_largest(Each each, Count k, const SelectSpace& space, const Team& team) {
  Kth kth = kth_largest(each, k, space, team);
  return sum_above(each, kth.bits, k, space, team) + double(k - kth.greater) * double(__uint_as_float(kth.bits));
}

}  // namespace nx
