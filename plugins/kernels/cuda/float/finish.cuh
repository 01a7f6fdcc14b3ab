// Between the phases: what the parts of a statistic left becomes a mean, and a line. A few threads per statistic, so
// that the phases themselves, which are many blocks, find one number each.
#pragma once

#include "cuda/block/merge_parts.cuh"
#include "cuda/float/centre.cuh"

namespace nx {

// After the first phase of L1 and L2.
template <class T>  // none of its own: a kernel per type, so that each source holds all it launches
__global__ void __launch_bounds__(kThreads, 2) finish_mean(FloatArgs args) {
  NX_SHARED(double, slots, kThreads);
  const Merger merger = merger_of(args.g.groups, args.slices);
  const double sum = merge_parts(merger, args.g, args.partial.sum, 0., slots, Plus());
  if (merger.answers) args.mean[merger.group] = sum / args.n;
}

// After the last phase of all but Top-k.
template <class T>
__global__ void __launch_bounds__(kThreads, 2) finish_line(FloatArgs args) {
  NX_SHARED(double, slots, kThreads);
  const Geometry& g = args.g;
  const Partials& p = args.partial;
  const Merger merger = merger_of(g.groups, args.slices);
  double mean, statistic;
  float m;
  if (args.kind == NX_L1 || args.kind == NX_L2) {
    const double drift = merge_parts(merger, g, p.drift, 0., slots, Plus()) / args.n;
    const double spread = merge_parts(merger, g, p.spread, 0., slots, Plus()) / args.n;
    mean = merger.answers ? args.mean[merger.group] : 0;
    m = float(mean);
    if (isfinite(mean)) mean += drift;
    statistic = args.kind == NX_L1 ? spread : sqrt(fmax(spread - drift * drift, 0.));
  } else {
    mean = merge_parts(merger, g, p.sum, 0., slots, Plus()) / args.n;
    m = float(mean);
    if (args.kind == NX_LINF) {
      const double high = merge_parts(merger, g, p.high, -double(kInfinity), slots, Greatest()) - mean;
      const double low = mean - merge_parts(merger, g, p.low, double(kInfinity), slots, Least());
      statistic = high > low ? high : low;
    } else {
      double spans = 0;
      for_chunks(merger, g, args.chunking, p.high, p.low,
                 [&](float top, float bottom) { spans += double(top) - double(bottom); });
      statistic = reduce_threads(spans, merger.beside, slots, Plus()) / double(args.chunking.count);
    }
  }
  if (merger.answers) args.line[merger.group] = line_of(args, mean, m, statistic, merger.group % g.channels);
}

}  // namespace nx
