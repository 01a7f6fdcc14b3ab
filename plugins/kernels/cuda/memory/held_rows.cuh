// Rows of x that stay in shared memory. Every thread copies, with cp.async where there are four bytes to copy, just the
// vectors that it will read itself.
#pragma once

#include "cuda/memory/geometry.cuh"

namespace nx {

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
    const int end = int(minimum(to, i + kShort));
#pragma unroll 4
    for (; i < end; ++i, at += int(blockDim.x)) visit(load_vec<Vector>(tile + at));
    flush();
  }
}

// This thread's rows of the tile.
struct Holding {
  Column column;  // where they lie
  int64_t first;  // the first
  int stride;     // rows from one to the next
  int count;      // how many
};

__device__ inline Holding holding_of(const Geometry& g, const Place& place) {
  const Seat seat = seat_of(g);
  const Span span = part_rows(g, place.part);  // the part is the rank in the cluster
  Holding own = {column_of(g, place, seat.tx), span.low + seat.ty, seat.stride, 0};
  if (own.column.exists) own.count = int(count_visits(own.first, span.high, seat.stride));
  return own;
}

// Starts copying the block's rows into the tile, in two halves.
template <class T, class Vector>
__device__ inline void fetch_rows(const Geometry& g, const T* x, const Place& place, const Holding& own, Vector* tile) {
  const int half = own.count / 2;
  Walk from = walk_of(g, g.x_stride, own.column.offset + place.sample * g.x_stride, own.first, own.stride);
  fetch(x, from, half, tile);
  fetch(x, from, own.count - half, tile + half * int(blockDim.x));
}

// Visits this thread's vectors of the halves as they land.
template <class Vector, class Visit, class Flush>
__device__ inline void meet_rows(const Holding& own, const Vector* tile, Visit visit, Flush flush) {
  const int half = own.count / 2;
  cp_async_wait<1>();
  for_tile(tile, 0, half, visit, flush);
  cp_async_wait<0>();
  for_tile(tile, half, own.count, visit, flush);
}

}  // namespace nx
