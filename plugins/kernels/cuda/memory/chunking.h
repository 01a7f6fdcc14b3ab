// How Range cuts the elements of a statistic.
#pragma once

#include <cstdint>

namespace nx {

// Range: the elements of a statistic are cut into chunks. A part is either several whole chunks, or one of several
// pieces of a chunk.
struct Chunking {
  int64_t length, count, piece;  // elements of a chunk, chunks, elements of a piece
  int64_t per_part, pieces;      // chunks in a part, pieces of a chunk: one of them is 1
  bool by_rows;                  // chunks so short that a row of threads takes a whole one
};

}  // namespace nx
