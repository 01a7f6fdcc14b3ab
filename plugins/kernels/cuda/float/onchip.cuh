// The whole norm in one kernel: a tile of columns stays in shared memory, so x is read once and y written once.
//
// A statistic belongs to one block, or to a cluster of blocks (sm_90 and later) that each hold some of its rows and
// read each other's sums through distributed shared memory, in the order of their ranks.
#pragma once

#include "cuda/block/cluster.cuh"
#include "cuda/float/apply.cuh"
#include "cuda/memory/held_rows.cuh"

namespace nx {

// What the threads of a block tell each other, beside the tile; `values` per channel and warp at once.
template <int W, bool Single, int values>
struct Board {
  static constexpr int kChannels = Single ? 1 : 16 * W;
  static constexpr int kPeers = 3 * kChannels;
  float slots[values][reduce_slots(Single ? 1 : W, kOnChipThreads / 32)];  // of a reduction over the block
  float pivots[kChannels];                                                 // of the tile's channels
  Centre centres[kChannels];                                               // the same
  Line lines[kChannels];                                                   // the same
  double peers[kPeers];                                                    // what the cluster reads
};

// Copies the block's rows and looks at them. Returns the pivot of channel t in thread t < tile*held.
template <class T, int W, class Shared, class Look>
__device__ inline float hold(const Geometry& g, const T* x, const Place& place, const Group& group, const Holding& own,
                             Raw<T, W>* tile, Shared& board, Look& look) {
  fetch_rows(g, x, place, own, tile);
  const float pivot = int(threadIdx.x) < g.tile * g.held && group.exists ? pivot_of(g, x, group, place.sample) : 0;
  publish(g, pivot, board.pivots);
  look.load_pivots(g, board.pivots);
  meet_rows(own, tile, [&](Raw<T, W> raw) { look.see(raw); }, [&] { look.sums.flush(); });
  return pivot;
}

// y = (x - m)*a + b of this thread's rows, and the end: no block of the cluster leaves while a peer may read its sums.
template <class T, int W, class Shared>
__device__ inline void release(const FloatArgs& args, const Geometry& g, const Place& place, const Holding& own,
                               const Line& line, const Raw<T, W>* tile, Shared& board) {
  if (g.parts > 1) nx_cluster_arrive();
  publish(g, line, board.lines);
  Map<T, W> map(g, own.column, board.lines);
  T* y = static_cast<T*>(args.y);
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
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_norm(FloatArgs args) {
  using Own = Board<W, Single, kind == NX_LINF ? 3 : 2>;
  using Vector = Raw<T, W>;
  NX_DYN_SHARED(Vector, tile);
  NX_SHARED(Own, boards, 1);
  Own& board = boards[0];
  const Geometry g = specialise<W, Single>(args.g);
  const Place place = place_of(g, blockIdx.x);
  const int groups = g.tile * g.held;
  const Group group = group_of(g, place, int(threadIdx.x) & (groups - 1));
  Exchange exchange = {board.peers, Own::kPeers, g.parts};
  const Holding own = holding_of(g, place);
  FirstLook<T, W, kind == NX_LINF> look;
  double mean = hold<T, W>(g, static_cast<const T*>(args.x), place, group, own, tile, board, look), statistic;
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
    mean += seen[0] / args.n;
    m = float(mean);
    statistic = Greatest()(seen[1] - mean, mean - seen[2]);
  } else {
    __syncthreads();
    double sum[1] = {take<double>(groups, board.slots[0], Plus())};
    exchange.merge(sum, groups, [](int, double a, double b) { return a + b; });
    mean += sum[0] / args.n;
    m = float(mean);
    publish(g, centre_of(mean), board.centres);
    SecondLook<T, W, kind == NX_L2> second;
    second.load_centres(g, board.centres);
    for_tile(tile, 0, own.count, [&](Vector raw) { second.see(raw); }, [&] { second.flush(); });
    merge<W>(second.drift, g.held, g.tile, Plus());
    merge<W>(second.spread.outer, g.held, g.tile, Plus());
    put<W>(second.drift, g.held, g.tile, board.slots[0]);  // the sum was taken before all met at the centres
    put<W>(second.spread.outer, g.held, g.tile, board.slots[1]);
    __syncthreads();
    double about[2] = {take<double>(groups, board.slots[0], Plus()), take<double>(groups, board.slots[1], Plus())};
    exchange.merge(about, groups, [](int, double a, double b) { return a + b; });
    const double drift = about[0] / args.n, spread = about[1] / args.n;
    if (isfinite(mean)) mean += drift;
    statistic = kind == NX_L1 ? spread : sqrt(fmax(spread - drift * drift, 0.));
  }
  const bool asks = int(threadIdx.x) < groups && group.exists;
  release<T, W>(args, g, place, own, asks ? line_of(args, mean, m, statistic, group.channel) : Line{0, 0, 0}, tile,
                board);
}

}  // namespace nx
