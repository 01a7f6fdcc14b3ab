// The channels of a block's tile: thread t < tile*held answers for channel t of the tile.
#pragma once

#include "cuda/memory/geometry.cuh"

namespace nx {

constexpr int kGroups = 256;  // channels of a tile, at most

// One statistic, of one channel.
struct Group {
  bool exists;      // false beyond the last channel
  int64_t channel;  // of x
  int64_t index;    // of a [group] array
  int64_t offset;   // of its first lane in row 0, in elements
};

__device__ inline Group group_of(const Geometry& g, const Place& place, int local) {
  const Column column = column_of(g, place, local / g.held);
  const int lane = local & (g.held - 1);
  const int64_t channel = column.channel + lane;
  return {column.exists && channel < g.channels, channel, place.sample * g.channels + channel, column.offset + lane};
}

// Spreads what threads t < tile*held hold over the block. Each call needs an array of its own.
template <class V>
__device__ inline void publish(const Geometry& g, const V& value, V* shared) {
  const int t = int(threadIdx.x);
  if (t < g.tile * g.held) shared[t] = value;
  __syncthreads();
}

// Which channel of the tile lane j of this thread's vectors holds.
__device__ inline int local_of(const Geometry& g, int j) {
  return (int(threadIdx.x) & (g.tile - 1)) * g.held + (j & (g.held - 1));
}

}  // namespace nx
