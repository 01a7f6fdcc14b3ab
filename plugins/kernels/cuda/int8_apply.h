// int8, last phase: the statistic from its integers, then every byte as kernels.h defines it. Each operation is rounded
// by itself (__*_rn is never contracted), so that no device and no compiler gives another byte.
#pragma once

#include "int8_range.h"

namespace nx {

// y = ((q - p) + offset)*a + bias.
struct IntLine {
  int p;
  float offset, a, bias;
};

__device__ inline int int_output(int q, const IntLine& line) {
  float y = __fadd_rn(__fmul_rn(__fadd_rn(float(q - line.p), line.offset), line.a), line.bias);
  int whole = __float2int_rn(y);  // half to even, saturating, NaN to 0
  return whole < -128 ? -128 : whole > 127 ? 127 : whole;
}

// (A + B/n) / count in float64.
__device__ inline double int_ratio(long long a, long long b, long long n, long long count) {
  return __ddiv_rn(__dadd_rn(double(a), __ddiv_rn(double(b), double(n))), double(count));
}

// The statistic of channel t of the tile, in thread t < tile*held.
__device__ inline double int_statistic(const IntTask& task, const Place& place, const Group& group, long long sum,
                                       IntMean mean, long long* slots) {
  const Geometry& g = task.g;
  const Tallies& tally = task.tally;
  long long n = task.n, e = mean.e;
  switch (task.kind) {
    case NX_L1: {
      long long size = merge_parts(g, place, tally.size, 0ll, slots, Plus());
      long long above = merge_parts(g, place, tally.above, 0ll, slots, Plus());
      long long level = merge_parts(g, place, tally.level, 0ll, slots, Plus());
      long long sides = above - (n - above - level);
      return int_ratio(size, e * sides + (e < 0 ? -e : e) * level, n, n);
    }
    case NX_LINF: {
      long long rise = merge_parts(g, place, tally.high, -128ll, slots, Greatest()) - mean.p;
      long long drop = mean.p - merge_parts(g, place, tally.low, 127ll, slots, Least());
      return n * rise + e >= n * drop - e ? int_ratio(rise, e, n, 1) : int_ratio(drop, -e, n, 1);
    }
    case NX_RANGE: return int_ratio(merge_spans(task, place, slots), 0, n, task.chunking.count);
    case NX_TOPK: return group.exists ? int_ratio(tally.size[group.index], tally.above[group.index], n, task.k) : 0;
    default: {
      long long squares = merge_parts(g, place, tally.size, 0ll, slots, Plus());
      long long about = squares - 2 * mean.p * sum + n * mean.p * mean.p;  // sum of (q - p)^2
      double shift = __ddiv_rn(__dmul_rn(double(e), double(e)), double(n));
      return __dsqrt_rn(__ddiv_rn(__dsub_rn(double(about), shift), double(n)));
    }
  }
}

__device__ inline IntLine int_finish(const IntTask& task, const Place& place, long long* slots) {
  const Geometry& g = task.g;
  Group group = group_of(g, place, int(threadIdx.x) & (g.tile * g.held - 1));
  long long sum = task.kind != NX_TOPK ? merge_parts(g, place, task.tally.sum, 0ll, slots, Plus())
                  : group.exists       ? task.tally.sum[group.index]
                                       : 0;
  IntMean mean = int_mean(sum, task.n);
  float statistic = float(int_statistic(task, place, group, sum, mean, slots));
  if (threadIdx.x >= unsigned(g.tile * g.held) || !group.exists) return {0, 0, 0, 0};
  float divisor = __fadd_rn(__fmul_rn(task.factor, statistic), task.epsilon);
  return {mean.p, float(__ddiv_rn(double(mean.e), double(task.n))), __fdiv_rn(task.scale[group.channel], divisor),
          task.bias[group.channel]};
}

// The rows of this thread, from x to y.
template <int W, class Output>
__device__ inline void map_rows(const IntTask& task, const Place& place, Output output) {
  const Geometry& g = task.g;
  Seat seat = seat_of(g);
  Column column = column_of(g, place, seat.tx);
  if (!column.exists) return;
  Span span = part_rows(g, place.part);
  int64_t first = span.low + seat.ty;
  Walk to = walk_of(g, g.y_stride, column.offset + place.sample * g.y_stride, first, seat.stride);
  auto* y = static_cast<signed char*>(task.y);
  for_part<W>(
      g, task.x, place,
      [&](Bytes<W> raw, int64_t) {
        unsigned word[words_of<W>()];
        words<W>(raw, word);
#pragma unroll
        for (int i = 0; i < words_of<W>(); ++i) {
          unsigned out = 0;
#pragma unroll
          for (int j = 0; j < (W < 4 ? 1 : 4); ++j)
            out |= (unsigned(output(byte_of(word[i], j), 4 * i + j)) & 255u) << 8 * j;
          word[i] = out;
        }
        if constexpr (W == 1)
          store_vec(y + to.offset, Bytes<1>(word[0]));
        else
          store_vec(y + to.offset, from_words(word));
        to.next();
      },
      [] {});
}

// One channel per tile: its 256 outputs are a table.
template <int W>
__global__ void __launch_bounds__(kThreads, 2) table_kernel(IntTask task) {
  NX_SHARED(long long, slots, kThreads);
  NX_SHARED(IntLine, shared, 1);
  NX_SHARED(unsigned char, table, 256);
  Place place = place_of(task.g, blockIdx.x);
  IntLine line = int_finish(task, place, slots);
  if (threadIdx.x == 0) shared[0] = line;
  __syncthreads();
  line = shared[0];
  for (int b = int(threadIdx.x); b < 256; b += int(blockDim.x)) table[b] = (unsigned char)(int_output(b - 128, line));
  __syncthreads();
  map_rows<W>(task, place, [&](int q, int) { return table[q + 128]; });
}

// Many channels per tile: each output is computed.
template <int W>
__global__ void __launch_bounds__(kThreads, 2) int_apply_kernel(IntTask task) {
  NX_SHARED(long long, slots, kThreads);
  NX_SHARED(float, shared, kGroups);
  const Geometry& g = task.g;
  Place place = place_of(g, blockIdx.x);
  IntLine line = int_finish(task, place, slots);
  float p[W], offset[W], a[W], bias[W];
  share<W>(g, float(line.p), p, shared);
  share<W>(g, line.offset, offset, shared);
  share<W>(g, line.a, a, shared);
  share<W>(g, line.bias, bias, shared);
  map_rows<W>(task, place, [&](int q, int j) { return int_output(q, IntLine{int(p[j]), offset[j], a[j], bias[j]}); });
}

}  // namespace nx
