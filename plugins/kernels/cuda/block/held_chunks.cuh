// Range's chunks where x lies in shared memory, in tiles of one channel: there a tile holds the rows in their order, so
// that each warp takes whole chunks, or what of them lies in this block, wherever they begin.
#pragma once

#include "cuda/block/reduce.cuh"
#include "cuda/memory/chunking.h"
#include "cuda/memory/geometry.cuh"

namespace nx {

// Shares the chunks out to the warps: visit(chunk, from, to) with the elements of it that this block's tile holds,
// counted from the tile's first; none where from >= to.
template <int W, class Visit>
__device__ inline void for_held_chunks(const Geometry& g, const Chunking& c, const Place& place, Visit visit) {
  const Span rows = part_rows(g, place.part), here = {rows.low * W, rows.high * W};
  for (int chunk = int(threadIdx.x) / 32; chunk < int(c.count); chunk += int(blockDim.x) / 32) {
    int64_t begin = chunk * c.length;
    const int64_t end = minimum(begin + c.length, here.high);
    if (begin < here.low) begin = here.low;
    visit(chunk, int(begin - here.low), int(end - here.low));
  }
}

// This thread's share of the sum of (largest - smallest) over the chunks of a statistic, whose extremes lie in every
// block of the cluster.
template <class Total, class V>
__device__ inline Total spans_of_chunks(const Geometry& g, const Chunking& c, V* high, V* low) {
  Total spans = 0;
  for (int chunk = int(threadIdx.x); chunk < int(c.count); chunk += int(blockDim.x)) {
    V top = high[chunk], bottom = low[chunk];
    for (int rank = 0; g.parts > 1 && rank < g.parts; ++rank) {
      top = Greatest()(top, *dsmem(high + chunk, unsigned(rank)));
      bottom = Least()(bottom, *dsmem(low + chunk, unsigned(rank)));
    }
    spans += Total(top) - Total(bottom);
  }
  return spans;
}

}  // namespace nx
