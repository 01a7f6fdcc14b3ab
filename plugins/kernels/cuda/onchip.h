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

// This thread's rows of the tile.
struct Holding {
  Column column;
  int64_t first;
  int stride, count;
};

// Copies the block's rows into the tile and finds the mean of each channel, valid in thread t < tile*held.
template <class T, int W, bool extremes>
__device__ inline double hold(const Task& task, const Place& place, const Group& group, const Exchange& exchange,
                              Raw<T, W>* tile, float* slots, float* shared, Holding& own,
                              FirstLook<T, W, extremes>& look) {
  const Geometry& g = task.g;
  Seat seat = seat_of(g);
  Span span = part_rows(g, place.part);  // the part is the rank in the cluster
  own.column = column_of(g, place, seat.tx);
  own.first = span.low + seat.ty;
  own.stride = seat.stride;
  own.count = own.column.exists ? int(visits(own.first, span.high, seat.stride)) : 0;
  int groups = g.tile * g.held, half = own.count / 2;

  // x on its way, in two halves; a pivot meanwhile.
  const T* x = static_cast<const T*>(task.x);
  Walk from = walk_of(g, g.x_stride, own.column.offset + place.sample * g.x_stride, own.first, seat.stride);
  fetch(x, from, half, tile);
  fetch(x, from, own.count - half, tile + half * int(blockDim.x));
  bool asks = int(threadIdx.x) < groups && group.exists;
  float pivot = asks ? pivot_of(g, x, group, place.sample) : 0;
  share<W>(g, pivot, look.pivot, shared);

  auto see = [&](Raw<T, W> raw) { look.see(raw); };
  auto flush = [&] { look.sums.flush(); };
  cp_async_wait<1>();
  for_tile(tile, 0, half, see, flush);
  cp_async_wait<0>();
  for_tile(tile, half, own.count, see, flush);
  double sum = reduce_tile<double, W>(look.sums.outer, g.held, g.tile, slots, Plus());
  return double(pivot) + over_cluster(exchange, sum, groups, Plus()) / task.n;
}

// y = (x - m)*a + b of this thread's rows; the block may leave afterwards.
template <class T, int W>
__device__ inline void release(const Task& task, const Place& place, const Holding& own, const Line& line,
                               const Raw<T, W>* tile, float* shared) {
  const Geometry& g = task.g;
  float m[W], a[W], b[W];
  share<W>(g, line.m, m, shared);
  share<W>(g, line.a, a, shared);
  share<W>(g, line.b, b, shared);
  T* y = static_cast<T*>(task.y);
  Raw<T, W> mask = channel_mask<T, W>(g, own.column);
  Walk to = walk_of(g, g.y_stride, own.column.offset + place.sample * g.y_stride, own.first, own.stride);
  for_tile(
      tile, 0, own.count,
      [&](Raw<T, W> raw) {
        float v[W];
        widen<T, W>(raw, v);
#pragma unroll
        for (int j = 0; j < W; ++j) v[j] = fmaf(v[j] - m[j], a[j], b[j]);
        store_vec_stream(y + to.offset, both(narrow<T, W>(v), mask));
        to.next();
      },
      [] {});
  if (g.parts > 1) nx_cluster_sync();  // a peer may still read this block's sums
}

// L1, Linf and L2.
template <class T, int kind>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_kernel(Task task) {
  constexpr int W = 16 / sizeof(T);
  NX_DYN_SHARED(uint4, tile);
  NX_SHARED(float, slots, 2 * reduce_slots(W));
  NX_SHARED(float, shared, kGroups);
  NX_SHARED(double, sums, kGroups);
  const Geometry& g = task.g;
  Place place = place_of(g, blockIdx.x);
  int groups = g.tile * g.held;
  Group group = group_of(g, place, int(threadIdx.x) & (groups - 1));
  Exchange exchange = {sums, g.parts};

  Holding own;
  FirstLook<T, W, kind == NX_LINF> look;
  double mean = hold<T, W>(task, place, group, exchange, tile, slots, shared, own, look), statistic;
  float m = float(mean);
  if constexpr (kind == NX_LINF) {
    double high = reduce_tile<float, W>(look.high, g.held, g.tile, slots, Greatest());
    double low = reduce_tile<float, W>(look.low, g.held, g.tile, slots, Least());
    high = over_cluster(exchange, high, groups, Greatest()) - mean;
    low = mean - over_cluster(exchange, low, groups, Least());
    statistic = high > low ? high : low;
  } else {
    SecondLook<T, W, kind == NX_L2> second;
    share<W>(g, m, second.m, shared);
    share<W>(g, rest_of(mean), second.rest, shared);
    for_tile(tile, 0, own.count, [&](uint4 raw) { second.see(raw); }, [&] { second.flush(); });
    double drift = reduce_tile<double, W>(second.drift, g.held, g.tile, slots, Plus());
    double spread = reduce_tile<double, W>(second.spread.outer, g.held, g.tile, slots, Plus());
    drift = over_cluster(exchange, drift, groups, Plus()) / task.n;
    spread = over_cluster(exchange, spread, groups, Plus()) / task.n;
    if (isfinite(mean)) mean += drift;
    statistic = kind == NX_L1 ? spread : sqrt(fmax(spread - drift * drift, 0.));
  }
  bool asks = int(threadIdx.x) < groups && group.exists;
  release<T, W>(task, place, own, asks ? line_of(task, mean, m, statistic, group.channel) : Line{0, 0, 0}, tile,
                shared);
}

}  // namespace nx
