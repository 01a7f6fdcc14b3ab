// int8, last phase: every byte as kernels.h defines it. Each operation is rounded by itself (__*_rn is never
// contracted), so that no device and no compiler gives another byte.
#pragma once

#include "cuda/int8/statistics.cuh"

namespace nx {

__device__ inline int int_output(int q, const IntLine& line) {
  const float y = __fadd_rn(__fmul_rn(__fadd_rn(float(q - line.p), line.offset), line.a), line.bias);
  const int whole = __float2int_rn(y);  // half to even, saturating, NaN to 0
  return whole < -128 ? -128 : whole > 127 ? 127 : whole;
}

// output(q, lane) of every byte of a vector.
template <int W, class Output>
__device__ inline Bytes<W> map_bytes(Bytes<W> raw, Output output) {
  unsigned word[word_count<W>()];
  byte_words<W>(raw, word);
#pragma unroll
  for (int i = 0; i < word_count<W>(); ++i) {
    unsigned out = 0;
#pragma unroll
    for (int j = 0; j < (W < 4 ? 1 : 4); ++j) out |= (unsigned(output(byte_of(word[i], j), 4 * i + j)) & 255u) << 8 * j;
    word[i] = out;
  }
  if constexpr (W == 1)
    return Bytes<1>(word[0]);
  else
    return from_words(word);
}

// The rows of this thread, from x to y.
template <int W, class Output>
__device__ inline void map_rows(const IntArgs& args, const Geometry& g, const Place& place, Output output) {
  const Seat seat = seat_of(g);
  const Column column = column_of(g, place, seat.tx);
  if (!column.exists) return;
  const int64_t first = part_rows(g, place.part).low + seat.ty;
  Walk to = walk_of(g, g.y_stride, column.offset + place.sample * g.y_stride, first, seat.stride);
  auto* y = static_cast<signed char*>(args.y);
  for_part<W>(
      g, args.x, place,
      [&](Bytes<W> raw, int64_t) {
        store_vec(y + to.offset, map_bytes<W>(raw, output));
        to.next();
      },
      [] {});
}

// One channel per tile: its 256 outputs are a table.
template <int W>
__global__ void __launch_bounds__(kThreads, 3) int_apply_table(IntArgs args) {
  NX_SHARED(unsigned char, table, 256);
  const Geometry g = specialise<W, true>(args.g);
  const Place place = place_of(g, blockIdx.x);
  const Group group = group_of(g, place, 0);
  const IntLine line = group.exists ? args.line[group.index] : IntLine{0, 0, 0, 0};
  for (int b = int(threadIdx.x); b < 256; b += int(blockDim.x)) table[b] = (unsigned char)(int_output(b - 128, line));
  __syncthreads();
  map_rows<W>(args, g, place, [&](int q, int) { return table[q + 128]; });
}

// Many channels per tile: each output is computed.
template <int W>
__global__ void __launch_bounds__(kThreads, 2) int_apply_line(IntArgs args) {
  NX_SHARED(IntLine, lines, kGroups);
  const Geometry& g = args.g;
  const Place place = place_of(g, blockIdx.x);
  const Group group = group_of(g, place, int(threadIdx.x) & (g.tile * g.held - 1));
  publish(g, group.exists ? args.line[group.index] : IntLine{0, 0, 0, 0}, lines);
  IntLine line[W];
#pragma unroll
  for (int j = 0; j < W; ++j) line[j] = lines[local_of(g, j)];
  map_rows<W>(args, g, place, [&](int q, int j) { return int_output(q, line[j]); });
}

}  // namespace nx
