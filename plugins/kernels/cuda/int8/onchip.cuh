// int8 in one kernel, for tiles of one channel: as float/onchip.cuh, with integers, which doubles carry exactly between
// peers.
#pragma once

#include "cuda/block/cluster.cuh"
#include "cuda/int8/apply.cuh"
#include "cuda/int8/finish.cuh"
#include "cuda/memory/held_rows.cuh"

namespace nx {

// What the threads of a block tell each other, beside the tile.
struct IntBoard {
  static constexpr int kSlots = reduce_slots(1, kOnChipThreads / 32);
  static constexpr int kPeers = 6;
  long long slots[3][kSlots];  // of reductions over the block
  IntMean mean;                // of the statistic
  unsigned char table[256];    // y of each x
  double peers[kPeers];        // what the cluster reads
};

// Sums over block and cluster, in thread 0.
template <int N>
__device__ inline void add_up(const Geometry& g, int (&sums)[N], IntBoard& board, Exchange& exchange,
                              long long (&totals)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int lane[1] = {sums[i]};
    put_sums(g, lane, board.slots[i]);
  }
  __syncthreads();
  double all[N];
#pragma unroll
  for (int i = 0; i < N; ++i) all[i] = double(take<long long>(1, board.slots[i], Plus()));
  exchange.merge(all, 1, [](int, double a, double b) { return a + b; });
#pragma unroll
  for (int i = 0; i < N; ++i) totals[i] = (long long)(all[i]);
}

// Every byte of this thread's rows through the table of its line, known to thread 0; and the end, as release.
template <int W>
__device__ inline void release_bytes(const IntArgs& args, const Geometry& g, const Place& place, const Holding& own,
                                     const IntLine& line, const Bytes<W>* tile, IntBoard& board, IntLine* shared) {
  if (g.parts > 1) nx_cluster_arrive();
  publish(g, line, shared);
  for (int b = int(threadIdx.x); b < 256; b += int(blockDim.x))
    board.table[b] = (unsigned char)(int_output(b - 128, shared[0]));
  __syncthreads();
  auto* y = static_cast<signed char*>(args.y);
  Walk to = walk_of(g, g.y_stride, own.column.offset + place.sample * g.y_stride, own.first, own.stride);
  for_tile(
      tile, 0, own.count,
      [&](Bytes<W> raw) {
        store_vec_stream(y + to.offset, map_bytes<W>(raw, [&](int q, int) { return board.table[q + 128]; }));
        to.next();
      },
      [] {});
  if (g.parts > 1) nx_cluster_wait();
}

// L1, Linf and L2.
template <int W, int kind>
__global__ void __launch_bounds__(kOnChipThreads, 2) onchip_int_norm(IntArgs args) {
  using Vector = Bytes<W>;
  NX_DYN_SHARED(Vector, tile);
  NX_SHARED(IntBoard, boards, 1);
  NX_SHARED(IntLine, line, 1);
  IntBoard& board = boards[0];
  const Geometry g = specialise<W, true>(args.g);
  const Place place = place_of(g, blockIdx.x);
  const Group group = group_of(g, place, 0);
  Exchange exchange = {board.peers, IntBoard::kPeers, g.parts};
  const Holding own = holding_of(g, place);
  constexpr unsigned counted = W == 1 ? 1u : kOnes;  // the bytes that are elements

  fetch_rows(g, static_cast<const signed char*>(args.x), place, own, tile);
  IntSums<W, true> sum, squares;
  IntExtremes<W> extremes;
  meet_rows(
      own, tile,
      [&](Vector raw) {
        unsigned word[word_count<W>()];
        byte_words<W>(raw, word);
#pragma unroll
        for (int i = 0; i < word_count<W>(); ++i) {
          sum.add(word[i], i);
          if (kind == NX_LINF) extremes.see(word[i], i);
          if (kind == NX_L2) squares.add_squares(word[i], i);
        }
      },
      [] {});

  IntMean mean;
  double statistic;
  if constexpr (kind == NX_L1) {
    long long all[1];
    add_up<1>(g, sum.sum, board, exchange, all);
    mean = int_mean(all[0], args.n);
    publish(g, mean, &board.mean);
    unsigned pivot = (unsigned(board.mean.p) & 255u) * kOnes;
    IntSums<W, true> size, above, level;
    for_tile(
        tile, 0, own.count,
        [&](Vector raw) {
          unsigned word[word_count<W>()];
          byte_words<W>(raw, word);
#pragma unroll
          for (int i = 0; i < word_count<W>(); ++i) {
            size.add_unsigned(__vabsdiffs4(word[i], pivot) & (counted * 255u), i);
            above.add(__vcmpgts4(word[i], pivot) & counted, i);
            level.add(__vcmpeq4(word[i], pivot) & counted, i);
          }
        },
        [] {});
    int sums[3] = {size.sum[0], above.sum[0], level.sum[0]};
    long long about[3];
    add_up<3>(g, sums, board, exchange, about);
    statistic = int_l1(mean, args.n, about[0], about[1], about[2]);
  } else if constexpr (kind == NX_L2) {
    int sums[2] = {sum.sum[0], squares.sum[0]};
    long long all[2];
    add_up<2>(g, sums, board, exchange, all);
    mean = int_mean(all[0], args.n);
    statistic = int_l2(mean, args.n, all[1]);
  } else {
    int* tops = reinterpret_cast<int*>(board.slots[1]);
    extremes.put_extremes(g, tops, tops + IntBoard::kSlots);
    put_sums(g, sum.sum, board.slots[0]);
    __syncthreads();
    double all[3] = {double(take<long long>(1, board.slots[0], Plus())), double(take<int>(1, tops, Greatest())),
                     double(take<int>(1, tops + IntBoard::kSlots, Least()))};
    exchange.merge(all, 1, [](int i, double a, double b) {
      return i == 0 ? a + b : i == 1 ? Greatest()(a, b) : Least()(a, b);
    });
    mean = int_mean((long long)(all[0]), args.n);
    statistic = int_linf(mean, args.n, (long long)(all[1]), (long long)(all[2]));
  }
  const bool asks = threadIdx.x == 0 && group.exists;
  release_bytes<W>(args, g, place, own, asks ? int_line_of(args, mean, statistic, group.channel) : IntLine{0, 0, 0, 0},
                   tile, board, line);
}

}  // namespace nx
