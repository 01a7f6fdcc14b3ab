// Range with x in shared memory, for tiles of one channel.
#pragma once

#include "cuda/block/held_chunks.cuh"
#include "cuda/float/onchip.cuh"

namespace nx {

template <class T, int W>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_range(FloatArgs args) {
  using Own = Board<W, true, 1>;
  using Vector = Raw<T, W>;
  NX_DYN_SHARED(Vector, tile);
  NX_SHARED(Own, boards, 1);
  NX_SHARED(double, wide, kOnChipThreads);
  NX_SHARED(float, high, kHeldChunks);
  NX_SHARED(float, low, kHeldChunks);
  Own& board = boards[0];
  const Geometry g = specialise<W, true>(args.g);
  const Chunking& c = args.chunking;
  const Place place = place_of(g, blockIdx.x);
  const Group group = group_of(g, place, 0);
  const Holding own = holding_of(g, place);
  FirstLook<T, W, false> look;
  const double pivot = hold<T, W>(g, static_cast<const T*>(args.x), place, group, own, tile, board, look);
  merge<W>(look.sums.outer, 1, 1, Plus());
  put<W>(look.sums.outer, 1, 1, board.slots[0]);
  __syncthreads();  // and every thread's copies have landed: all of the tile may be read

  const int lane = int(threadIdx.x) % 32;
  for_held_chunks<W>(g, c, place, [&](int chunk, int from, int to) {
    float top[1] = {-kInfinity}, bottom[1] = {kInfinity};
    for (int row = from / W + lane; row * W < to; row += 32) {
      float v[W];
      widen<T, W>(load_vec<Vector>(tile + row), v);
      const bool whole = row * W >= from && row * W + W <= to;
#pragma unroll
      for (int j = 0; j < W; ++j)
        if (whole || (row * W + j >= from && row * W + j < to)) {
          top[0] = fmaxf(top[0], v[j]);
          bottom[0] = fminf(bottom[0], v[j]);
        }
    }
    merge_warp<1>(top, 1, 1, Greatest());
    merge_warp<1>(bottom, 1, 1, Least());
    if (lane == 0) {
      high[chunk] = top[0];
      low[chunk] = bottom[0];
    }
  });

  double sum[1] = {take<double>(1, board.slots[0], Plus())};
  Exchange exchange = {board.peers, Own::kPeers, g.parts};
  exchange.merge(sum, 1, [](int, double a, double b) { return a + b; });  // and all chunks of the cluster are there
  __syncthreads();
  const double spans = spans_of_chunks<double>(g, c, high, low);
  const double statistic = reduce_all(spans, wide, Plus()) / double(c.count), mean = pivot + sum[0] / args.n;
  const bool asks = threadIdx.x == 0 && group.exists;
  release<T, W>(args, g, place, own, asks ? line_of(args, mean, float(mean), statistic, group.channel) : Line{0, 0, 0},
                tile, board);
}

}  // namespace nx
