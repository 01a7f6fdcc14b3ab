// The k largest of many non-negative floats, by their bits: as integers they have the same order.
#pragma once

#include "reduce.h"

namespace nx {

using Count = unsigned long long;

// Shared memory of a block that selects.
struct SelectSpace {
  Count* bins;      // 256
  Count* answer;    // 2
  unsigned* top;    // kThreads
  long long* total;  // kThreads
};

struct Kth {
  unsigned bits;  // of the k-th largest
  Count greater;  // keys that are larger
};

// each(f) calls f(bits) for every key of this thread; the block has 256 threads and at least k keys. Four rounds of
// eight bits, each counting the keys that share what is known of the k-th: counts do not depend on the order.
template <class Each>
__device__ inline Kth kth_largest(Each each, Count k, const SelectSpace& space) {
  unsigned known = 0;
  Count left = k;
  unsigned t = threadIdx.x;
  for (int shift = 24; shift >= 0; shift -= 8) {
    space.bins[t] = 0;
    __syncthreads();
    each([&](unsigned bits) {
      if (shift == 24 || bits >> (shift + 8) == known) atomicAdd(&space.bins[bits >> shift & 255], Count(1));
    });
    __syncthreads();
    Count above = 0, here = space.bins[t];
    for (unsigned b = t + 1; b < 256; ++b) above += space.bins[b];
    if (above < left && left <= above + here) space.answer[0] = t, space.answer[1] = above;
    __syncthreads();
    known = known << 8 | unsigned(space.answer[0]);
    left -= space.answer[1];
  }
  return {known, k - left};
}

// Sum of the keys above `limit`, at most k of them, known to all threads. Fixed point under the largest key, so that
// no order of adding changes a bit; the 2^61 / k steps of a key are finer than float32's.
template <class Each>
__device__ inline double sum_above(Each each, unsigned limit, Count k, const SelectSpace& space) {
  unsigned top = 0;
  each([&](unsigned bits) { top = bits > top ? bits : top; });
  top = reduce_all(top, space.top, Greatest());
  int room = 61;
  while (k >> (61 - room)) --room;
  double unit = ldexp(1., room - (int(top >> 23) - 126));
  long long sum = 0;
  each([&](unsigned bits) {
    if (bits > limit) sum += llrint(double(__uint_as_float(bits)) * unit);
  });
  return double(reduce_all(sum, space.total, Plus())) / unit;
}

}  // namespace nx
