// Last phase: y = (x - m)*a + b.
#pragma once

#include "cuda/float/statistics.cuh"

namespace nx {

// Vectors whose lanes beyond the last channel are cleared: ones where a lane is kept.
template <class T, int W>
__device__ inline Raw<T, W> lane_mask(const bool (&kept)[W]) {
  constexpr int bits = 8 * sizeof(T);
  if constexpr (sizeof(T) * W < 4) {
    return Raw<T, W>(kept[0] ? ~0u : 0u);
  } else {
    constexpr int per_word = 4 / sizeof(T);
    unsigned word[W / per_word];
#pragma unroll
    for (int i = 0; i < W / per_word; ++i) word[i] = 0;
#pragma unroll
    for (int j = 0; j < W; ++j)
      if (kept[j]) word[j / per_word] |= (~0u >> (32 - bits)) << (j % per_word * bits);
    return from_words(word);
  }
}

__device__ inline uint4 bitwise_and(uint4 a, uint4 b) { return make_uint4(a.x & b.x, a.y & b.y, a.z & b.z, a.w & b.w); }
__device__ inline uint2 bitwise_and(uint2 a, uint2 b) { return make_uint2(a.x & b.x, a.y & b.y); }
template <class V>
__device__ inline V bitwise_and(V a, V b) {
  return V(a & b);
}

// Which lanes of a thread's vectors are channels rather than padding.
template <class T, int W>
__device__ inline Raw<T, W> channel_mask(const Geometry& g, const Column& column) {
  bool kept[W];
#pragma unroll
  for (int j = 0; j < W; ++j) kept[j] = column.channel + (j & (g.held - 1)) < g.channels;
  return lane_mask<T, W>(kept);
}

// What a thread does to its vectors: the lines of their channels, and which lanes are channels at all.
template <class T, int W>
struct Map {
  float m[W];      // of each lane's line
  float a[W];      // the same
  float b[W];      // the same
  Raw<T, W> mask;  // ones where a lane is a channel

  __device__ Map(const Geometry& g, const Column& column, const Line* lines) : mask(channel_mask<T, W>(g, column)) {
#pragma unroll
    for (int j = 0; j < W; ++j) {
      const Line line = lines[local_of(g, j)];
      m[j] = line.m;
      a[j] = line.a;
      b[j] = line.b;
    }
  }
  __device__ Raw<T, W> operator()(Raw<T, W> raw) const {
    float v[W];
    widen<T, W>(raw, v);
#pragma unroll
    for (int j = 0; j < W; ++j) v[j] = fmaf(v[j] - m[j], a[j], b[j]);
    return bitwise_and(narrow<T, W>(v), mask);
  }
};

template <class T, int W, bool Single>
__global__ void __launch_bounds__(kThreads, 3) apply_line(FloatArgs args) {
  NX_SHARED(Line, lines, Single ? 1 : kGroups);
  const Geometry g = specialise<W, Single>(args.g);
  const Place place = place_of(g, blockIdx.x);
  const Group group = group_of(g, place, int(threadIdx.x) & (g.tile * g.held - 1));
  publish(g, group.exists ? args.line[group.index] : Line{0, 0, 0}, lines);

  const Rows<T, W> rows(g, place);
  Map<T, W> map(g, rows.column, lines);
  const Seat seat = seat_of(g);
  const int64_t first = part_rows(g, place.part).low + seat.ty;
  Walk to = walk_of(g, g.y_stride, rows.column.offset + place.sample * g.y_stride, first, seat.stride);
  T* y = static_cast<T*>(args.y);
  rows.visit(
      static_cast<const T*>(args.x),
      [&](Raw<T, W> raw) {
        store_vec(y + to.offset, map(raw));
        to.next();
      },
      [] {});
}

}  // namespace nx
