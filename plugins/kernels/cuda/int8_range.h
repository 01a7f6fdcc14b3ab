// int8 Range: as range.h, with bytes.
#pragma once

#include "int8_statistics.h"

namespace nx {

// The bytes of word i that lie in [from, to) of the vector.
__device__ inline unsigned byte_mask(int from, int to, int i) {
  int low = from - 4 * i, high = to - 4 * i;
  unsigned below = high >= 4 ? ~0u : high <= 0 ? 0u : ~0u >> (32 - 8 * high);
  return below & (low <= 0 ? ~0u : low >= 4 ? 0u : ~0u << 8 * low);
}

template <int W, bool One>
struct IntRange {
  IntSums<W, One> sums;
  IntExtremes<W> extremes;

  __device__ void see(const IntTask& task, int64_t start, Span span, int first, int stride) {
    const Geometry& g = task.g;
    int64_t per_row = int64_t(1) << g.shift, row = (span.low >> g.shift) + first;
  int64_t end = (span.high + per_row - 1) >> g.shift;
    for_rows<Bytes<W>, W == 16 ? 2 : 4>(  // four would not leave registers enough for sixteen lanes
        static_cast<const signed char*>(task.x), walk_of(g, g.x_stride, start, row, stride), visits(row, end, stride),
        [&](Bytes<W> raw, int64_t i) {
          int64_t position = (row + i * stride) * per_row, skip = span.low - position, keep = span.high - position;
          int from = skip > 0 ? int(skip) * g.held : 0, to = keep < per_row ? int(keep) * g.held : W;
          unsigned word[words_of<W>()];
          words<W>(raw, word);
#pragma unroll
          for (int i = 0; i < words_of<W>(); ++i) {
            unsigned mask = byte_mask(from, to, i), kept = word[i] & mask;
            sums.add(kept, i);
            extremes.see(kept | (kLowest & ~mask), kept | (kHighest & ~mask), i);
          }
        },
        [] {});
  }

  // Adds high - low of each channel to `spans`, lanes 0 .. held-1, and forgets them.
  __device__ void close(const Geometry& g, long long (&spans)[W]) {
    int top[W], bottom[W];
    extremes.unpack(top, bottom);
    merge_lanes<W>(top, g.held, Greatest());
    merge_lanes<W>(bottom, g.held, Least());
#pragma unroll
    for (int j = 0; j < W; ++j)
      if (j < g.held) spans[j] += top[j] - bottom[j];
    extremes.forget();
  }
};

template <int W, bool One>
__global__ void __launch_bounds__(kThreads, 2) int_range_kernel(IntTask task) {
  NX_SHARED(long long, slots, reduce_slots(W));
  const Geometry& g = task.g;
  const Chunking& c = task.chunking;
  Place place = place_of(g, blockIdx.x);
  Seat seat = seat_of(g);
  Column column = column_of(g, place, seat.tx);
  Group group = group_of(g, place, int(threadIdx.x) & (g.tile * g.held - 1));
  int64_t all = g.space * g.samples, start = column.offset + place.sample * g.x_stride;
  int64_t whole = unsigned(place.part) / unsigned(c.pieces), first = c.pieces > 1 ? whole : place.part * c.per_part;
  int64_t last = smaller(first + c.per_part, c.count);

  IntRange<W, One> range;
  long long high = 0, low = 0;
  if (c.by_rows) {
    long long spans[W] = {};
    if (column.exists)
      for (int64_t chunk = first + seat.ty; chunk < last; chunk += seat.stride) {
        range.see(task, start, {chunk * c.length, smaller((chunk + 1) * c.length, all)}, 0, 1);
        range.close(g, spans);
      }
    merge_warp<W>(spans, g.held, g.tile, Plus());
    high = reduce_block<long long, W>(spans, g.held, g.tile, slots, Plus());
  } else {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      int64_t piece = place.part - whole * c.pieces, end = smaller((chunk + 1) * c.length, all);
      Span span = {smaller(chunk * c.length + piece * c.piece, end), 0};
      span.high = c.pieces > 1 ? smaller(span.low + c.piece, end) : end;
      range.extremes.forget();
      if (column.exists) range.see(task, start, span, seat.ty, seat.stride);
      int top, bottom;
      range.extremes.merge(g, reinterpret_cast<int*>(slots), top, bottom);
      if (c.pieces > 1)
        high = top, low = bottom;
      else
        high += top - bottom;
    }
  }
  long long sum = tally<W, One>(g, range.sums.sum, slots);
  if (threadIdx.x < unsigned(g.tile * g.held) && group.exists) {
    int64_t out = place.part * g.groups + group.index;
    task.tally.sum[out] = sum, task.tally.high[out] = high, task.tally.low[out] = low;
  }
}

// Sum over chunks of (largest - smallest), from the parts; valid in thread t < tile*held.
__device__ inline long long merge_spans(const IntTask& task, const Place& place, long long* slots) {
  const Geometry& g = task.g;
  const Chunking& c = task.chunking;
  int groups = g.tile * g.held, t = int(threadIdx.x), chunks = int(unsigned(g.parts) / unsigned(c.pieces));
  Group group = group_of(g, place, t & (groups - 1));
  long long total = 0;
  if (group.exists)
    for (int64_t chunk = t / groups; chunk < chunks; chunk += int(blockDim.x) / groups) {
      long long high = -128, low = 127;
      if (c.pieces == 1) high = low = 0;  // sums of spans
      for (int64_t part = chunk * c.pieces; part < (chunk + 1) * c.pieces; ++part) {
        long long top = task.tally.high[part * g.groups + group.index];
        long long bottom = task.tally.low[part * g.groups + group.index];
        high = high > top ? high : top, low = low < bottom ? low : bottom;
      }
      total += high - low;
    }
  return reduce_threads(total, groups, slots, Plus());
}

}  // namespace nx
