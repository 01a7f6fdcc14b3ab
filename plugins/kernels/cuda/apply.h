// Last phase: statistics from their parts, then y = (x - mean)*a + bias.
#pragma once

#include "range.h"

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

__device__ inline uint4 both(uint4 a, uint4 b) { return make_uint4(a.x & b.x, a.y & b.y, a.z & b.z, a.w & b.w); }
__device__ inline uint2 both(uint2 a, uint2 b) { return make_uint2(a.x & b.x, a.y & b.y); }
template <class V>
__device__ inline V both(V a, V b) { return V(a & b); }

// Which lanes of a thread's vectors are channels rather than padding.
template <class T, int W>
__device__ inline Raw<T, W> channel_mask(const Geometry& g, const Column& column) {
  bool kept[W];
#pragma unroll
  for (int j = 0; j < W; ++j) kept[j] = column.channel + (j & (g.held - 1)) < g.channels;
  return lane_mask<T, W>(kept);
}

// The statistic and the mean of channel t of the tile, in thread t < tile*held.
__device__ inline Line finish(const Task& task, const Place& place, double* slots) {
  const Geometry& g = task.g;
  const Partials& p = task.partial;
  Group group = group_of(g, place, int(threadIdx.x) & (g.tile * g.held - 1));
  double mean, statistic = 0;
  float m;
  if (task.kind == NX_TOPK) {
    mean = group.exists ? task.selection.mean[group.index] : 0;
    statistic = group.exists ? task.selection.statistic[group.index] : 0;
    m = float(mean);
  } else {
    mean = merge_parts(g, place, p.sum, 0., slots, Plus()) / task.n;
    m = float(mean);
    if (task.kind == NX_LINF) {
      double high = merge_parts(g, place, p.high, -double(kInfinity), slots, Greatest());
      double low = merge_parts(g, place, p.low, double(kInfinity), slots, Least());
      statistic = high - mean > mean - low ? high - mean : mean - low;
    } else if (task.kind == NX_RANGE) {
      statistic = merge_chunks(task, place, slots) / double(task.chunking.count);
    } else {
      double drift = merge_parts(g, place, p.drift, 0., slots, Plus()) / task.n;
      double spread = merge_parts(g, place, p.spread, 0., slots, Plus()) / task.n;
      if (isfinite(mean)) mean += drift;
      statistic = task.kind == NX_L1 ? spread : sqrt(fmax(spread - drift * drift, 0.));
    }
  }
  bool asks = threadIdx.x < unsigned(g.tile * g.held) && group.exists;
  return asks ? line_of(task, mean, m, statistic, group.channel) : Line{0, 0, 0};
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads, 3) apply_kernel(Task task) {
  NX_SHARED(double, slots, kThreads);
  NX_SHARED(float, shared, kGroups);
  const Geometry& g = task.g;
  Place place = place_of(g, blockIdx.x);
  Seat seat = seat_of(g);
  Column column = column_of(g, place, seat.tx);
  Span span = part_rows(g, place.part);
  Line line = finish(task, place, slots);
  float m[W], a[W], b[W];
  share<W>(g, line.m, m, shared);
  share<W>(g, line.a, a, shared);
  share<W>(g, line.b, b, shared);
  if (!column.exists) return;

  using Vector = Raw<T, W>;
  const T* x = static_cast<const T*>(task.x);
  T* y = static_cast<T*>(task.y);
  Vector mask = channel_mask<T, W>(g, column);
  int64_t first = span.low + seat.ty, count = visits(first, span.high, seat.stride);
  Walk from = walk_of(g, g.x_stride, column.offset + place.sample * g.x_stride, first, seat.stride);
  Walk to = walk_of(g, g.y_stride, column.offset + place.sample * g.y_stride, first, seat.stride);
  auto put = [&](Vector raw) {
    float v[W];
    widen<T, W>(raw, v);
#pragma unroll
    for (int j = 0; j < W; ++j) v[j] = fmaf(v[j] - m[j], a[j], b[j]);
    store_vec(y + to.offset, both(narrow<T, W>(v), mask));
    to.next();
  };
  constexpr int kFlight = 4;
  int64_t i = 0;
  for (; i + kFlight <= count; i += kFlight) {
    Vector raw[kFlight];
#pragma unroll
    for (int u = 0; u < kFlight; ++u) {
      raw[u] = load_vec<Vector>(x + from.offset);
      from.next();
    }
#pragma unroll
    for (int u = 0; u < kFlight; ++u) put(raw[u]);
  }
  for (; i < count; ++i) {
    put(load_vec<Vector>(x + from.offset));
    from.next();
  }
}

}  // namespace nx
