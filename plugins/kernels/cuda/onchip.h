// The whole norm in one kernel: a tile of columns stays in shared memory, so x is read once and y written once.
//
// A statistic belongs to one block, or to a cluster of blocks (sm_90 and later) that each hold some of its rows and
// read each other's sums through distributed shared memory, in the order of their ranks. Every thread copies, with
// cp.async where there are four bytes to copy, just the vectors that it will read itself.
#pragma once

#include "apply.h"

namespace nx {

// What the threads of a block tell each other, beside the tile; `values` per channel and warp at once.
template <int W, bool Single, int values>
struct Board {
  static constexpr int kChannels = Single ? 1 : 16 * W;
  static constexpr int kPeers = 3 * kChannels;
  float slots[values][reduce_slots(Single ? 1 : W, kOnChipThreads / 32)];
  float pivots[kChannels];
  Centre centres[kChannels];
  Line lines[kChannels];
  double peers[kPeers];  // what the cluster reads
};

// Merges values over the blocks of a cluster. Each merge takes the next piece of the area: what peers may still read
// stays. At least two pieces, so that between two uses of one lies the barrier of another.
struct Exchange {
  double* area;
  int room, ranks;
  int used = 0;

  // values of channel t in thread t < groups, op(i, a, b) for the i-th. Every block gets the same bits.
  template <int N, class Op>
  __device__ void merge(double (&values)[N], int groups, Op op) {
    if (ranks == 1) return;
    int t = int(threadIdx.x);
    if (used + N * groups > room) used = 0;
    double* piece = area + used + t;
    used += N * groups;
    if (t < groups)
#pragma unroll
      for (int i = 0; i < N; ++i) piece[i * groups] = values[i];
    nx_cluster_sync();
    if (t >= groups) return;
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = *dsmem(piece + i * groups, 0);
    for (int rank = 1; rank < ranks; ++rank)
#pragma unroll
      for (int i = 0; i < N; ++i) values[i] = op(i, values[i], *dsmem(piece + i * groups, unsigned(rank)));
  }
};

// Starts copying this thread's rows to vectors t, t + threads, ... of the tile.
template <class Vector, class T>
__device__ inline void fetch(const T* x, Walk& walk, int count, Vector* tile) {
  int at = int(threadIdx.x);
#pragma unroll 4
  for (int i = 0; i < count; ++i, at += int(blockDim.x)) {
    if constexpr (sizeof(Vector) >= 4)
      cp_async<sizeof(Vector)>(tile + at, x + walk.offset);
    else
      tile[at] = load_vec<Vector>(x + walk.offset);
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

__device__ inline Holding holding_of(const Geometry& g, const Place& place) {
  Seat seat = seat_of(g);
  Span span = part_rows(g, place.part);  // the part is the rank in the cluster
  Holding own = {column_of(g, place, seat.tx), span.low + seat.ty, seat.stride, 0};
  if (own.column.exists) own.count = int(visits(own.first, span.high, seat.stride));
  return own;
}

// Starts copying the block's rows into the tile, in two halves.
template <class T, class Vector>
__device__ inline void fetch_rows(const Geometry& g, const T* x, const Place& place, const Holding& own, Vector* tile) {
  int half = own.count / 2;
  Walk from = walk_of(g, g.x_stride, own.column.offset + place.sample * g.x_stride, own.first, own.stride);
  fetch(x, from, half, tile);
  fetch(x, from, own.count - half, tile + half * int(blockDim.x));
}

// Visits this thread's vectors of the halves as they land.
template <class Vector, class Visit, class Flush>
__device__ inline void meet_rows(const Holding& own, const Vector* tile, Visit visit, Flush flush) {
  int half = own.count / 2;
  cp_async_wait<1>();
  for_tile(tile, 0, half, visit, flush);
  cp_async_wait<0>();
  for_tile(tile, half, own.count, visit, flush);
}

// Copies the block's rows and looks at them. Returns the pivot of channel t in thread t < tile*held.
template <class T, int W, class Shared, class Look>
__device__ inline float hold(const Geometry& g, const T* x, const Place& place, const Group& group, const Holding& own,
                             Raw<T, W>* tile, Shared& board, Look& look) {
  fetch_rows(g, x, place, own, tile);
  float pivot = int(threadIdx.x) < g.tile * g.held && group.exists ? pivot_of(g, x, group, place.sample) : 0;
  publish(g, pivot, board.pivots);
  look.about(g, board.pivots);
  meet_rows(own, tile, [&](Raw<T, W> raw) { look.see(raw); }, [&] { look.sums.flush(); });
  return pivot;
}

// y = (x - m)*a + b of this thread's rows, and the end: no block of the cluster leaves while a peer may read its sums.
template <class T, int W, class Shared>
__device__ inline void release(const Task& task, const Geometry& g, const Place& place, const Holding& own,
                               const Line& line, const Raw<T, W>* tile, Shared& board) {
  if (g.parts > 1) nx_cluster_arrive();
  publish(g, line, board.lines);
  Map<T, W> map(g, own.column, board.lines);
  T* y = static_cast<T*>(task.y);
  Walk to = walk_of(g, g.y_stride, own.column.offset + place.sample * g.y_stride, own.first, own.stride);
  for_tile(
      tile, 0, own.count,
      [&](Raw<T, W> raw) {
        store_vec_stream(y + to.offset, map(raw));
        to.next();
      },
      [] {});
  if (g.parts > 1) nx_cluster_wait();
}

// L1, Linf and L2.
template <class T, int W, bool Single, int kind>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_kernel(Task task) {
  using Own = Board<W, Single, kind == NX_LINF ? 3 : 2>;
  using Vector = Raw<T, W>;
  NX_DYN_SHARED(Vector, tile);
  NX_SHARED(Own, boards, 1);
  Own& board = boards[0];
  const Geometry g = known<W, Single>(task.g);
  Place place = place_of(g, blockIdx.x);
  int groups = g.tile * g.held;
  Group group = group_of(g, place, int(threadIdx.x) & (groups - 1));
  Exchange exchange = {board.peers, Own::kPeers, g.parts};
  Holding own = holding_of(g, place);
  FirstLook<T, W, kind == NX_LINF> look;
  double mean = hold<T, W>(g, static_cast<const T*>(task.x), place, group, own, tile, board, look), statistic;
  float m;

  merge<W>(look.sums.outer, g.held, g.tile, Plus());
  put<W>(look.sums.outer, g.held, g.tile, board.slots[0]);
  if constexpr (kind == NX_LINF) {
    merge<W>(look.high, g.held, g.tile, Greatest());
    merge<W>(look.low, g.held, g.tile, Least());
    put<W>(look.high, g.held, g.tile, board.slots[1]);
    put<W>(look.low, g.held, g.tile, board.slots[2]);
    __syncthreads();
    double seen[3] = {take<double>(groups, board.slots[0], Plus()), take<double>(groups, board.slots[1], Greatest()),
                      take<double>(groups, board.slots[2], Least())};
    exchange.merge(seen, groups, [](int i, double a, double b) {
      return i == 0 ? a + b : i == 1 ? Greatest()(a, b) : Least()(a, b);
    });
    mean += seen[0] / task.n;
    m = float(mean);
    statistic = Greatest()(seen[1] - mean, mean - seen[2]);
  } else {
    __syncthreads();
    double sum[1] = {take<double>(groups, board.slots[0], Plus())};
    exchange.merge(sum, groups, [](int, double a, double b) { return a + b; });
    mean += sum[0] / task.n;
    m = float(mean);
    publish(g, centre_of(mean), board.centres);
    SecondLook<T, W, kind == NX_L2> second;
    second.about(g, board.centres);
    for_tile(tile, 0, own.count, [&](Vector raw) { second.see(raw); }, [&] { second.flush(); });
    merge<W>(second.drift, g.held, g.tile, Plus());
    merge<W>(second.spread.outer, g.held, g.tile, Plus());
    put<W>(second.drift, g.held, g.tile, board.slots[0]);  // the sum was taken before all met at the centres
    put<W>(second.spread.outer, g.held, g.tile, board.slots[1]);
    __syncthreads();
    double about[2] = {take<double>(groups, board.slots[0], Plus()), take<double>(groups, board.slots[1], Plus())};
    exchange.merge(about, groups, [](int, double a, double b) { return a + b; });
    double drift = about[0] / task.n, spread = about[1] / task.n;
    if (isfinite(mean)) mean += drift;
    statistic = kind == NX_L1 ? spread : sqrt(fmax(spread - drift * drift, 0.));
  }
  bool asks = int(threadIdx.x) < groups && group.exists;
  release<T, W>(task, g, place, own, asks ? line_of(task, mean, m, statistic, group.channel) : Line{0, 0, 0}, tile,
                board);
}

}  // namespace nx
