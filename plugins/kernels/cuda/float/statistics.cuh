// Kernels that read x and leave partial statistics: sums and extremes first, then deviations for L1 and L2.
#pragma once

#include "cuda/block/reduce.cuh"
#include "cuda/float/centre.cuh"

namespace nx {

template <int W>
__device__ inline void fill(float (&lane)[W], float value) {
#pragma unroll
  for (int j = 0; j < W; ++j) lane[j] = value;
}

// A float32 sum per lane in two levels: `inner` is emptied every few rows.
template <int W>
struct Sums {
  float inner[W];  // of a few rows
  float outer[W];  // of all before them

  __device__ Sums() {
    fill(inner, 0.f);
    fill(outer, 0.f);
  }
  __device__ void flush() {
#pragma unroll
    for (int j = 0; j < W; ++j) {
      outer[j] += inner[j];
      inner[j] = 0;
    }
  }
};

// The sum of x and its extremes as one thread sees them.
template <class T, int W, bool Extremes>
struct FirstLook {
  float pivot[W];  // of each lane's channel
  Sums<W> sums;    // of x - pivot
  float high[W];   // the largest x
  float low[W];    // the smallest

  __device__ FirstLook() {
    fill(high, -kInfinity);
    fill(low, kInfinity);
  }
  __device__ void load_pivots(const Geometry& g, const float* pivots) {
#pragma unroll
    for (int j = 0; j < W; ++j) pivot[j] = pivots[local_of(g, j)];
  }
  __device__ void see(Raw<T, W> raw) {
    float x[W];
    widen<T, W>(raw, x);
#pragma unroll
    for (int j = 0; j < W; ++j) {
      sums.inner[j] += x[j] - pivot[j];
      if (Extremes) {
        high[j] = fmaxf(high[j], x[j]);
        low[j] = fminf(low[j], x[j]);
      }
    }
  }
};

// Deviations from the mean m + rest as one thread sees them: their sum, which stays near 0 and so needs one level
// alone, and that of their sizes or squares. At mean 100 and deviation 1e-3 sizes about m alone would be off by 1e-4.
template <class T, int W, bool Square>
struct SecondLook {
  float m[W];      // the mean, rounded
  float rest[W];   // what rounding left
  float drift[W];  // sum of x - mean
  Sums<W> spread;  // of |x - mean| or its square

  __device__ SecondLook() { fill(drift, 0.f); }
  __device__ void load_centres(const Geometry& g, const Centre* centres) {
#pragma unroll
    for (int j = 0; j < W; ++j) {
      const Centre centre = centres[local_of(g, j)];
      m[j] = centre.m;
      rest[j] = centre.rest;
    }
  }
  __device__ void see(Raw<T, W> raw) {
    float x[W];
    widen<T, W>(raw, x);
#pragma unroll
    for (int j = 0; j < W; ++j) {
      const float d = (x[j] - m[j]) - rest[j];
      drift[j] += d;
      spread.inner[j] = Square ? fmaf(d, d, spread.inner[j]) : spread.inner[j] + fabsf(d);
    }
  }
  __device__ void flush() { spread.flush(); }
};

template <int W>
__device__ inline void keep_extremes(const FloatArgs& args, const Geometry& g, const Place& place, float (&high)[W],
                                     float (&low)[W]) {
  const int wide = stretch(g), per_warp = wide / g.tile, lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  merge_warp<W>(high, g.held, wide, Greatest());
  merge_warp<W>(low, g.held, wide, Least());
  if (lane >= wide) return;
  const int64_t slot = (int64_t(place.part) * (int(blockDim.x) / 32) + warp) * per_warp + lane / g.tile;
#pragma unroll
  for (int j = 0; j < W; ++j)
    if (j < g.held) {
      const Group group = group_of(g, place, (lane & (g.tile - 1)) * g.held + j);
      if (!group.exists) continue;
      args.selection.high[slot * g.groups + group.index] = high[j];
      args.selection.low[slot * g.groups + group.index] = low[j];
    }
}

// What every phase begins with: the rows of this thread.
template <class T, int W>
struct Rows {
  Column column;  // of this thread
  Walk walk;      // from its first row on
  int64_t count;  // rows of the walk

  __device__ Rows(const Geometry& g, const Place& place) {
    const Seat seat = seat_of(g);
    const Span span = part_rows(g, place.part);
    const int64_t first = span.low + seat.ty;
    column = column_of(g, place, seat.tx);
    count = column.exists ? count_visits(first, span.high, seat.stride) : 0;
    walk = walk_of(g, g.x_stride, column.offset + place.sample * g.x_stride, first, seat.stride);
  }
  template <class Visit, class Flush>
  __device__ void visit(const T* x, Visit see, Flush flush) const {
    for_rows<Raw<T, W>>(x, walk, count, [&](Raw<T, W> raw, int64_t) { see(raw); }, flush);
  }
};

// First phase: the sum of x, and its extremes for Linf and Top-k.
template <class T, int W, bool Single, bool Extremes>
__global__ void __launch_bounds__(kThreads, 2) sum_extremes(FloatArgs args) {
  constexpr int kSlots = reduce_slots(Single ? 1 : W);
  NX_SHARED(float, slots, Extremes ? 3 * kSlots : kSlots);
  NX_SHARED(float, pivots, Single ? 1 : kGroups);
  const Geometry g = specialise<W, Single>(args.g);
  const T* x = static_cast<const T*>(args.x);
  const Place place = place_of(g, blockIdx.x);
  const int groups = g.tile * g.held;
  const Group group = group_of(g, place, int(threadIdx.x) & (groups - 1));
  const bool writes = int(threadIdx.x) < groups && group.exists;

  const float pivot = writes ? pivot_of(g, x, group, place.sample) : 0;
  const Rows<T, W> rows(g, place);
  FirstLook<T, W, Extremes> look;
  publish(g, pivot, pivots);
  look.load_pivots(g, pivots);
  rows.visit(x, [&](Raw<T, W> raw) { look.see(raw); }, [&] { look.sums.flush(); });

  merge<W>(look.sums.outer, g.held, g.tile, Plus());
  put<W>(look.sums.outer, g.held, g.tile, slots);
  if constexpr (Extremes) {
    merge_lanes<W>(look.high, g.held, Greatest());
    merge_lanes<W>(look.low, g.held, Least());
    if (args.kind == NX_TOPK) {
      keep_extremes<W>(args, g, place, look.high, look.low);
      if (writes && place.part == 0) args.selection.found[group.index] = 0;
    } else {
      merge_warp<W>(look.high, g.held, g.tile, Greatest());
      merge_warp<W>(look.low, g.held, g.tile, Least());
      put<W>(look.high, g.held, g.tile, slots + kSlots);
      put<W>(look.low, g.held, g.tile, slots + 2 * kSlots);
    }
  }
  __syncthreads();
  if (!writes) return;
  const int64_t out = place.part * g.groups + group.index;
  const Span span = part_rows(g, place.part);
  const double count = double((span.high - span.low) << g.shift);
  args.partial.sum[out] = take<double>(groups, slots, Plus()) + double(pivot) * count;
  if constexpr (Extremes)
    if (args.kind != NX_TOPK) {
      args.partial.high[out] = take<float>(groups, slots + kSlots, Greatest());
      args.partial.low[out] = take<float>(groups, slots + 2 * kSlots, Least());
    }
}

// Second phase of L1 and L2: deviations from the mean; their sum is what the first phase's rounding left.
template <class T, int W, bool Single, bool Square>
__global__ void __launch_bounds__(kThreads, 2) deviations(FloatArgs args) {
  constexpr int kSlots = reduce_slots(Single ? 1 : W);
  NX_SHARED(float, slots, 2 * kSlots);
  NX_SHARED(Centre, centres, Single ? 1 : kGroups);
  const Geometry g = specialise<W, Single>(args.g);
  const Place place = place_of(g, blockIdx.x);
  const int groups = g.tile * g.held;
  const Group group = group_of(g, place, int(threadIdx.x) & (groups - 1));
  const bool writes = int(threadIdx.x) < groups && group.exists;

  const Centre centre = writes ? centre_of(args.mean[group.index]) : Centre{0, 0};
  const Rows<T, W> rows(g, place);
  publish(g, centre, centres);
  SecondLook<T, W, Square> look;
  look.load_centres(g, centres);
  rows.visit(static_cast<const T*>(args.x), [&](Raw<T, W> raw) { look.see(raw); }, [&] { look.flush(); });

  merge<W>(look.drift, g.held, g.tile, Plus());
  merge<W>(look.spread.outer, g.held, g.tile, Plus());
  put<W>(look.drift, g.held, g.tile, slots);
  put<W>(look.spread.outer, g.held, g.tile, slots + kSlots);
  __syncthreads();
  if (!writes) return;
  const int64_t out = place.part * g.groups + group.index;
  args.partial.drift[out] = take<double>(groups, slots, Plus());
  args.partial.spread[out] = take<double>(groups, slots + kSlots, Plus());
}

}  // namespace nx
