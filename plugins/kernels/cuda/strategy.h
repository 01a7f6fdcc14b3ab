// How a norm is computed: which path, which vectors, how many blocks share a statistic. Pure functions of the norm, the
// pointers' alignment and the device; every number that was tuned stands in `kTuning`.
#pragma once

#include "common/norm.h"
#include "cuda/float/args.h"
#include "cuda/int8/args.h"

namespace nx {

struct Tuning {
  // Phases: a block should read at least part_bytes, eight 16-byte vectors per thread; more parts are cut only while
  // the grid has fewer blocks, two per multiprocessor of a large GPU, and never more than most_parts, since somebody
  // has to merge them.
  int64_t part_bytes = 32 << 10, blocks = 256, most_parts = 1024;
  // Columns side by side in a tile: 16 of 16 bytes are two lines of 128 bytes.
  int64_t widest_tile = 16;
  // Range: chunks of at most so many vectors are taken whole by a row of threads.
  int64_t row_chunk = 16;
  // Top-k: candidates kept per statistic, 4k within these bounds.
  int64_t least_candidates = 256, most_candidates = 4096;
  // int8 Top-k: bytes that a part should have, at least: it leaves a histogram of 1 KiB.
  int64_t histogram_bytes = 64 << 10;
  // On chip: columns that a tile has at least, where there are so many: 2 of 16 bytes are a sector; vectors per thread
  // before a block gets more threads; blocks of a cluster, the most that every device allows; bytes of a tile that is
  // worth it even if most multiprocessors idle; Range chunks of a statistic; bytes of shared memory beside the tile, of
  // one channel or of many.
  int64_t least_tile = 2, onchip_vectors = 16, most_ranks = 8, small_tile = 32 << 10, onchip_chunks = 256;
  int64_t single_static = 13 << 10, many_static = 22 << 10;
};

constexpr Tuning kTuning = {};

enum class Path {
  kPhases,  // every phase reads x from global memory
  kOnChip,  // x stays in shared memory, of one block or of a cluster
};

struct Strategy {
  Path path;
  int vector_bytes;
  int threads;               // of a block
  int64_t blocks;            // of the grid
  int ranks;                 // on chip: blocks that share a statistic, a cluster if more than one
  size_t shared_bytes;       // on chip: the tile
  size_t workspace;          // bytes, depends on the norm alone
  int64_t merging_blocks;    // of the grids between the phases
  int64_t histogram_blocks;  // int8 Top-k: of the grid that counts
  FloatArgs args;            // of floats
  IntArgs int_args;          // of int8
};

// Alignment in bytes that x, y share, and that each of their samples has.
int64_t alignment_of(const NxNorm& norm, const void* x, const void* y);

// workspace may be null where only sizes matter. alignment: of x and y, see above. nx_check has passed, nothing is
// empty.
Strategy strategy_of(const NxNorm& norm, int64_t alignment, const Device& device, void* workspace);

}  // namespace nx
