// Which thread runs next. Seed 0: warps in order, lanes in order. Any other seed: one warp runs as far ahead of the
// others as its random priority lets it, priorities change at random moments, and lanes of a warp run in random order.
#pragma once

#include <cstdint>

namespace cuda_emu {

// A generator of random numbers.
struct Random {
  uint64_t state;    // the seed, at first
  uint64_t next() {  // splitmix64
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  unsigned below(unsigned limit) { return unsigned(next() % limit); }
};

// Runs every thread of the gang to its end, or until an error is recorded.
void run_gang(uint64_t seed);

// A point where a seeded schedule may turn to other threads.
void maybe_yield();

// After a launch: the ends of its threads come before what the host does next.
void join_threads();

// What a thread of the gang executes, from first to last.
void thread_main();

}  // namespace cuda_emu
