// int8 Top-k with x in shared memory, for tiles of one channel.
#pragma once

#include "cuda/int8/onchip.cuh"
#include "cuda/int8/topk.cuh"

namespace nx {

// A histogram per pair of warps, added up over block and cluster.
template <int W>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_int_topk(IntArgs args) {
  constexpr int kCopies = 8;
  using Vector = Bytes<W>;
  NX_DYN_SHARED(Vector, tile);
  NX_SHARED(IntBoard, boards, 1);
  NX_SHARED(IntLine, line, 1);
  NX_SHARED(unsigned, bins, kCopies * 256);
  NX_SHARED(unsigned, merged, 256);
  NX_SHARED(long long, wide, kOnChipThreads);
  IntBoard& board = boards[0];
  const Geometry g = specialise<W, true>(args.g);
  const Place place = place_of(g, blockIdx.x);
  const Group group = group_of(g, place, 0);
  const Holding own = holding_of(g, place);
  const int t = int(threadIdx.x), threads = int(blockDim.x);
  fetch_rows(g, static_cast<const signed char*>(args.x), place, own, tile);
  for (int i = t; i < kCopies * 256; i += threads) bins[i] = 0;
  __syncthreads();
  unsigned* mine = bins + t / 32 % kCopies * 256;
  meet_rows(
      own, tile,
      [&](Vector raw) {
        unsigned word[word_count<W>()];
        byte_words<W>(raw, word);
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
  const long long sum = reduce_all(part, wide, Plus());  // with barriers
  const bool asks = t == 0 && group.exists;
  release_bytes<W>(args, g, place, own, asks ? line_of_bins(args, merged, sum, group.channel) : IntLine{0, 0, 0, 0},
                   tile, board, line);
}

}  // namespace nx
