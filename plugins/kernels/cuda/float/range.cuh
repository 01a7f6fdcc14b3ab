// Range: the sum of x and the extremes of every chunk, in one pass.
//
// A part is either several whole chunks (it leaves the sum of their spans in `high` and 0 in `low`) or a piece of one
// chunk (it leaves the piece's extremes). Chunks begin anywhere, so the lanes of the first and last vector are masked.
#pragma once

#include "cuda/float/statistics.cuh"

namespace nx {

// The positions [low, high) of a group, in the order of sample and then space, as one thread sees them.
template <class T, int W>
__device__ inline void see_positions(const Geometry& g, const T* x, int64_t start, Span span, int first, int stride,
                                     FirstLook<T, W, true>& look) {
  const int64_t per_row = int64_t(1) << g.shift, row = (span.low >> g.shift) + first;
  const int64_t end = (span.high + per_row - 1) >> g.shift;
  for_rows<Raw<T, W>>(
      x, walk_of(g, g.x_stride, start, row, stride), count_visits(row, end, stride),
      [&](Raw<T, W> raw, int64_t i) {
        float v[W];
        widen<T, W>(raw, v);
        const int64_t position = (row + i * stride) * per_row, skip = span.low - position, keep = span.high - position;
        const int from = skip > 0 ? int(skip) * g.held : 0, to = keep < per_row ? int(keep) * g.held : W;
#pragma unroll
        for (int j = 0; j < W; ++j) {
          if (j < from || j >= to) continue;
          look.sums.inner[j] += v[j] - look.pivot[j];
          look.high[j] = fmaxf(look.high[j], v[j]);
          look.low[j] = fminf(look.low[j], v[j]);
        }
      },
      [&] { look.sums.flush(); });
}

// Adds high - low, merged over the lanes of a channel, to lanes 0 .. held-1 of `spans`, and forgets them.
template <class T, int W>
__device__ inline void close_chunk(const Geometry& g, FirstLook<T, W, true>& look, float (&spans)[W]) {
  merge_lanes<W>(look.high, g.held, Greatest());
  merge_lanes<W>(look.low, g.held, Least());
#pragma unroll
  for (int j = 0; j < W; ++j)
    if (j < g.held) spans[j] += look.high[j] - look.low[j];
  fill(look.high, -kInfinity);
  fill(look.low, kInfinity);
}

template <class T, int W, bool Single>
__global__ void __launch_bounds__(kThreads, 2) chunk_spans(FloatArgs args) {
  constexpr int kSlots = reduce_slots(Single ? 1 : W);
  NX_SHARED(float, slots, 2 * kSlots);
  NX_SHARED(float, pivots, Single ? 1 : kGroups);
  const Geometry g = specialise<W, Single>(args.g);
  const Chunking& c = args.chunking;
  const T* x = static_cast<const T*>(args.x);
  const Place place = place_of(g, blockIdx.x);
  const Seat seat = seat_of(g);
  const Column column = column_of(g, place, seat.tx);
  const int groups = g.tile * g.held;
  const Group group = group_of(g, place, int(threadIdx.x) & (groups - 1));
  const bool writes = int(threadIdx.x) < groups && group.exists;
  const int64_t all = g.space * g.samples, start = column.offset + place.sample * g.x_stride;
  const int64_t whole = unsigned(place.part) / unsigned(c.pieces),
                first = c.pieces > 1 ? whole : place.part * c.per_part;
  const int64_t last = minimum(first + c.per_part, c.count);

  const float pivot = writes ? pivot_of(g, x, group, place.sample) : 0;
  FirstLook<T, W, true> look;
  publish(g, pivot, pivots);
  look.load_pivots(g, pivots);
  float high = 0, low = 0;
  int64_t positions = 0;
  if (c.by_rows) {  // short chunks: each row of threads takes whole ones
    float spans[W];
    fill(spans, 0.f);
    if (column.exists)
      for (int64_t chunk = first + seat.ty; chunk < last; chunk += seat.stride) {
        const Span span = {chunk * c.length, minimum((chunk + 1) * c.length, all)};
        see_positions<T, W>(g, x, start, span, 0, 1, look);
        close_chunk<T, W>(g, look, spans);
      }
    merge_warp<W>(spans, g.held, g.tile, Plus());
    put<W>(spans, g.held, g.tile, slots);
    __syncthreads();
    high = take<float>(groups, slots, Plus());
    positions = minimum(last * c.length, all) - first * c.length;
  } else {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t piece = place.part - whole * c.pieces, end = minimum((chunk + 1) * c.length, all);
      Span span = {minimum(chunk * c.length + piece * c.piece, end), 0};
      span.high = c.pieces > 1 ? minimum(span.low + c.piece, end) : end;
      positions += span.high - span.low;
      fill(look.high, -kInfinity);
      fill(look.low, kInfinity);
      if (column.exists) see_positions<T, W>(g, x, start, span, seat.ty, seat.stride, look);
      merge<W>(look.high, g.held, g.tile, Greatest());
      merge<W>(look.low, g.held, g.tile, Least());
      __syncthreads();  // the chunk before may still be taken
      put<W>(look.high, g.held, g.tile, slots);
      put<W>(look.low, g.held, g.tile, slots + kSlots);
      __syncthreads();
      const float top = take<float>(groups, slots, Greatest()), bottom = take<float>(groups, slots + kSlots, Least());
      if (c.pieces > 1) {
        high = top;
        low = bottom;
      } else {
        high += top - bottom;
      }
    }
  }
  const double sum = reduce_tile<double, W>(look.sums.outer, g.held, g.tile, slots, Plus());
  if (writes) {
    const int64_t out = place.part * g.groups + group.index;
    args.partial.sum[out] = sum + double(pivot) * double(positions);
    args.partial.high[out] = high;
    args.partial.low[out] = low;
  }
}

}  // namespace nx
