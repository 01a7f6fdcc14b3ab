// int8 Range with x in shared memory, for tiles of one channel.
#pragma once

#include "cuda/block/held_chunks.cuh"
#include "cuda/int8/onchip.cuh"
#include "cuda/int8/range.cuh"

namespace nx {

// As onchip_range: each warp takes whole chunks, or what of them lies in this block.
template <int W>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_int_range(IntArgs args) {
  using Vector = Bytes<W>;
  NX_DYN_SHARED(Vector, tile);
  NX_SHARED(IntBoard, boards, 1);
  NX_SHARED(IntLine, line, 1);
  NX_SHARED(long long, wide, kOnChipThreads);
  NX_SHARED(int, high, kHeldChunks);
  NX_SHARED(int, low, kHeldChunks);
  IntBoard& board = boards[0];
  const Geometry g = specialise<W, true>(args.g);
  const Chunking& c = args.chunking;
  const Place place = place_of(g, blockIdx.x);
  const Group group = group_of(g, place, 0);
  Exchange exchange = {board.peers, IntBoard::kPeers, g.parts};
  const Holding own = holding_of(g, place);
  fetch_rows(g, static_cast<const signed char*>(args.x), place, own, tile);
  IntSums<W, true> sum;
  meet_rows(
      own, tile,
      [&](Vector raw) {
        unsigned word[word_count<W>()];
        byte_words<W>(raw, word);
#pragma unroll
        for (int i = 0; i < word_count<W>(); ++i) sum.add(word[i], i);
      },
      [] {});
  put_sums(g, sum.sum, board.slots[0]);
  __syncthreads();  // and every thread's copies have landed: all of the tile may be read

  const int lane = int(threadIdx.x) % 32;
  for_held_chunks<W>(g, c, place, [&](int chunk, int from, int to) {
    IntExtremes<W> extremes;
    for (int row = from / W + lane; row * W < to; row += 32) {
      unsigned word[word_count<W>()];
      byte_words<W>(load_vec<Vector>(tile + row), word);
#pragma unroll
      for (int i = 0; i < word_count<W>(); ++i) {
        const unsigned mask = byte_mask(from - row * W, minimum(to - row * W, W), i);
        extremes.see((word[i] & mask) | (kLowest & ~mask), (word[i] & mask) | (kHighest & ~mask), i);
      }
    }
    int top[W], bottom[W];
    extremes.unpack(top, bottom);
    merge<W>(top, 1, 1, Greatest());
    merge<W>(bottom, 1, 1, Least());
    if (lane == 0) {
      high[chunk] = top[0];
      low[chunk] = bottom[0];
    }
  });

  double all[1] = {double(take<long long>(1, board.slots[0], Plus()))};
  exchange.merge(all, 1, [](int, double a, double b) { return a + b; });  // and all chunks of the cluster are there
  __syncthreads();
  const long long spans = spans_of_chunks<long long>(g, c, high, low);
  const double statistic = int_ratio(reduce_all(spans, wide, Plus()), 0, args.n, c.count);
  const IntMean mean = int_mean((long long)(all[0]), args.n);
  const bool asks = threadIdx.x == 0 && group.exists;
  release_bytes<W>(args, g, place, own, asks ? int_line_of(args, mean, statistic, group.channel) : IntLine{0, 0, 0, 0},
                   tile, board, line);
}

}  // namespace nx
