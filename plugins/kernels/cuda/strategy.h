// How a norm is computed: which path, which vectors, how many blocks share a statistic. Pure functions of the norm, the
// pointers' alignment and the device; every number that was tuned stands in `kTuning`.
#pragma once

#include "common/norm.h"
#include "cuda/float/args.h"
#include "cuda/int8/args.h"

namespace nx {

// What was tuned.
struct Tuning {
  int64_t part_bytes = 32 << 10;       // that a block should read at least: eight 16-byte vectors per thread
  int64_t blocks = 256;                // more parts are cut only while the grid has fewer: two per multiprocessor
  int64_t most_parts = 1024;           // of a statistic, since somebody has to merge them
  int64_t widest_tile = 16;            // columns side by side: 16 of 16 bytes are two lines of 128 bytes
  int64_t row_chunk = 16;              // Range: vectors of a chunk that a row of threads takes whole, at most
  int64_t candidates_per_k = 4;        // Top-k: candidates kept per statistic, within the next two
  int64_t least_candidates = 256;      // however small k is
  int64_t most_candidates = 4096;      // however large k is
  int64_t histogram_bytes = 64 << 10;  // int8 Top-k: that a part should have: it leaves a histogram of 1 KiB

  // On chip.
  int64_t least_tile = 2;            // columns of a tile, where there are so many: 2 of 16 bytes are a sector
  int64_t onchip_vectors = 16;       // per thread, before a block gets more threads
  int64_t most_ranks = 8;            // blocks of a cluster, the most that every device allows
  int64_t small_tile = 32 << 10;     // bytes of a tile that is worth it even if most multiprocessors idle
  int64_t single_static = 13 << 10;  // bytes of shared memory beside the tile of one channel
  int64_t many_static = 22 << 10;    // the same beside a tile of many
};

constexpr Tuning kTuning = {};

enum class Path {
  kPhases,  // every phase reads x from global memory
  kOnChip,  // x stays in shared memory, of one block or of a cluster
};

// What follows from it, and what the kernels are called with.
struct Strategy {
  Path path;                 // which kernels
  int vector_bytes;          // of one load or store
  int threads;               // of a block
  int64_t blocks;            // of the grid
  int ranks;                 // on chip: blocks that share a statistic, a cluster if more than one
  size_t shared_bytes;       // on chip: the tile
  size_t workspace;          // bytes, depends on the norm alone
  int64_t merging_blocks;    // of the grids between the phases
  int64_t histogram_blocks;  // int8 Top-k: of the grid that counts
  FloatArgs args;            // of floats; int8 begins with them
  IntArgs int_args;          // of int8
};

// Alignment in bytes that x, y share, and that each of their samples has.
int64_t alignment_of(const NxNorm& norm, const void* x, const void* y);

// workspace may be null where only sizes matter. alignment: of x and y, see above. nx_check has passed, nothing is
// empty.
Strategy strategy_of(const NxNorm& norm, int64_t alignment, const Device& device, void* workspace);

}  // namespace nx
