// Top-k with x in shared memory, for tiles of one channel: the bound, the candidates and the sum of topk.h, without
// another read of x.
#pragma once

#include "onchip.h"
#include "select.h"
#include "topk.h"

namespace nx {

constexpr int kHeldCandidates = 1024;  // per block

// The blocks that share a statistic, a cluster or a single block.
struct ClusterTeam {
  Exchange exchange;
  Count* merged;  // 256

  template <class Op>
  __device__ double merge(double value, Op op) const {
    double total = over_cluster(exchange, value, 1, op);
    if (exchange.ranks == 1) return total;
    __syncthreads();
    if (threadIdx.x == 0) merged[0] = Count(__double_as_longlong(total));
    __syncthreads();
    return __longlong_as_double((long long)(merged[0]));
  }
  __device__ const Count* bins(const SelectSpace& space) const {
    if (exchange.ranks == 1) return space.bins;
    nx_cluster_sync();
    for (unsigned b = threadIdx.x; b < 256; b += blockDim.x) {
      Count total = 0;
      for (int rank = 0; rank < exchange.ranks; ++rank) total += *dsmem(space.bins + b, unsigned(rank));
      merged[b] = total;
    }
    nx_cluster_sync();  // peers have read, and all of this block have written
    return merged;
  }
  __device__ unsigned top(unsigned value) const { return unsigned(merge(double(value), Greatest())); }
  __device__ double sum(double value) const { return merge(value, Plus()); }
};

template <class T>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_topk_kernel(Task task) {
  constexpr int W = 16 / sizeof(T);
  NX_DYN_SHARED(uint4, tile);
  NX_SHARED(float, slots, kOnChipThreads / 32);
  NX_SHARED(float, shared, 2);
  NX_SHARED(double, sums, 2);
  NX_SHARED(Count, bins, 256);
  NX_SHARED(Count, merged, 256);
  NX_SHARED(Count, answer, 2);
  NX_SHARED(unsigned, top, kOnChipThreads);
  NX_SHARED(long long, total, kOnChipThreads);
  NX_SHARED(unsigned, candidate, kHeldCandidates);
  NX_SHARED(unsigned, found, 1);
  const Geometry& g = task.g;
  Place place = place_of(g, blockIdx.x);
  Group group = group_of(g, place, 0);
  SelectSpace space = {bins, answer, top, total};
  ClusterTeam team = {{sums, g.parts}, merged};
  Count k = Count(task.selection.k);

  Holding own;
  FirstLook<T, W, false> look;
  double mean = hold<T, W>(task, place, group, team.exchange, tile, slots, shared, own, look), sum = 0;
  __syncthreads();
  if (threadIdx.x == 0) sums[1] = mean, found[0] = 0;
  __syncthreads();
  mean = sums[1];
  float m = float(mean), rest = rest_of(mean);
  auto elements = [&](auto f) {
    for_tile(
        tile, 0, own.count,
        [&](uint4 raw) {
          float v[W];
          widen<T, W>(raw, v);
#pragma unroll
          for (int j = 0; j < W; ++j) f(__float_as_uint(deviation(v[j], m, rest)));
        },
        [] {});
  };
  if (isfinite(mean)) {
    // The largest deviations of k threads are k elements: the least of them bounds the k-th largest of all.
    unsigned largest = 0, threshold = 0;
    elements([&](unsigned bits) { largest = bits > largest ? bits : largest; });
    if (k <= blockDim.x) threshold = kth_largest([&](auto f) { f(largest); }, k, space, Alone()).bits;
    threshold = team.top(threshold);
    elements([&](unsigned bits) {
      if (bits <= threshold) return;
      unsigned at = atomicAdd(found, 1u);
      if (at < unsigned(kHeldCandidates)) candidate[at] = bits;
    });
    __syncthreads();
    unsigned here = found[0];
    auto candidates = [&](auto f) {
      for (unsigned i = threadIdx.x; i < here; i += blockDim.x) f(candidate[i]);
    };
    Count most = Count(team.merge(double(here), Greatest())), all = Count(team.merge(double(here), Plus()));
    if (most > Count(kHeldCandidates))
      sum = sum_of_largest(elements, k, space, team);
    else if (all <= k)
      sum = sum_above(candidates, 0, k, space, team) + double(k - all) * double(__uint_as_float(threshold));
    else
      sum = sum_of_largest(candidates, k, space, team);
  }
  bool asks = threadIdx.x == 0 && group.exists;
  release<T, W>(task, place, own, asks ? line_of(task, mean, m, sum / double(k), group.channel) : Line{0, 0, 0}, tile,
                shared);
}

}  // namespace nx
