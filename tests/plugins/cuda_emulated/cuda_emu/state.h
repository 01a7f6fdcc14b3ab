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

struct Site {
  const char* file = "";
  int line = 0;
};

// 16 bytes on their way to shared memory (async.h).
struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Thread {
  uint3 index{};
  unsigned number = 0, lane = 0;
  Block* block = nullptr;
  Warp* warp = nullptr;
  Fiber fiber;
  Site site;            // where it last called the emulation
  uint64_t result = 0;  // of its latest warp operation
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // copies.size() at each commit
  size_t copied = 0;           // copies that have landed
};

enum class WarpOp : uint8_t { kSync, kShuffle, kBallot };

// What a lane brings to a warp operation. source: the lane whose value it wants.
struct Deposit {
  WarpOp op;
  unsigned mask;
  uint64_t value;
  int source;
  Site site;
};

struct Warp {
  Thread* threads = nullptr;  // of lane 0
  unsigned live = 0;          // lanes that exist and have not exited
  unsigned runnable = 0;
  unsigned waiting = 0;  // lanes inside a warp operation
  Deposit deposits[kLanes];
  unsigned generation = 0;
  uint64_t* tags = nullptr;
  uint64_t priority = 0;
};

struct SharedArray {
  const void* tag;
  size_t offset, bytes;
};

// A barrier of `size` threads: a block's, or that of all blocks that run together. tags: two places that order what
// comes before and after it, taken in turn, so that a thread that runs ahead orders nothing for those behind.
struct Barrier {
  unsigned size = 0, waiting = 0, exited = 0, generation = 0;
  Site site;
  uint64_t* tags = nullptr;
};

struct Block {
  uint3 index{};
  unsigned rank = 0;  // in its cluster or cooperative grid
  Thread* threads = nullptr;
  Warp* warps = nullptr;
  unsigned thread_count = 0, warp_count = 0;
  Barrier barrier;
  char* arena = nullptr;  // static shared arrays with gaps between them
  size_t arena_used = 0, static_bytes = 0;
  std::vector<SharedArray> arrays;
  char* dynamic = nullptr;
  size_t dynamic_bytes = 0;
  bool seen_by_peer = false;  // a peer holds a pointer into it
  unsigned seen_in = 0;       // and took it in this generation of the cluster barrier
};

// The blocks that run side by side: a block, a cluster, or the grid of a cooperative launch.
struct Gang {
  std::vector<Block> blocks;
  std::vector<Warp> warps;
  std::vector<Thread> threads;
  Barrier barrier;
  uint64_t* tags = nullptr;  // of all barriers and warps
  bool cluster = false;
  void (*body)(const void* arguments) = nullptr;
  const void* arguments = nullptr;
  bool reschedule = false;  // a barrier opened
};

struct Grid {
  dim3 grid, block;
};

// The thread that runs now, null outside kernels. One launch runs at a time, on one host thread.
extern Thread* current;
extern Gang gang;
extern Grid grid;

inline bool same(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || !__builtin_strcmp(a.file, b.file));
}

}  // namespace cuda_emu
