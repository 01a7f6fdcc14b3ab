// How a norm is computed: which path, which vectors, how many blocks share a statistic. Pure functions of the norm, the
// pointers' alignment and the device; every number that was tuned stands in `kTuning`.
#pragma once

#include "common/norm.h"
#include "task.h"

namespace nx {

struct Tuning {
  int64_t part_bytes;     // a block should read at least this much: four 16-byte vectors per thread
  int64_t blocks;         // more parts are cut only while the grid is smaller than this
  int64_t most_parts;     // that one statistic is cut into: the next phase merges them in every block
  int64_t widest_tile;    // columns side by side in a tile: 16 of 16 bytes are two lines of 128 bytes
  int64_t row_chunk;      // Range: chunks of at most so many vectors are taken whole by a row of threads
  int64_t least_candidates, most_candidates;  // Top-k: candidates kept per statistic, 4k within these
  int64_t onchip_vectors;  // on chip: vectors per thread, before a block gets more threads
  int64_t most_ranks;      // on chip: blocks of a cluster, at most
  int64_t small_tile;      // on chip: bytes of a tile that is worth it even if most multiprocessors idle
  int64_t onchip_static;   // on chip: bytes of shared memory beside the tile
  int64_t histogram_bytes;  // int8 Top-k: elements per part, at least: a part leaves a histogram of 1 KiB
};

constexpr Tuning kTuning = {16 << 10, 2048, 1024, 16, 16, 256, 4096, 8, 8, 32 << 10, 13 << 10, 64 << 10};

enum class Path {
  kPhases,  // every phase reads x from global memory
  kOnChip,  // x stays in shared memory, of one block or of a cluster
};

struct Plan {
  Path path;
  int vector_bytes;
  int threads;          // of a block
  int64_t blocks;       // of the grid
  int ranks;            // on chip: blocks that share a statistic, a cluster if more than one
  size_t shared_bytes;  // on chip: the tile
  size_t workspace;     // bytes, depends on the norm alone
  int64_t histogram_blocks;  // int8 Top-k: of the grid that counts
  Task task;        // of floats
  IntTask int_task;  // of int8
};

// Alignment in bytes that x, y share, and that each of their samples has.
int64_t alignment_of(const NxNorm& norm, const void* x, const void* y);

// workspace may be null where only sizes matter. alignment: of x and y, see above. nx_check has passed, nothing is
// empty.
Plan plan(const NxNorm& norm, int64_t alignment, const Device& device, void* workspace);

}  // namespace nx
