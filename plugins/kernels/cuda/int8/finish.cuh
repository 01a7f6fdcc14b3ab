// int8, between the phases: integers of the parts become a mean, and a line, as in float/finish.cuh.
#pragma once

#include "cuda/block/merge_parts.cuh"
#include "cuda/int8/statistics.cuh"

namespace nx {

// (A + B/n) / count in float64.
__device__ inline double int_ratio(long long a, long long b, long long n, long long count) {
  return __ddiv_rn(__dadd_rn(double(a), __ddiv_rn(double(b), double(n))), double(count));
}

// Statistics: of the sum of |q - p| and the elements above and on p; of the extremes; of the sum of squares.
__device__ inline double int_l1(const IntMean& mean, long long n, long long size, long long above, long long level) {
  const long long sides = above - (n - above - level), e = mean.e;
  return int_ratio(size, e * sides + (e < 0 ? -e : e) * level, n, n);
}
__device__ inline double int_linf(const IntMean& mean, long long n, long long high, long long low) {
  const long long rise = high - mean.p, drop = mean.p - low, e = mean.e;
  return n * rise + e >= n * drop - e ? int_ratio(rise, e, n, 1) : int_ratio(drop, -e, n, 1);
}
__device__ inline double int_l2(const IntMean& mean, long long n, long long squares) {
  const long long about = squares - 2 * mean.p * mean.sum + n * mean.p * mean.p;  // sum of (q - p)^2
  const double shift = __ddiv_rn(__dmul_rn(double(mean.e), double(mean.e)), double(n));
  return __dsqrt_rn(__ddiv_rn(__dsub_rn(double(about), shift), double(n)));
}

__device__ inline IntLine int_line_of(const IntArgs& args, const IntMean& mean, double statistic, int64_t channel) {
  const float divisor = __fadd_rn(__fmul_rn(args.factor, float(statistic)), args.epsilon);
  return {mean.p, float(__ddiv_rn(double(mean.e), double(args.n))), __fdiv_rn(args.scale[channel], divisor),
          args.bias[channel]};
}

// After the first phase of L1.
template <int>  // none of its own: see finish_mean
__global__ void __launch_bounds__(kThreads, 2) int_finish_mean(IntArgs args) {
  NX_SHARED(long long, slots, kThreads);
  const Merger merger = merger_of(args.g.groups, args.slices);
  const long long sum = merge_parts(merger, args.g, args.tally.sum, 0ll, slots, Plus());
  if (merger.answers) args.mean[merger.group] = int_mean(sum, args.n);
}

// After the last phase of all but Top-k.
template <int>
__global__ void __launch_bounds__(kThreads, 2) int_finish_line(IntArgs args) {
  NX_SHARED(long long, slots, kThreads);
  const Geometry& g = args.g;
  const Tallies& tally = args.tally;
  Merger merger = merger_of(g.groups, args.slices);
  const long long n = args.n;
  const auto all = [&](const long long* values) { return merge_parts(merger, g, values, 0ll, slots, Plus()); };
  IntMean mean = {0, 0, 0};
  double statistic;
  if (args.kind == NX_L1) {
    const long long size = all(tally.size), above = all(tally.above), level = all(tally.level);
    if (merger.answers) mean = args.mean[merger.group];
    statistic = int_l1(mean, n, size, above, level);
  } else {
    mean = int_mean(all(tally.sum), n);
    if (args.kind == NX_LINF) {
      const long long high = merge_parts(merger, g, tally.high, -128ll, slots, Greatest());
      const long long low = merge_parts(merger, g, tally.low, 127ll, slots, Least());
      statistic = int_linf(mean, n, high, low);
    } else if (args.kind == NX_RANGE) {
      long long spans = 0;
      for_chunks(merger, g, args.chunking, tally.high, tally.low,
                 [&](long long top, long long bottom) { spans += top - bottom; });
      statistic = int_ratio(reduce_threads(spans, merger.beside, slots, Plus()), 0, n, args.chunking.count);
    } else {
      statistic = int_l2(mean, n, all(tally.size));
    }
  }
  if (merger.answers) args.line[merger.group] = int_line_of(args, mean, statistic, merger.group % g.channels);
}

}  // namespace nx
