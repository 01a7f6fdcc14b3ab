// Top-k in three steps between the first phase and the last: a bound, the candidates beyond it, the sum.
#pragma once

#include "cuda/block/select.cuh"
#include "cuda/float/statistics.cuh"

namespace nx {

// |x - mean| in float32, the mean given as m + rest.
__device__ inline float deviation(float x, float m, float rest) { return fabsf((x - m) - rest); }

// One block per statistic. The k-th largest among stretches' largest deviations bounds the k-th largest of all from
// below, since those are k different elements. Too few stretches: no bound; then everything is a candidate where it
// fits, else nothing is collected and the last step reads x itself.
template <class T>  // none of its own: a kernel per type, so that each source holds all it launches
__global__ void __launch_bounds__(kThreads, 2) bound_topk(FloatArgs args) {
  NX_SHARED(double, wide, kThreads);
  NX_SHARED(Count, bins, 256);
  NX_SHARED(Count, answer, 2);
  const Selection& s = args.selection;
  const int64_t groups = args.g.groups, group = blockIdx.x;
  double sum = 0;
  for (int64_t part = threadIdx.x; part < args.g.parts; part += kThreads)
    sum += args.partial.sum[part * groups + group];
  const double mean = reduce_all(sum, wide, Plus()) / args.n;
  float threshold = 0;
  const Centre centre = centre_of(mean);
  if (s.slots >= s.k && isfinite(mean)) {
    const auto each = [&](auto f) {
      for (int64_t i = threadIdx.x; i < s.slots; i += kThreads) {
        const float high = s.high[i * groups + group], low = s.low[i * groups + group];
        const bool empty = high < low;
        f(__float_as_uint(
            empty ? 0.f : fmaxf(deviation(high, centre.m, centre.rest), deviation(low, centre.m, centre.rest))));
      }
    };
    threshold = __uint_as_float(
        kth_largest(each, Count(s.k), SelectSpace<Count>{bins, answer, nullptr, nullptr}, Alone()).bits);
  } else if (double(s.capacity) < args.n) {
    threshold = kInfinity;
    if (threadIdx.x == 0) s.found[group] = Count(s.capacity) + 1;
  }
  if (threadIdx.x == 0) {
    args.mean[group] = mean;
    s.threshold[group] = threshold;
  }
}

// What decides whether an element of a channel is a candidate.
struct Bar {
  Centre centre;    // what it deviates from
  float threshold;  // by how much, at least
};

// Collects what lies beyond the threshold. Their order is chance, so nothing later depends on it.
template <class T, int W, bool Single>
__global__ void __launch_bounds__(kThreads, 2) collect_topk(FloatArgs args) {
  NX_SHARED(Bar, bars, Single ? 1 : kGroups);
  const Geometry g = specialise<W, Single>(args.g);
  const Selection& s = args.selection;
  const Place place = place_of(g, blockIdx.x);
  const Group group = group_of(g, place, int(threadIdx.x) & (g.tile * g.held - 1));
  Bar bar = {{0, 0}, kInfinity};
  if (group.exists) bar = {centre_of(args.mean[group.index]), s.threshold[group.index]};
  publish(g, bar, bars);
  float m[W], rest[W], threshold[W];
#pragma unroll
  for (int j = 0; j < W; ++j) {
    const Bar own = bars[local_of(g, j)];
    m[j] = own.centre.m;
    rest[j] = own.centre.rest;
    threshold[j] = own.threshold;
  }
  const Rows<T, W> rows(g, place);
  int64_t base = place.sample * g.channels + rows.column.channel;
  rows.visit(
      static_cast<const T*>(args.x),
      [&](Raw<T, W> raw) {
        float v[W];
        widen<T, W>(raw, v);
#pragma unroll
        for (int j = 0; j < W; ++j) {
          const float key = deviation(v[j], m[j], rest[j]);
          if (!(key > threshold[j])) continue;
          const int64_t to = base + (j & (g.held - 1));
          const Count at = atomicAdd(s.found + to, Count(1));
          if (at < Count(s.capacity)) s.candidate[to * s.capacity + int64_t(at)] = key;
        }
      },
      [] {});
}

// One block per statistic: the mean of the k largest deviations, from the candidates or, where they are too many,
// from x; and the line.
template <class T>
__global__ void __launch_bounds__(kThreads, 2) finish_topk(FloatArgs args) {
  NX_SHARED(Count, bins, 256);
  NX_SHARED(Count, answer, 2);
  NX_SHARED(unsigned, top, kThreads);
  NX_SHARED(long long, total, kThreads);
  const SelectSpace<Count> space = {bins, answer, top, total};
  const Selection& s = args.selection;
  const int64_t group = blockIdx.x;
  const double mean = args.mean[group];
  const int64_t of = group % args.g.channels;
  if (!isfinite(mean)) {
    if (threadIdx.x == 0) args.line[group] = line_of(args, mean, float(mean), 0, of);
    return;
  }
  const Count found = s.found[group], k = Count(s.k);
  const Centre centre = centre_of(mean);
  const auto candidates = [&](auto f) {
    for (int64_t i = threadIdx.x; i < int64_t(found); i += kThreads)
      f(__float_as_uint(s.candidate[group * s.capacity + i]));
  };
  const auto elements = [&](auto f) {
    Geometry g = args.g;  // with vectors of one element
    const int64_t sample = group / g.channels, channel = group - sample * g.channels, block = channel / g.v;
    g.rows = g.space;
    g.step = g.v;
    g.inverse_rows = 1. / double(g.space);
    const int64_t start = sample * g.x_stride + block * g.space * g.v + (channel - block * g.v),
                  all = g.rows * g.samples;
    using Scalar = Raw<T, 1>;
    for_rows<Scalar>(
        static_cast<const T*>(args.x), walk_of(g, g.x_stride, start, threadIdx.x, kThreads),
        count_visits(threadIdx.x, all, kThreads),
        [&](Scalar raw, int64_t) {
          float v[1];
          widen<T, 1>(raw, v);
          f(__float_as_uint(deviation(v[0], centre.m, centre.rest)));
        },
        [] {});
  };
  double sum;
  if (found > Count(s.capacity))
    sum = sum_of_largest(elements, k, space, Alone());
  else if (found <= k)  // the rest of the k equals the threshold
    sum = sum_above(candidates, 0, k, space, Alone()) + double(k - found) * double(s.threshold[group]);
  else
    sum = sum_of_largest(candidates, k, space, Alone());
  if (threadIdx.x == 0) args.line[group] = line_of(args, mean, centre.m, sum / double(k), of);
}

}  // namespace nx
