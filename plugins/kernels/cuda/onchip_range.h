// Range with x in shared memory, for tiles of one channel: there a tile holds the rows in their order, so that each
// warp takes whole chunks, or what of them lies in this block, wherever they begin.
#pragma once

#include "onchip.h"

namespace nx {

constexpr int kHeldChunks = 256;  // chunks of a statistic, at most

template <class T>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_range_kernel(Task task) {
  constexpr int W = 16 / sizeof(T);
  NX_DYN_SHARED(uint4, tile);
  NX_SHARED(float, slots, kOnChipThreads / 32);
  NX_SHARED(float, shared, 2);
  NX_SHARED(double, sums, 2);
  NX_SHARED(double, wide, kOnChipThreads);
  NX_SHARED(float, high, kHeldChunks);
  NX_SHARED(float, low, kHeldChunks);
  const Geometry& g = task.g;
  const Chunking& c = task.chunking;
  Place place = place_of(g, blockIdx.x);
  Group group = group_of(g, place, 0);
  Exchange exchange = {sums, g.parts};

  Holding own;
  FirstLook<T, W, false> look;
  double mean = hold<T, W>(task, place, group, exchange, tile, slots, shared, own, look);

  // The barriers of hold's sums came after every thread's copies had landed: all of the tile may be read.
  Span rows = part_rows(g, place.part), here = {rows.low * W, rows.high * W};
  int lane = int(threadIdx.x) % 32, warps = int(blockDim.x) / 32;
  for (int chunk = int(threadIdx.x) / 32; chunk < int(c.count); chunk += warps) {
    int64_t begin = chunk * c.length, end = smaller(begin + c.length, here.high);
    if (begin < here.low) begin = here.low;
    float top[1] = {-kInfinity}, bottom[1] = {kInfinity};
    for (int64_t row = begin / W + lane; row * W < end; row += 32) {
      float v[W];
      widen<T, W>(load_vec<uint4>(tile + (row - rows.low)), v);
      int skip = begin > row * W ? int(begin - row * W) : 0, keep = end - row * W < W ? int(end - row * W) : W;
#pragma unroll
      for (int j = 0; j < W; ++j)
        if (j >= skip && j < keep) top[0] = fmaxf(top[0], v[j]), bottom[0] = fminf(bottom[0], v[j]);
    }
    merge_warp<1>(top, 1, 1, Greatest());
    merge_warp<1>(bottom, 1, 1, Least());
    if (lane == 0) high[chunk] = top[0], low[chunk] = bottom[0];
  }

  if (exchange.ranks > 1) nx_cluster_sync();
  __syncthreads();
  double spans = 0;
  for (int chunk = int(threadIdx.x); chunk < int(c.count); chunk += int(blockDim.x)) {
    float top = high[chunk], bottom = low[chunk];
    for (int rank = 0; exchange.ranks > 1 && rank < exchange.ranks; ++rank) {
      top = fmaxf(top, *dsmem(high + chunk, unsigned(rank)));
      bottom = fminf(bottom, *dsmem(low + chunk, unsigned(rank)));
    }
    spans += double(top) - double(bottom);
  }
  double statistic = reduce_all(spans, wide, Plus()) / double(c.count);
  bool asks = threadIdx.x == 0 && group.exists;
  release<T, W>(task, place, own, asks ? line_of(task, mean, float(mean), statistic, group.channel) : Line{0, 0, 0},
                tile, shared);
}

}  // namespace nx
