// Between the phases: what the parts of a statistic left becomes a mean, and a line. A few threads per statistic, so
// that the phases themselves, which are many blocks, find one number each.
#pragma once

#include "centre.h"

namespace nx {

// Blocks of kThreads merge kThreads/slices statistics, side by side as they lie in memory: thread t takes every
// slices-th part of statistic t % beside, and thread t < beside ends with all of them.
struct Merger {
  int beside, slice, slices;
  int64_t group;
  bool exists, answers;
};

__device__ inline Merger merger_of(int64_t groups, int slices) {
  Merger merger;
  int t = int(threadIdx.x);
  merger.slices = slices;
  merger.beside = kThreads / slices;
  merger.slice = t / merger.beside;
  merger.group = int64_t(blockIdx.x) * merger.beside + t % merger.beside;
  merger.exists = merger.group < groups;
  merger.answers = merger.exists && t < merger.beside;
  return merger;
}

// A [part][group] array over its parts, from `none`; valid in threads that answer.
template <class Total, class V, class Op>
__device__ inline Total merge_parts(const Merger& merger, const Geometry& g, const V* values, Total none, Total* slots,
                                    Op op) {
  Total total = none;
  if (merger.exists)
#pragma unroll 8
    for (int part = merger.slice; part < g.parts; part += merger.slices)
      total = op(total, Total(values[int64_t(part) * g.groups + merger.group]));
  return reduce_threads(total, merger.beside, slots, op);
}

// A Range statistic's chunks: `whole` ones, or each in several pieces, over the parts; see Chunking. Calls
// span(high, low) for each.
template <class V, class Span>
__device__ inline void for_chunks(const Merger& merger, const Geometry& g, const Chunking& c, const V* high,
                                  const V* low, Span span) {
  if (!merger.exists) return;
  int64_t pieces = c.pieces, chunks = int64_t(unsigned(g.parts) / unsigned(pieces));
  for (int64_t chunk = merger.slice; chunk < chunks; chunk += merger.slices) {
    int64_t at = chunk * pieces * g.groups + merger.group;
    V top = high[at], bottom = low[at];
    for (int64_t piece = 1; piece < pieces; ++piece) {
      at += g.groups;
      top = Greatest()(top, high[at]), bottom = Least()(bottom, low[at]);
    }
    span(top, bottom);
  }
}

// After the first phase of L1 and L2.
template <class T>  // none of its own: a kernel per type, so that each source holds all it launches
__global__ void __launch_bounds__(kThreads, 2) mean_kernel(Task task) {
  NX_SHARED(double, slots, kThreads);
  Merger merger = merger_of(task.g.groups, task.slices);
  double sum = merge_parts(merger, task.g, task.partial.sum, 0., slots, Plus());
  if (merger.answers) task.mean[merger.group] = sum / task.n;
}

// After the last phase of all but Top-k.
template <class T>
__global__ void __launch_bounds__(kThreads, 2) line_kernel(Task task) {
  NX_SHARED(double, slots, kThreads);
  const Geometry& g = task.g;
  const Partials& p = task.partial;
  Merger merger = merger_of(g.groups, task.slices);
  double mean, statistic;
  float m;
  if (task.kind == NX_L1 || task.kind == NX_L2) {
    double drift = merge_parts(merger, g, p.drift, 0., slots, Plus()) / task.n;
    double spread = merge_parts(merger, g, p.spread, 0., slots, Plus()) / task.n;
    mean = merger.answers ? task.mean[merger.group] : 0;
    m = float(mean);
    if (isfinite(mean)) mean += drift;
    statistic = task.kind == NX_L1 ? spread : sqrt(fmax(spread - drift * drift, 0.));
  } else {
    mean = merge_parts(merger, g, p.sum, 0., slots, Plus()) / task.n;
    m = float(mean);
    if (task.kind == NX_LINF) {
      double high = merge_parts(merger, g, p.high, -double(kInfinity), slots, Greatest()) - mean;
      double low = mean - merge_parts(merger, g, p.low, double(kInfinity), slots, Least());
      statistic = high > low ? high : low;
    } else {
      double spans = 0;
      for_chunks(merger, g, task.chunking, p.high, p.low,
                 [&](float top, float bottom) { spans += double(top) - double(bottom); });
      statistic = reduce_threads(spans, merger.beside, slots, Plus()) / double(task.chunking.count);
    }
  }
  if (merger.answers) task.line[merger.group] = line_of(task, mean, m, statistic, merger.group % g.channels);
}

}  // namespace nx
