// int8 Top-k: a histogram of the 256 values, then a merge from both ends. Integers throughout, so exact.
#pragma once

#include "cuda/int8/finish.cuh"

namespace nx {

// The k largest |q - mean| of a histogram: A and B of kernels.h. Ties between the ends give the same statistic.
struct Ends {
  long long whole;  // A
  long long part;   // B
};

__device__ inline Ends merge_ends(const unsigned* bins, IntMean mean, long long n, long long k) {
  Ends ends = {0, 0};
  int low = 0, high = 255;
  while (k > 0) {
    while (high > low && !bins[high]) --high;
    while (low < high && !bins[low]) ++low;
    const long long rise = high - 128 - mean.p, drop = mean.p - (low - 128);  // n*rise + e against n*drop - e
    const bool upper = n * rise + mean.e >= n * drop - mean.e;
    const long long here = bins[upper ? high : low], taken = here < k ? here : k;
    ends.whole += taken * (upper ? rise : drop);
    ends.part += upper ? taken * mean.e : -taken * mean.e;
    k -= taken;
    if (upper)
      --high;
    else
      ++low;
  }
  return ends;
}

// The line of a histogram whose values add up to `sum`.
__device__ inline IntLine line_of_bins(const IntArgs& args, const unsigned* bins, long long sum, int64_t channel) {
  const IntMean mean = int_mean(sum, args.n);
  const Ends ends = merge_ends(bins, mean, args.n, args.k);
  return int_line_of(args, mean, int_ratio(ends.whole, ends.part, args.n, args.k), channel);
}

// Sum of a histogram of 256 bins, known to all threads. Thread t must have written bin t itself; after the barriers
// within, all may read all bins.
__device__ inline long long sum_of_bins(const unsigned* bins, long long* slots) {
  const int b = int(threadIdx.x);  // of 256
  const long long sum = (long long)(bins[b]) * (b - 128);
  return reduce_all(sum, slots, Plus());
}

// Histograms of one column: of its `held` channels, in as many copies as fit, so that fewer threads meet at a bin.
// A statistic of one part is finished at once; those of several leave their bins.
template <int W>
__global__ void __launch_bounds__(kThreads, 2) int_histograms(IntArgs args) {
  NX_SHARED(unsigned, bins, 16 * 256);
  NX_SHARED(long long, slots, kThreads);
  NX_SHARED(long long, sums, 16);
  const Geometry& g = args.single;
  const Place place = place_of(g, blockIdx.x);
  const int t = int(threadIdx.x), copies = 16 / g.held, whole = g.held * 256;
  for (int i = t; i < 16 * 256; i += kThreads) bins[i] = 0;
  __syncthreads();
  unsigned* own = bins + t / 32 % copies * whole;
  for_part<W>(
      g, args.x, place,
      [&](Bytes<W> raw, int64_t) {
        unsigned word[word_count<W>()];
        byte_words<W>(raw, word);
#pragma unroll
        for (int j = 0; j < W; ++j) atomicAdd(&own[(j & (g.held - 1)) * 256 + byte_of(word[j / 4], j % 4) + 128], 1u);
      },
      [] {});
  __syncthreads();
  for (int i = t; i < whole; i += kThreads) {
    unsigned all = bins[i];
    for (int copy = 1; copy < copies; ++copy) all += bins[copy * whole + i];
    bins[i] = all;
  }
  if (args.tally.bins) {  // every thread reads the bins that it merged; sum_of_bins has barriers for the rest
    for (int j = 0; j < g.held; ++j) {
      const Group group = group_of(g, place, j);
      if (group.exists) args.tally.bins[(place.part * g.groups + group.index) * 256 + t] = bins[j * 256 + t];
    }
    return;
  }
  for (int j = 0; j < g.held; ++j) {
    const long long sum = sum_of_bins(bins + j * 256, slots);
    if (t == 0) sums[j] = sum;
  }
  __syncthreads();
  const Group group = group_of(g, place, t & (g.held - 1));
  if (t < g.held && group.exists) args.line[group.index] = line_of_bins(args, bins + t * 256, sums[t], group.channel);
}

// One block per statistic: its parts' histograms.
template <int>  // none of its own: see bound_topk
__global__ void __launch_bounds__(kThreads, 2) int_finish_topk(IntArgs args) {
  NX_SHARED(unsigned, bins, 256);
  NX_SHARED(long long, slots, kThreads);
  const int64_t groups = args.single.groups, group = blockIdx.x;
  unsigned all = 0;
  for (int64_t part = 0; part < args.single.parts; ++part)
    all += args.tally.bins[(part * groups + group) * 256 + threadIdx.x];
  bins[threadIdx.x] = all;
  const long long sum = sum_of_bins(bins, slots);  // with barriers
  if (threadIdx.x != 0) return;
  args.line[group] = line_of_bins(args, bins, sum, group % args.single.channels);
}

}  // namespace nx
