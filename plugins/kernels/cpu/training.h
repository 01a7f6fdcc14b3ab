// Training: what the vectorised passes and their driver exchange. T is float or double, x and all that belongs to it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nx::cpu {

// Some elements of one channel, or, where channels stand side by side, some rows of a few of them.
struct Piece {
  const void* x;    // the channel's first element, or the first channel's
  const void* g;    // the same of the gradient of y
  void* out;        // the same of what is written
  int64_t begin;    // the first element, in the order of batch and then space; the first row
  int64_t end;      // behind the last
  int64_t length;   // contiguous elements of a channel
  int64_t stride;   // elements from run to run of them, or from row to row
  int64_t columns;  // channels side by side; 0 for one channel, whose elements are contiguous
  bool stream;      // write past the caches
};

// The widest set of channels side by side that one piece has, in bytes.
constexpr int64_t kColumnBytes = 1024;

// The most lanes of a vector: 64 bytes of float.
constexpr int kMaxLanes = 16;

// What a pass found out, per channel.
struct Seen {
  double sum;         // of x; of |d| or d^2; of g
  double product;     // of g*d
  double side;        // of d's signs (L1), of d (L2), of the signs at the largest |d| (Linf) or above the k-th (Top-k)
  double high;        // the largest x
  double low;         // the smallest
  double count;       // of |d| equal to the largest (Linf) or above the k-th (Top-k); of d equal to the top (Range)
  double equal;       // of |d| equal to the k-th; of d equal to the bottom (Range)
  double equal_side;  // of the signs there
};

// Top-k: the |d| of a piece that may be among the k largest, of one channel.
struct Collected {
  void* values;      // above the threshold
  int64_t count;     // of values
  int64_t capacity;  // at which the k largest are kept and the threshold raised; there is room for kMaxLanes more
  int64_t k;         // how many are looked for
  double threshold;  // at least k elements reach it
};

// What is known of the channels of a piece: arrays of T, one value each.
struct Known {
  const void* mean;
  const void* top;       // Linf: the largest |d|; Top-k: the k-th largest; Range: the largest d of the piece
  const void* bottom;    // Range: the smallest d of the piece
  Collected* collected;  // Top-k, in forward
};

// out = d*slope + shift, and in backward g*slope + (slope of the statistic) + shift. Arrays of T, one value a channel.
struct Coefficients {
  const void* slope;
  const void* shift;
  const void* worth;  // of each sign (L1), of d (L2), at the largest or above the k-th, at the top
  const void* equal;  // at the k-th (Top-k), at the bottom (Range)
};

// The passes of training over one type. `kind` is an NxKind; `out` has one entry a channel.
struct TrainingTable {
  void (*first)(int32_t kind, const Piece& piece, Seen* out);
  void (*second)(int32_t kind, const Piece& piece, const Known& known, Seen* out);
  void (*apply)(const Piece& piece, const Known& known, const Coefficients& coefficients);
  void (*gradient_sums)(int32_t kind, const Piece& piece, const Known& known, Seen* out);
  void (*gradient)(int32_t kind, const Piece& piece, const Known& known, const Coefficients& coefficients);
};

}  // namespace nx::cpu
