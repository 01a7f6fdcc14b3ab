// int8 Range: as float/range.cuh, with bytes.
#pragma once

#include "cuda/int8/statistics.cuh"

namespace nx {

// The bytes of word i that lie in [from, to) of the vector.
__device__ inline unsigned byte_mask(int from, int to, int i) {
  const int low = from - 4 * i, high = to - 4 * i;
  const unsigned below = high >= 4 ? ~0u : high <= 0 ? 0u : ~0u >> (32 - 8 * high);
  return below & (low <= 0 ? ~0u : low >= 4 ? 0u : ~0u << 8 * low);
}

template <int W, bool One>
struct IntRange {
  IntSums<W, One> sums;     // of all chunks
  IntExtremes<W> extremes;  // of the chunk at hand

  __device__ void see(const void* x, const Geometry& g, int64_t start, Span span, int first, int stride) {
    const int64_t per_row = int64_t(1) << g.shift, row = (span.low >> g.shift) + first;
    const int64_t end = (span.high + per_row - 1) >> g.shift;
    for_rows<Bytes<W>, W == 16 ? 2 : 4>(  // four would not leave registers enough for sixteen lanes
        static_cast<const signed char*>(x), walk_of(g, g.x_stride, start, row, stride), count_visits(row, end, stride),
        [&](Bytes<W> raw, int64_t i) {
          const int64_t position = (row + i * stride) * per_row, skip = span.low - position,
                        keep = span.high - position;
          const int from = skip > 0 ? int(skip) * g.held : 0, to = keep < per_row ? int(keep) * g.held : W;
          unsigned word[word_count<W>()];
          byte_words<W>(raw, word);
#pragma unroll
          for (int i = 0; i < word_count<W>(); ++i) {
            const unsigned mask = byte_mask(from, to, i), kept = word[i] & mask;
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

template <int W, bool Single>
__global__ void __launch_bounds__(kThreads, 2) int_chunk_spans(IntArgs args) {
  constexpr int kSlots = reduce_slots(Single ? 1 : W);
  NX_SHARED(long long, slots, kSlots);
  const Geometry g = specialise<W, Single>(args.g);
  const Chunking& c = args.chunking;
  const Place place = place_of(g, blockIdx.x);
  const Seat seat = seat_of(g);
  const Column column = column_of(g, place, seat.tx);
  const int groups = g.tile * g.held;
  const Group group = group_of(g, place, int(threadIdx.x) & (groups - 1));
  const int64_t all = g.space * g.samples, start = column.offset + place.sample * g.x_stride;
  const int64_t whole = unsigned(place.part) / unsigned(c.pieces),
                first = c.pieces > 1 ? whole : place.part * c.per_part;
  const int64_t last = minimum(first + c.per_part, c.count);

  IntRange<W, Single || W == 1> range;
  long long high = 0, low = 0;
  if (c.by_rows) {
    long long spans[W] = {};
    if (column.exists)
      for (int64_t chunk = first + seat.ty; chunk < last; chunk += seat.stride) {
        range.see(args.x, g, start, {chunk * c.length, minimum((chunk + 1) * c.length, all)}, 0, 1);
        range.close(g, spans);
      }
    merge_warp<W>(spans, g.held, g.tile, Plus());
    put<W>(spans, g.held, g.tile, slots);
    __syncthreads();
    high = take<long long>(groups, slots, Plus());
  } else {
    int* tops = reinterpret_cast<int*>(slots);
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t piece = place.part - whole * c.pieces, end = minimum((chunk + 1) * c.length, all);
      Span span = {minimum(chunk * c.length + piece * c.piece, end), 0};
      span.high = c.pieces > 1 ? minimum(span.low + c.piece, end) : end;
      range.extremes.forget();
      if (column.exists) range.see(args.x, g, start, span, seat.ty, seat.stride);
      __syncthreads();  // the chunk before may still be taken
      range.extremes.put_extremes(g, tops, tops + kSlots);
      __syncthreads();
      const int top = take<int>(groups, tops, Greatest()), bottom = take<int>(groups, tops + kSlots, Least());
      if (c.pieces > 1) {
        high = top;
        low = bottom;
      } else {
        high += top - bottom;
      }
    }
  }
  __syncthreads();
  put_sums(g, range.sums.sum, slots);
  __syncthreads();
  if (int(threadIdx.x) >= groups || !group.exists) return;
  const int64_t out = place.part * g.groups + group.index;
  args.tally.sum[out] = take<long long>(groups, slots, Plus());
  args.tally.high[out] = high;
  args.tally.low[out] = low;
}

}  // namespace nx
