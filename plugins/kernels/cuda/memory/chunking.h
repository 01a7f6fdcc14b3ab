// How Range cuts the elements of a statistic.
#pragma once

#include <cstdint>

namespace nx {

// Range: the elements of a statistic are cut into chunks. A part is either several whole chunks, or one of several
// pieces of a chunk.
struct Chunking {
  int64_t length;    // elements of a chunk
  int64_t count;     // chunks of a statistic
  int64_t piece;     // elements of a piece
  int64_t per_part;  // chunks in a part; 1 where a chunk has pieces
  int64_t pieces;    // of a chunk; 1 where a part has whole chunks
  bool by_rows;      // chunks so short that a row of threads takes a whole one
};

constexpr int kHeldChunks = 256;  // chunks of a statistic that blocks can hold in shared memory, at most

}  // namespace nx
