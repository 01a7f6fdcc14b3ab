// Merging over the blocks of a cluster, through distributed shared memory.
#pragma once

#include "cuda/memory/device.cuh"

namespace nx {

// Merges values over the blocks of a cluster. Each merge takes the next piece of the area: what peers may still read
// stays. At least two pieces, so that between two uses of one lies the barrier of another.
struct Exchange {
  double* area;  // shared memory that peers read
  int room;      // values in it
  int ranks;     // blocks of the cluster
  int used = 0;  // values of the pieces taken

  // values of channel t in thread t < groups, op(i, a, b) for the i-th. Every block gets the same bits.
  template <int N, class Op>
  __device__ void merge(double (&values)[N], int groups, Op op) {
    if (ranks == 1) return;
    const int t = int(threadIdx.x);
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

}  // namespace nx
