// Where the elements of one statistic lie, for every layout alike.
//
// Memory is seen as columns of vectors. A vector is W adjacent elements; it holds `held` = min(v, W) channels at
// W/held positions, so lane j belongs to channel j % held. A column is all the vectors of the same channels of one
// sample, `rows` of them, `step` elements apart: LINEAR has one column per channel and walks through contiguous
// vectors, HWC with C = 64 float16 has 8 columns side by side and walks from position to position.
//
//   address of (sample n, column q, row r) = n*stride + (q/side)*space*v + (q%side)*held + r*step
#pragma once

#include "cuda/memory/device.cuh"

namespace nx {

constexpr int kThreads = 256;        // of a block, at most
constexpr int kOnChipThreads = 320;  // the same where x stays in shared memory: two blocks of 96 registers a thread

__host__ __device__ inline int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

// A tensor as columns, tiles of columns, and their parts.
struct Geometry {
  int64_t x_stride;     // elements from sample to sample of x
  int64_t y_stride;     // the same of y
  int64_t space;        // positions of a sample
  int64_t channels;     // of a sample, padding not counted
  int64_t v;            // lanes of the layout
  int64_t side;         // columns side by side: v / held
  int64_t columns;      // of a sample
  int64_t rows;         // vectors in a column of one sample
  int64_t step;         // elements from row to row
  int64_t samples;      // that one statistic covers: N, or 1 for an instance norm
  int64_t tiles;        // ceil(columns / tile)
  int64_t groups;       // statistics in all
  int64_t part_rows;    // rows of a part
  double inverse_rows;  // 1 / rows
  int32_t held;         // channels in a vector, a power of two
  int32_t shift;        // log2 of the positions in a vector
  int32_t tile;         // columns that a block takes, a power of two
  int32_t parts;        // blocks that share a tile of columns
};

// `g` of tiles of one channel (Single: LINEAR), with what is the same for all of them known to the compiler.
template <int W, bool Single>
__device__ inline Geometry specialise(const Geometry& g) {
  Geometry own = g;
  if (Single) {
    own.v = own.side = 1;
    own.held = own.tile = 1;
    own.step = W;
    own.shift = 0;
    while ((1 << own.shift) < W) ++own.shift;
  }
  return own;
}

// Stretches of x whose extremes Top-k keeps: the threads of a warp that stand a multiple of this apart.
__host__ __device__ inline int stretch(const Geometry& g) { return g.tile > 8 ? g.tile : 8; }

// What a block works on: one part of one tile of columns (of one sample, for an instance norm).
struct Place {
  int64_t sample;  // the first that it reads: 0, or its own for an instance norm
  int64_t tile;    // which tile of columns
  int part;        // which part of the tile's rows
};

__device__ inline Place place_of(const Geometry& g, unsigned block) {
  const unsigned parts = unsigned(g.parts), tiles = unsigned(g.tiles), all = block / parts;  // the grid is below 2^31
  return {int64_t(all / tiles), int64_t(all % tiles), int(block % parts)};
}

// A column of a tile: where its first row of sample 0 lies and which channels it holds.
struct Column {
  bool exists;      // false beyond the last column
  int64_t offset;   // elements from the start of x
  int64_t channel;  // of its first lane
};

__device__ inline Column column_of(const Geometry& g, const Place& place, int tx) {
  const unsigned q = unsigned(place.tile) * unsigned(g.tile) + unsigned(tx), block = q / unsigned(g.side);
  const int64_t side = int64_t(q - block * unsigned(g.side)) * g.held;
  return {q < g.columns, block * g.space * g.v + side, block * g.v + side};
}

// row / rows. A product with 1/rows is off by one at most; an integer division of 64 bits takes a hundred instructions.
__device__ inline int64_t samples_before(const Geometry& g, int64_t row) {
  int64_t sample = int64_t(double(row) * g.inverse_rows);
  if (sample * g.rows > row) --sample;
  if ((sample + 1) * g.rows <= row) ++sample;
  return sample;
}

// Walks through the rows of a column, sample by sample, `stride` rows at a time. Row r of the walk is row
// r % rows of sample first + r / rows.
struct Walk {
  int64_t offset;    // of the row at hand, in elements
  int64_t row;       // its number in its sample
  int64_t rows;      // of a sample
  int64_t jump;      // elements to the next row of the walk, were there no end of the sample
  int64_t jump_row;  // rows that it goes on within a sample
  int64_t wrap;      // elements to add where it enters one sample more

  __device__ inline void next() {
    offset += jump;
    row += jump_row;
    if (row >= rows) {
      row -= rows;
      offset += wrap;
    }
  }
};

__device__ inline Walk walk_of(const Geometry& g, int64_t sample_stride, int64_t start, int64_t row, int stride) {
  Walk walk;
  const int64_t sample = samples_before(g, row), jump_samples = samples_before(g, stride);
  walk.rows = g.rows;
  walk.row = row - sample * g.rows;
  walk.offset = start + sample * sample_stride + walk.row * g.step;
  walk.jump_row = stride - jump_samples * g.rows;
  walk.jump = jump_samples * sample_stride + walk.jump_row * g.step;
  walk.wrap = sample_stride - g.rows * g.step;
  return walk;
}

// Rows ty, ty + TY, ... below `end`, counted.
__device__ inline int64_t count_visits(int64_t first, int64_t end, int stride) {
  return first < end ? (end - first + stride - 1) / stride : 0;
}

// The rows that a part covers.
struct Span {
  int64_t low;   // the first
  int64_t high;  // behind the last
};

__device__ inline Span part_rows(const Geometry& g, int part) {
  const int64_t all = g.rows * g.samples, low = minimum(g.part_rows * part, all);
  return {low, minimum(low + g.part_rows, all)};
}

// What a thread does in its block.
struct Seat {
  int tx;      // its column in the tile
  int ty;      // its first row
  int stride;  // rows from one visit to the next
};

__device__ inline Seat seat_of(const Geometry& g) {
  const int t = int(threadIdx.x);
  return {t & (g.tile - 1), t / g.tile, int(blockDim.x) / g.tile};
}

// Calls visit(vector, i) for i = 0 .. count-1 and flush() every few rows: kFlight loads stand in flight at a time,
// and sums are kept short, so that float32 accumulators lose nothing.
template <class Vector, int kFlight = 4, class T, class Visit, class Flush>
__device__ inline void for_rows(const T* x, Walk walk, int64_t count, Visit visit, Flush flush) {
  constexpr int kShort = 32;
  int64_t i = 0;
  while (i < count) {
    const int64_t end = minimum(count, i + kShort);
    for (; i + kFlight <= end; i += kFlight) {
      Vector vector[kFlight];
#pragma unroll
      for (int u = 0; u < kFlight; ++u) {
        vector[u] = load_vec<Vector>(x + walk.offset);
        walk.next();
      }
#pragma unroll
      for (int u = 0; u < kFlight; ++u) visit(vector[u], i + u);
    }
    for (; i < end; ++i) {
      visit(load_vec<Vector>(x + walk.offset), i);
      walk.next();
    }
    flush();
  }
}

}  // namespace nx
