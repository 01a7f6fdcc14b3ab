// Shuffles, votes and __syncwarp, as functions of CUDA's names.
#pragma once

#include <cstdint>
#include <cstring>

#include "state.h"

namespace cuda_emu {

// Waits for all lanes of `mask`, then yields what the operation gives this lane.
uint64_t warp_operation(WarpOp op, unsigned mask, uint64_t value, int source, const char* file, int line);

template <class T>
T shuffle(unsigned mask, T value, int source, const char* file, int line) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles 4 or 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = warp_operation(WarpOp::kShuffle, mask, bits, source, file, line);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

unsigned lane();

// The lane that a shuffle reads: `target` if it lies within the caller's segment of `width` lanes, else the caller.
inline int within(int target, int width) {
  int own = int(lane()), first = own / width * width;
  return target >= first && target < first + width ? target : own;
}

}  // namespace cuda_emu

#define NX_EMU_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncwarp(unsigned mask = 0xffffffffu, NX_EMU_SITE) {
  cuda_emu::warp_operation(cuda_emu::WarpOp::kSync, mask, 0, 0, file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, NX_EMU_SITE) {
  return unsigned(cuda_emu::warp_operation(cuda_emu::WarpOp::kBallot, mask, predicate != 0, 0, file, line));
}

inline int __any_sync(unsigned mask, int predicate, NX_EMU_SITE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, NX_EMU_SITE) {
  return __ballot_sync(mask, predicate, file, line) == mask;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, NX_EMU_SITE) {
  int first = int(cuda_emu::lane()) / width * width;
  return cuda_emu::shuffle(mask, value, first + (source & (width - 1)), file, line);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, NX_EMU_SITE) {
  int own = int(cuda_emu::lane()), target = own ^ bits;
  // Of an earlier segment a lane may read, of a later one it may not (CUDA's own asymmetry).
  bool readable = target < own / width * width + width;
  return cuda_emu::shuffle(mask, value, readable ? target : own, file, line);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, NX_EMU_SITE) {
  return cuda_emu::shuffle(mask, value, cuda_emu::within(int(cuda_emu::lane() + delta), width), file, line);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, NX_EMU_SITE) {
  return cuda_emu::shuffle(mask, value, cuda_emu::within(int(cuda_emu::lane()) - int(delta), width), file, line);
}
