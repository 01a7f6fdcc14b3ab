// The whole norm in one kernel: a tile of columns stays in shared memory, so x is read once and y written once.
//
// A statistic belongs to one block, or to a cluster of blocks (sm_90 and later) that each hold some of its rows and
// read each other's sums through distributed shared memory, in the order of their ranks. Every thread copies, with
// cp.async, just the vectors that it will read itself.
#pragma once

#include "apply.h"

namespace nx {

// What a block of a cluster leaves for its peers: sums of each channel of its tile.
struct Exchange {
  double* sums;  // kGroups
  int ranks;
};

// Merges value (of channel t in thread t < groups) over the cluster. Every block gets the same bits.
template <class Op>
__device__ inline double over_cluster(const Exchange& exchange, double value, int groups, Op op) {
  if (exchange.ranks == 1) return value;
  int t = int(threadIdx.x);
  nx_cluster_sync();  // peers may still read what was exchanged before
  if (t < groups) exchange.sums[t] = value;
  nx_cluster_sync();
  double total = 0;
  if (t < groups) {
    total = *dsmem(exchange.sums + t, 0);
    for (int rank = 1; rank < exchange.ranks; ++rank) total = op(total, *dsmem(exchange.sums + t, unsigned(rank)));
  }
  return total;
}

// Starts copying this thread's rows to vectors t, t + threads, ... of the tile.
template <class Vector, class T>
__device__ inline void fetch(const T* x, Walk& walk, int count, Vector* tile) {
  int at = int(threadIdx.x);
  for (int i = 0; i < count; ++i, at += int(blockDim.x)) {
    cp_async16(tile + at, x + walk.offset);
    walk.next();
  }
  cp_async_commit();
}

// Visits this thread's vectors of the tile, from `from` on, flushing every few.
template <class Vector, class Visit, class Flush>
__device__ inline void for_tile(const Vector* tile, int from, int to, Visit visit, Flush flush) {
  constexpr int kShort = 32;
  int at = int(threadIdx.x) + from * int(blockDim.x);
  for (int i = from; i < to;) {
    int end = int(smaller(to, i + kShort));
#pragma unroll 4
    for (; i < end; ++i, at += int(blockDim.x)) visit(load_vec<Vector>(tile + at));
    flush();
  }
}

// y of this thread's vectors of the tile.
template <class T, int W>
__device__ inline void write_tile(const Task& task, const Column& column, const Line& line, const Raw<T, W>* tile,
                                  Walk to, int count, float* shared) {
  const Geometry& g = task.g;
  float m[W], a[W], b[W];
  share<W>(g, line.m, m, shared);
  share<W>(g, line.a, a, shared);
  share<W>(g, line.b, b, shared);
  T* y = static_cast<T*>(task.y);
  Raw<T, W> mask = channel_mask<T, W>(g, column);
  for_tile(
      tile, 0, count,
      [&](Raw<T, W> raw) {
        float v[W];
        widen<T, W>(raw, v);
#pragma unroll
        for (int j = 0; j < W; ++j) v[j] = fmaf(v[j] - m[j], a[j], b[j]);
        store_vec_stream(y + to.offset, both(narrow<T, W>(v), mask));
        to.next();
      },
      [] {});
}

template <class T, int kind>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_kernel(Task task) {
  constexpr int W = 16 / sizeof(T);
  using Vector = Raw<T, W>;
  NX_DYN_SHARED(Vector, tile);
  NX_SHARED(float, slots, 2 * reduce_slots(W));
  NX_SHARED(float, shared, kGroups);
  NX_SHARED(double, sums, kGroups);
  const Geometry& g = task.g;
  Place place = place_of(g, blockIdx.x);  // the part is the rank in the cluster
  Seat seat = seat_of(g);
  Column column = column_of(g, place, seat.tx);
  Span span = part_rows(g, place.part);
  int groups = g.tile * g.held, t = int(threadIdx.x);
  Group group = group_of(g, place, t & (groups - 1));
  Exchange exchange = {sums, g.parts};
  bool asks = t < groups && group.exists;

  // 1. x on its way, in two halves; a pivot meanwhile.
  const T* x = static_cast<const T*>(task.x);
  int64_t first = span.low + seat.ty;
  int count = column.exists ? int(visits(first, span.high, seat.stride)) : 0, half = count / 2;
  Walk from = walk_of(g, g.x_stride, column.offset + place.sample * g.x_stride, first, seat.stride);
  fetch(x, from, half, tile);
  fetch(x, from, count - half, tile + half * int(blockDim.x));
  float pivot = asks ? pivot_of(g, x, group, place.sample) : 0;

  // 2. The mean, and the extremes where they are the statistic.
  constexpr bool extremes = kind == NX_LINF;
  FirstLook<T, W, extremes> look;
  share<W>(g, pivot, look.pivot, shared);
  auto see = [&](Vector raw) { look.see(raw); };
  auto flush = [&] { look.sums.flush(); };
  cp_async_wait<1>();
  for_tile(tile, 0, half, see, flush);
  cp_async_wait<0>();
  for_tile(tile, half, count, see, flush);
  double sum = reduce_tile<double, W>(look.sums.outer, g.held, g.tile, slots, Plus());
  double mean = double(pivot) + over_cluster(exchange, sum, groups, Plus()) / task.n, statistic;
  float m = float(mean);

  // 3. The statistic.
  if constexpr (extremes) {
    double high = reduce_tile<float, W>(look.high, g.held, g.tile, slots, Greatest());
    double low = reduce_tile<float, W>(look.low, g.held, g.tile, slots, Least());
    high = over_cluster(exchange, high, groups, Greatest()) - mean;
    low = mean - over_cluster(exchange, low, groups, Least());
    statistic = high > low ? high : low;
  } else {
    SecondLook<T, W, kind == NX_L2> second;
    share<W>(g, m, second.m, shared);
    share<W>(g, rest_of(mean), second.rest, shared);
    for_tile(tile, 0, count, [&](Vector raw) { second.see(raw); }, [&] { second.flush(); });
    double drift = reduce_tile<double, W>(second.drift, g.held, g.tile, slots, Plus());
    double spread = reduce_tile<double, W>(second.spread.outer, g.held, g.tile, slots, Plus());
    drift = over_cluster(exchange, drift, groups, Plus()) / task.n;
    spread = over_cluster(exchange, spread, groups, Plus()) / task.n;
    if (isfinite(mean)) mean += drift;
    statistic = kind == NX_L1 ? spread : sqrt(fmax(spread - drift * drift, 0.));
  }

  // 4. y.
  Line line = asks ? line_of(task, mean, m, statistic, group.channel) : Line{0, 0, 0};
  Walk to = walk_of(g, g.y_stride, column.offset + place.sample * g.y_stride, first, seat.stride);
  write_tile<T, W>(task, column, line, tile, to, count, shared);
  if (g.parts > 1) nx_cluster_sync();  // no block may leave while a peer reads its sums
}

}  // namespace nx
