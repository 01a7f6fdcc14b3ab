// int8 Range and Top-k with x in shared memory, for tiles of one channel.
#pragma once

#include "int8_onchip.h"
#include "int8_range.h"
#include "int8_topk.h"
#include "onchip_range.h"

namespace nx {

// As onchip_range_kernel: each warp takes whole chunks, or what of them lies in this block.
template <int W>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_int_range_kernel(IntTask task) {
  using Vector = Bytes<W>;
  NX_DYN_SHARED(Vector, tile);
  NX_SHARED(IntBoard, boards, 1);
  NX_SHARED(IntLine, line, 1);
  NX_SHARED(long long, wide, kOnChipThreads);
  NX_SHARED(int, high, kHeldChunks);
  NX_SHARED(int, low, kHeldChunks);
  IntBoard& board = boards[0];
  const Geometry g = known<W, true>(task.g);
  const Chunking& c = task.chunking;
  Place place = place_of(g, blockIdx.x);
  Group group = group_of(g, place, 0);
  Exchange exchange = {board.peers, IntBoard::kPeers, g.parts};
  Holding own = holding_of(g, place);
  fetch_rows(g, static_cast<const signed char*>(task.x), place, own, tile);
  IntSums<W, true> sum;
  meet_rows(
      own, tile,
      [&](Vector raw) {
        unsigned word[words_of<W>()];
        words<W>(raw, word);
#pragma unroll
        for (int i = 0; i < words_of<W>(); ++i) sum.add(word[i], i);
      },
      [] {});
  put_sums(g, sum.sum, board.slots[0]);
  __syncthreads();  // and every thread's copies have landed: all of the tile may be read

  Span rows = part_rows(g, place.part), here = {rows.low * W, rows.high * W};
  int lane = int(threadIdx.x) % 32, warps = int(blockDim.x) / 32;
  for (int chunk = int(threadIdx.x) / 32; chunk < int(c.count); chunk += warps) {
    int64_t begin = chunk * c.length, end = smaller(begin + c.length, here.high);
    if (begin < here.low) begin = here.low;
    int from = int(begin - here.low), to = int(end - here.low);
    IntExtremes<W> extremes;
    for (int row = from / W + lane; row * W < to; row += 32) {
      unsigned word[words_of<W>()];
      words<W>(load_vec<Vector>(tile + row), word);
#pragma unroll
      for (int i = 0; i < words_of<W>(); ++i) {
        unsigned mask = byte_mask(from - row * W, smaller(to - row * W, W), i);
        extremes.see((word[i] & mask) | (kLowest & ~mask), (word[i] & mask) | (kHighest & ~mask), i);
      }
    }
    int top[W], bottom[W];
    extremes.unpack(top, bottom);
    merge<W>(top, 1, 1, Greatest());
    merge<W>(bottom, 1, 1, Least());
    if (lane == 0) high[chunk] = top[0], low[chunk] = bottom[0];
  }

  double all[1] = {double(take<long long>(1, board.slots[0], Plus()))};
  exchange.merge(all, 1, [](int, double a, double b) { return a + b; });  // and all chunks of the cluster are there
  __syncthreads();
  long long spans = 0;
  for (int chunk = int(threadIdx.x); chunk < int(c.count); chunk += int(blockDim.x)) {
    int top = high[chunk], bottom = low[chunk];
    for (int rank = 0; g.parts > 1 && rank < g.parts; ++rank) {
      top = Greatest()(top, *dsmem(high + chunk, unsigned(rank)));
      bottom = Least()(bottom, *dsmem(low + chunk, unsigned(rank)));
    }
    spans += top - bottom;
  }
  double statistic = int_ratio(reduce_all(spans, wide, Plus()), 0, task.n, c.count);
  IntMean mean = int_mean((long long)(all[0]), task.n);
  bool asks = threadIdx.x == 0 && group.exists;
  release_bytes<W>(task, g, place, own, asks ? int_line_of(task, mean, statistic, group.channel) : IntLine{0, 0, 0, 0},
                   tile, board, line);
}

// A histogram per pair of warps, added up over block and cluster.
template <int W>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_int_topk_kernel(IntTask task) {
  constexpr int kCopies = 8;
  using Vector = Bytes<W>;
  NX_DYN_SHARED(Vector, tile);
  NX_SHARED(IntBoard, boards, 1);
  NX_SHARED(IntLine, line, 1);
  NX_SHARED(unsigned, bins, kCopies * 256);
  NX_SHARED(unsigned, merged, 256);
  NX_SHARED(long long, wide, kOnChipThreads);
  IntBoard& board = boards[0];
  const Geometry g = known<W, true>(task.g);
  Place place = place_of(g, blockIdx.x);
  Group group = group_of(g, place, 0);
  Holding own = holding_of(g, place);
  int t = int(threadIdx.x), threads = int(blockDim.x);
  fetch_rows(g, static_cast<const signed char*>(task.x), place, own, tile);
  for (int i = t; i < kCopies * 256; i += threads) bins[i] = 0;
  __syncthreads();
  unsigned* mine = bins + t / 32 % kCopies * 256;
  meet_rows(
      own, tile,
      [&](Vector raw) {
        unsigned word[words_of<W>()];
        words<W>(raw, word);
#pragma unroll
        for (int j = 0; j < W; ++j) atomicAdd(&mine[byte_of(word[j / 4], j % 4) + 128], 1u);
      },
      [] {});
  __syncthreads();
  for (int b = t; b < 256; b += threads) {
    unsigned all = bins[b];
#pragma unroll
    for (int copy = 1; copy < kCopies; ++copy) all += bins[copy * 256 + b];
    bins[b] = all;
  }
  if (g.parts > 1) nx_cluster_sync();
  long long part = 0;
  for (int b = t; b < 256; b += threads) {
    unsigned all = g.parts > 1 ? 0 : bins[b];
    for (int rank = 0; g.parts > 1 && rank < g.parts; ++rank) all += *dsmem(bins + b, unsigned(rank));
    merged[b] = all;
    part += (long long)(all) * (b - 128);
  }
  long long sum = reduce_all(part, wide, Plus());  // with barriers
  bool asks = t == 0 && group.exists;
  release_bytes<W>(task, g, place, own, asks ? line_of_bins(task, merged, sum, group.channel) : IntLine{0, 0, 0, 0},
                   tile, board, line);
}

}  // namespace nx
