// Top-k with x in shared memory, for tiles of one channel: the bound, the candidates and the sum of topk.cuh, without
// another read of x.
#pragma once

#include "cuda/block/select.cuh"
#include "cuda/float/onchip.cuh"
#include "cuda/float/topk.cuh"

namespace nx {

constexpr unsigned kHeldCandidates = 768;  // of all blocks of a cluster

// The blocks that share a statistic, a cluster or a single block.
struct ClusterTeam {
  Exchange& exchange;  // between its blocks
  unsigned* merged;    // [256]: the bins of all blocks
  double* shared;      // [1]: a value for all threads of this block

  // Known to all threads of all blocks.
  template <class Op>
  __device__ double merge(double value, Op op) const {
    if (exchange.ranks == 1) return value;
    double own[1] = {value};
    exchange.merge(own, 1, [=](int, double a, double b) { return op(a, b); });  // with a barrier
    if (threadIdx.x == 0) shared[0] = own[0];
    __syncthreads();
    return shared[0];
  }
  __device__ const unsigned* bins(const SelectSpace<unsigned>& space) const {
    if (exchange.ranks == 1) return space.bins;
    nx_cluster_sync();
    for (unsigned b = threadIdx.x; b < 256; b += blockDim.x) {
      unsigned total = 0;
      for (int rank = 0; rank < exchange.ranks; ++rank) total += *dsmem(space.bins + b, unsigned(rank));
      merged[b] = total;
    }
    nx_cluster_sync();  // peers have read, and all of this block have written
    return merged;
  }
  __device__ unsigned top(unsigned value) const { return unsigned(merge(double(value), Greatest())); }
  __device__ double sum(double value) const { return merge(value, Plus()); }
};

template <class T, int W>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_topk(FloatArgs args) {
  using Own = Board<W, true, 1>;
  using Vector = Raw<T, W>;
  NX_DYN_SHARED(Vector, tile);
  NX_SHARED(Own, boards, 1);
  NX_SHARED(unsigned, bins, 256);
  NX_SHARED(unsigned, merged, 256);
  NX_SHARED(unsigned, answer, 2);
  NX_SHARED(double, shared, 1);
  NX_SHARED(unsigned, top, kOnChipThreads);
  NX_SHARED(long long, total, kOnChipThreads);
  NX_SHARED(unsigned, candidate, kHeldCandidates);
  NX_SHARED(unsigned, gathered, kHeldCandidates);
  NX_SHARED(unsigned, found, 1);
  Own& board = boards[0];
  const Geometry g = specialise<W, true>(args.g);
  const Place place = place_of(g, blockIdx.x);
  const Group group = group_of(g, place, 0);
  const SelectSpace<unsigned> space = {bins, answer, top, total};
  Exchange exchange = {board.peers, Own::kPeers, g.parts};
  const ClusterTeam team = {exchange, merged, shared};
  const Count k = Count(args.selection.k);

  Holding own = holding_of(g, place);
  FirstLook<T, W, false> look;
  double mean = hold<T, W>(g, static_cast<const T*>(args.x), place, group, own, tile, board, look), sum = 0;
  merge<W>(look.sums.outer, 1, 1, Plus());
  put<W>(look.sums.outer, 1, 1, board.slots[0]);
  if (threadIdx.x == 0) found[0] = 0;
  __syncthreads();
  double all_of[1] = {take<double>(1, board.slots[0], Plus())};
  exchange.merge(all_of, 1, [](int, double a, double b) { return a + b; });
  mean += all_of[0] / args.n;
  publish(g, centre_of(mean), board.centres);
  const Centre centre = board.centres[0];
  const auto elements = [&](auto f) {
    for_tile(
        tile, 0, own.count,
        [&](Vector raw) {
          float v[W];
          widen<T, W>(raw, v);
#pragma unroll
          for (int j = 0; j < W; ++j) f(__float_as_uint(deviation(v[j], centre.m, centre.rest)));
        },
        [] {});
  };
  if (isfinite(centre.m)) {
    // The largest deviations of k threads are k elements: the least of them bounds the k-th largest of all.
    unsigned largest = 0, threshold = 0;
    elements([&](unsigned bits) { largest = bits > largest ? bits : largest; });
    if (k <= blockDim.x) threshold = kth_largest([&](auto f) { f(largest); }, k, space, Alone()).bits;
    threshold = team.top(threshold);
    elements([&](unsigned bits) {
      if (bits <= threshold) return;
      const unsigned at = atomicAdd(found, 1u);
      if (at < kHeldCandidates) candidate[at] = bits;
    });
    // Where all candidates have room, each block gathers them and selects by itself; else all of x is selected from.
    if (g.parts > 1)
      nx_cluster_sync();
    else
      __syncthreads();
    unsigned all = g.parts > 1 ? 0 : found[0];
    for (int rank = 0; g.parts > 1 && rank < g.parts; ++rank) {
      const unsigned there = *dsmem(found, unsigned(rank));
      for (unsigned i = threadIdx.x; i < there && all + i < kHeldCandidates; i += blockDim.x)
        gathered[all + i] = *dsmem(candidate + i, unsigned(rank));
      all += there;
    }
    __syncthreads();
    const unsigned* keys = g.parts > 1 ? gathered : candidate;
    const auto candidates = [&](auto f) {
      for (unsigned i = threadIdx.x; i < all; i += blockDim.x) f(keys[i]);
    };
    if (all > kHeldCandidates)
      sum = sum_of_largest(elements, k, space, team);
    else if (all > k)
      sum = sum_of_largest(candidates, k, space, Alone());
    else  // the rest of the k equals the threshold
      sum = sum_above(candidates, 0, k, space, Alone()) + double(k - all) * double(__uint_as_float(threshold));
  }
  const bool asks = threadIdx.x == 0 && group.exists;
  release<T, W>(args, g, place, own,
                asks ? line_of(args, mean, centre.m, sum / double(k), group.channel) : Line{0, 0, 0}, tile, board);
}

}  // namespace nx
