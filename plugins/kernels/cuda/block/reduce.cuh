// Sums, maxima and minima over a block, always in the same order.
#pragma once

#include "cuda/memory/device.cuh"

namespace nx {

constexpr float kInfinity = __builtin_huge_valf();

struct Plus {
  template <class V>
  __device__ V operator()(V a, V b) const {
    return a + b;
  }
};
struct Greatest {
  template <class V>
  __device__ V operator()(V a, V b) const {
    return a > b ? a : b;
  }
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Least {
  template <class V>
  __device__ V operator()(V a, V b) const {
    return a < b ? a : b;
  }
  __device__ float operator()(float a, float b) const { return fminf(a, b); }
};

// Lanes j of a vector that hold the same channel, j % held, become one: lanes 0 .. held-1. Recursive, because loops
// whose bounds depend on each other are not unrolled, and the lanes would end up in local memory.
template <int W, int Half = W / 2, class V, class Op>
__device__ inline void merge_lanes(V (&lane)[W], int held, Op op) {
  if constexpr (Half > 0) {
    if (Half >= held) {
#pragma unroll
      for (int j = 0; j < Half; ++j) lane[j] = op(lane[j], lane[j + Half]);
    }
    merge_lanes<W, Half / 2>(lane, held, op);
  }
}

// Threads of a warp at the same column of the tile, down to `stop` lanes apart (stop = tile: all of them).
template <int W, class V, class Op>
__device__ inline void merge_warp(V (&lane)[W], int held, int stop, Op op) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2)
    if (apart >= stop) {
#pragma unroll
      for (int j = 0; j < W; ++j)
        if (j < held) lane[j] = op(lane[j], __shfl_xor_sync(0xffffffffu, lane[j], apart));
    }
}

// Lanes and threads of a warp at once: what is left is one value per warp and channel of the tile.
template <int W, class V, class Op>
__device__ inline void merge(V (&lane)[W], int held, int tile, Op op) {
  merge_lanes<W>(lane, held, op);
  merge_warp<W>(lane, held, tile, op);
}

// Elements of shared memory that the values of all warps need.
__host__ __device__ constexpr int reduce_slots(int lanes, int warps = 8) { return warps * 16 * lanes; }

// Leaves what merge made. A barrier, and take reads it; another barrier, and the slots may be used again.
template <int W, class V>
__device__ inline void put(const V (&lane)[W], int held, int tile, V* slots) {
  const int t = int(threadIdx.x);
  if (t % 32 < tile) {
#pragma unroll
    for (int j = 0; j < W; ++j)
      if (j < held) slots[t / 32 * tile * held + t % 32 * held + j] = lane[j];
  }
}

// In thread t < tile*held the value of channel t of the tile, over all warps; what the others get means nothing.
// Total: the type to combine in.
template <class Total, class V, class Op>
__device__ inline Total take(int groups, const V* slots, Op op) {
  const int t = int(threadIdx.x), warps = int(blockDim.x) / 32;
  if (t >= groups) return Total();
  Total total = Total(slots[t]);
#pragma unroll 4
  for (int w = 1; w < warps; ++w) total = op(total, Total(slots[w * groups + t]));
  return total;
}

// All of it, with a barrier before and one within.
template <class Total, int W, class V, class Op>
__device__ inline Total reduce_tile(V (&lane)[W], int held, int tile, V* slots, Op op) {
  merge<W>(lane, held, tile, op);
  __syncthreads();  // the slots may still be read from the reduction before
  put<W>(lane, held, tile, slots);
  __syncthreads();
  return take<Total>(tile * held, slots, op);
}

// Each thread brings one value of channel t % groups (a power of two); thread t < groups gets the channel's.
template <class V, class Op>
__device__ inline V reduce_threads(V value, int groups, V* slots, Op op) {
  const int t = int(threadIdx.x), apart = groups > 32 ? groups : 32;
  V lane[1] = {value};
  merge_warp<1>(lane, 1, groups, op);
  __syncthreads();
  slots[t] = lane[0];
  __syncthreads();
  V total = V();
  if (t < groups) {
    total = slots[t];
    for (int i = t + apart; i < int(blockDim.x); i += apart) total = op(total, slots[i]);
  }
  return total;
}

// The same for one value per block, known to every thread afterwards.
template <class V, class Op>
__device__ inline V reduce_all(V value, V* slots, Op op) {
  V total = reduce_threads(value, 1, slots, op);
  if (threadIdx.x == 0) slots[0] = total;
  __syncthreads();
  return slots[0];
}

}  // namespace nx
