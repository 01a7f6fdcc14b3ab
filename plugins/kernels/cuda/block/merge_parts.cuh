// Merges what the parts of a statistic left: a few threads per statistic, between the phases.
#pragma once

#include "cuda/block/reduce.cuh"
#include "cuda/memory/chunking.h"
#include "cuda/memory/geometry.cuh"

namespace nx {

// Blocks of kThreads merge kThreads/slices statistics, side by side as they lie in memory: thread t takes every
// slices-th part of statistic t % beside, and thread t < beside ends with all of them.
struct Merger {
  int beside;     // statistics of the block
  int slice;      // the first part of this thread
  int slices;     // parts from one to its next
  int64_t group;  // its statistic
  bool exists;    // false beyond the last statistic
  bool answers;   // ends with all parts of its statistic
};

__device__ inline Merger merger_of(int64_t groups, int slices) {
  Merger merger;
  const int t = int(threadIdx.x);
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
  const int64_t pieces = c.pieces, chunks = int64_t(unsigned(g.parts) / unsigned(pieces));
  for (int64_t chunk = merger.slice; chunk < chunks; chunk += merger.slices) {
    int64_t at = chunk * pieces * g.groups + merger.group;
    V top = high[at], bottom = low[at];
    for (int64_t piece = 1; piece < pieces; ++piece) {
      at += g.groups;
      top = Greatest()(top, high[at]);
      bottom = Least()(bottom, low[at]);
    }
    span(top, bottom);
  }
}

}  // namespace nx
