// One launch as the emulation sees it: threads in warps, warps in blocks, and the blocks that run side by side.
#pragma once

#include <cuda_runtime.h>  // dim3, uint3, cudaStream_t: host declarations, nothing of it is linked

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fiber.h"

namespace cuda_emu {

constexpr unsigned kLanes = 32;

struct Block;
struct Warp;

// A place in the sources of a kernel.
struct Site {
  const char* file = "";
  int line = 0;  // from 1; 0: nowhere yet
};

// Bytes on their way to shared memory (async.h).
struct Copy {
  void* to;          // in shared memory
  const void* from;  // in global memory
  size_t bytes;      // 4, 8 or 16
};

struct Thread {
  uint3 index{};               // threadIdx
  unsigned number = 0;         // in its block, x first
  unsigned lane = 0;           // in its warp
  Block* block = nullptr;      // the one it is part of
  Warp* warp = nullptr;        // the one it is part of
  Fiber fiber;                 // what it runs on
  Site site;                   // where it last called the emulation
  uint64_t result = 0;         // of its latest warp operation
  std::vector<Copy> copies;    // asked for since it began
  std::vector<size_t> groups;  // copies.size() at each commit
  size_t copied = 0;           // copies that have landed
};

enum class WarpOp : uint8_t { kSync, kShuffle, kBallot };

// What a lane brings to a warp operation.
struct Deposit {
  WarpOp op;       // must be that of all lanes in the mask
  unsigned mask;   // the lanes that take part, as this one was told
  uint64_t value;  // the bits it offers
  int source;      // the lane whose value it wants
  Site site;       // where it called
};

struct Warp {
  Thread* threads = nullptr;  // of lane 0
  unsigned live = 0;          // lanes that exist and have not exited
  unsigned runnable = 0;      // lanes that wait for nothing
  unsigned waiting = 0;       // lanes inside a warp operation
  Deposit deposits[kLanes];   // of the lanes that wait, by lane
  unsigned generation = 0;    // warp operations that are through
  uint64_t* tags = nullptr;   // two places, as a barrier's
  uint64_t priority = 0;      // in a seeded schedule, the largest runs first
};

// A static array in shared memory, made by the first thread that names it.
struct SharedArray {
  const void* tag;  // one for each declaration
  size_t offset;    // in the block's arena, bytes
  size_t bytes;     // of the array itself, without the gap behind it
};

// A barrier of a block's threads, or of those of all blocks that run together.
struct Barrier {
  unsigned size = 0;        // threads that it holds up
  unsigned waiting = 0;     // threads that have arrived
  unsigned exited = 0;      // threads that will never arrive
  unsigned generation = 0;  // how often it has opened
  Site site;                // where the first of those that wait has arrived
  // Two places that order what comes before and after it, taken in turn, so that a thread that runs ahead orders
  // nothing for those behind.
  uint64_t* tags = nullptr;
};

struct Block {
  uint3 index{};                    // blockIdx
  unsigned rank = 0;                // in its cluster or cooperative grid
  Thread* threads = nullptr;        // the first of its own
  Warp* warps = nullptr;            // the first of its own
  unsigned thread_count = 0;        // how many threads
  unsigned warp_count = 0;          // how many warps, the last one perhaps not full
  Barrier barrier;                  // __syncthreads
  char* arena = nullptr;            // static shared arrays with gaps between them
  size_t arena_used = 0;            // bytes of it, gaps included
  size_t static_bytes = 0;          // bytes of the arrays alone
  std::vector<SharedArray> arrays;  // in the order in which they were made
  char* dynamic = nullptr;          // the launch's dynamic shared memory
  size_t dynamic_bytes = 0;         // its size
  bool seen_by_peer = false;        // a peer holds a pointer into it
  unsigned seen_in = 0;             // and took it in this generation of the cluster barrier
};

// The blocks that run side by side: a block, a cluster, or the grid of a cooperative launch.
struct Gang {
  std::vector<Block> blocks;                      // by rank
  std::vector<Warp> warps;                        // of all blocks, block by block
  std::vector<Thread> threads;                    // of all blocks, block by block
  Barrier barrier;                                // of all threads: a cluster's, or a cooperative grid's
  uint64_t* tags = nullptr;                       // of all barriers and warps
  bool cluster = false;                           // whether the blocks are one cluster
  void (*body)(const void* arguments) = nullptr;  // calls the kernel
  const void* arguments = nullptr;                // the kernel's
  bool reschedule = false;                        // a barrier opened
};

struct Grid {
  dim3 grid;   // gridDim
  dim3 block;  // blockDim
};

// The thread that runs now, null outside kernels. One launch runs at a time, on one host thread.
extern Thread* current;
extern Gang gang;
extern Grid grid;

inline bool same(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || !__builtin_strcmp(a.file, b.file));
}

}  // namespace cuda_emu
