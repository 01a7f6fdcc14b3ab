// Shared memory: arrays with gaps around them, filled with NaN bytes, closed when their block is gone; and alignment.
#pragma once

#include <cstddef>
#include <cstdint>

#include "state.h"

namespace cuda_emu {

// The block's array of this declaration (tag), `bytes` long.
void* shared_array(const void* tag, size_t bytes, size_t alignment, const char* file, int line);

void* dynamic_shared();

// Where `pointer` into this block's shared memory lies in the block of that rank.
void* peer_shared(const void* pointer, unsigned rank, const char* file, int line);

unsigned rank_in_cluster(const char* file, int line);

// A kernel's address that is not a multiple of the access's size.
[[noreturn]] void misaligned(const void* pointer, size_t bytes, const char* file, int line);

inline void check_aligned(const void* pointer, size_t bytes, const char* file, int line) {
  if (reinterpret_cast<uintptr_t>(pointer) % bytes) misaligned(pointer, bytes, file, line);
}

// Fresh shared memory for a block, its content arbitrary: `fill` bytes.
void open_shared_memory(Block& block, size_t dynamic_bytes, unsigned char fill);

// The last thread of the block has exited.
void close_shared_memory(Block& block);

void free_shared_memory(Block& block);

}  // namespace cuda_emu
