// Kernels that read x and leave partial statistics: sums and extremes first, then deviations for L1 and L2.
#pragma once

#include "centre.h"

namespace nx {

constexpr float kInfinity = __builtin_huge_valf();

template <int W>
__device__ inline void fill(float (&lane)[W], float value) {
#pragma unroll
  for (int j = 0; j < W; ++j) lane[j] = value;
}

// A float32 sum per lane in two levels: `inner` is emptied every few rows.
template <int W>
struct Sums {
  float inner[W], outer[W];

  __device__ Sums() { fill(inner, 0.f), fill(outer, 0.f); }
  __device__ void flush() {
#pragma unroll
    for (int j = 0; j < W; ++j) outer[j] += inner[j], inner[j] = 0;
  }
};

// The sum of x and its extremes as one thread sees them.
template <class T, int W, bool Extremes>
struct FirstLook {
  float pivot[W];
  Sums<W> sums;
  float high[W], low[W];

  __device__ FirstLook() { fill(high, -kInfinity), fill(low, kInfinity); }
  __device__ void see(Raw<T, W> raw) {
    float x[W];
    widen<T, W>(raw, x);
#pragma unroll
    for (int j = 0; j < W; ++j) {
      sums.inner[j] += x[j] - pivot[j];
      if (Extremes) high[j] = fmaxf(high[j], x[j]), low[j] = fminf(low[j], x[j]);
    }
  }
};

// Deviations from the mean m + rest as one thread sees them: their sum, which stays near 0 and so needs one level alone,
// and that of their sizes or squares. At mean 100 and deviation 1e-3 sizes about m alone would be off by 1e-4.
template <class T, int W, bool Square>
struct SecondLook {
  float m[W], rest[W], drift[W];
  Sums<W> spread;

  __device__ SecondLook() { fill(drift, 0.f); }
  __device__ void see(Raw<T, W> raw) {
    float x[W];
    widen<T, W>(raw, x);
#pragma unroll
    for (int j = 0; j < W; ++j) {
      float d = (x[j] - m[j]) - rest[j];
      drift[j] += d;
      spread.inner[j] = Square ? fmaf(d, d, spread.inner[j]) : spread.inner[j] + fabsf(d);
    }
  }
  __device__ void flush() { spread.flush(); }
};

template <int W>
__device__ inline void keep_extremes(const Task& task, const Place& place, float (&high)[W], float (&low)[W]) {
  const Geometry& g = task.g;
  int wide = stretch(g), per_warp = wide / g.tile, lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  merge_warp<W>(high, g.held, wide, Greatest());
  merge_warp<W>(low, g.held, wide, Least());
  if (lane >= wide) return;
  int64_t slot = (int64_t(place.part) * (int(blockDim.x) / 32) + warp) * per_warp + lane / g.tile;
#pragma unroll
  for (int j = 0; j < W; ++j)
    if (j < g.held) {
      Group group = group_of(g, place, (lane & (g.tile - 1)) * g.held + j);
      if (!group.exists) continue;
      task.selection.high[slot * g.groups + group.index] = high[j];
      task.selection.low[slot * g.groups + group.index] = low[j];
    }
}

// First phase: the sum of x, and its extremes for Linf and Top-k.
template <class T, int W, bool Extremes>
__global__ void __launch_bounds__(kThreads, 2) first_kernel(Task task) {
  NX_SHARED(float, slots, reduce_slots(W));
  NX_SHARED(float, shared, kGroups);
  const Geometry& g = task.g;
  const T* x = static_cast<const T*>(task.x);
  Place place = place_of(g, blockIdx.x);
  Seat seat = seat_of(g);
  Column column = column_of(g, place, seat.tx);
  Span span = part_rows(g, place.part);
  Group group = group_of(g, place, int(threadIdx.x) & (g.tile * g.held - 1));

  float pivot = threadIdx.x < unsigned(g.tile * g.held) && group.exists ? pivot_of(g, x, group, place.sample) : 0;
  FirstLook<T, W, Extremes> look;
  share<W>(g, pivot, look.pivot, shared);
  if (column.exists) {
    int64_t first = span.low + seat.ty, start = column.offset + place.sample * g.x_stride;
    for_rows<Raw<T, W>>(
        x, walk_of(g, g.x_stride, start, first, seat.stride), visits(first, span.high, seat.stride),
        [&](Raw<T, W> raw, int64_t) { look.see(raw); }, [&] { look.sums.flush(); });
  }

  int64_t out = place.part * g.groups + group.index;
  bool writes = threadIdx.x < unsigned(g.tile * g.held) && group.exists;
  double count = double((span.high - span.low) << g.shift);
  double sum = reduce_tile<double, W>(look.sums.outer, g.held, g.tile, slots, Plus());
  if (writes) task.partial.sum[out] = sum + double(pivot) * count;
  if constexpr (Extremes) {
    merge_lanes<W>(look.high, g.held, Greatest());
    merge_lanes<W>(look.low, g.held, Least());
    if (task.kind == NX_TOPK) {
      keep_extremes<W>(task, place, look.high, look.low);
      if (writes && place.part == 0) task.selection.found[group.index] = 0;
      return;
    }
    float high = reduce_tile<float, W>(look.high, g.held, g.tile, slots, Greatest());
    float low = reduce_tile<float, W>(look.low, g.held, g.tile, slots, Least());
    if (writes) task.partial.high[out] = high, task.partial.low[out] = low;
  }
}

// Second phase of L1 and L2: deviations from the mean; their sum is what the first phase's rounding left.
template <class T, int W, bool Square>
__global__ void __launch_bounds__(kThreads, 2) second_kernel(Task task) {
  NX_SHARED(float, slots, reduce_slots(W));
  NX_SHARED(double, wide, kThreads);
  NX_SHARED(float, shared, kGroups);
  const Geometry& g = task.g;
  const T* x = static_cast<const T*>(task.x);
  Place place = place_of(g, blockIdx.x);
  Seat seat = seat_of(g);
  Column column = column_of(g, place, seat.tx);
  Span span = part_rows(g, place.part);
  Group group = group_of(g, place, int(threadIdx.x) & (g.tile * g.held - 1));

  double mean = merge_parts(g, place, task.partial.sum, 0., wide, Plus()) / task.n;
  SecondLook<T, W, Square> look;
  share<W>(g, float(mean), look.m, shared);
  share<W>(g, rest_of(mean), look.rest, shared);
  if (column.exists) {
    int64_t first = span.low + seat.ty, start = column.offset + place.sample * g.x_stride;
    for_rows<Raw<T, W>>(
        x, walk_of(g, g.x_stride, start, first, seat.stride), visits(first, span.high, seat.stride),
        [&](Raw<T, W> raw, int64_t) { look.see(raw); }, [&] { look.flush(); });
  }

  int64_t out = place.part * g.groups + group.index;
  bool writes = threadIdx.x < unsigned(g.tile * g.held) && group.exists;
  double drift = reduce_tile<double, W>(look.drift, g.held, g.tile, slots, Plus());
  double spread = reduce_tile<double, W>(look.spread.outer, g.held, g.tile, slots, Plus());
  if (writes) task.partial.drift[out] = drift, task.partial.spread[out] = spread;
}

}  // namespace nx
