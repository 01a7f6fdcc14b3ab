// A fiber is a stack and a stack pointer: one CUDA thread. The scheduler resumes it, it suspends itself.
#pragma once

#include <cstddef>

namespace cuda_emu {

constexpr size_t kStackBytes = 64 * 1024;

struct Fiber {
  void* stack_pointer = nullptr;   // where it was suspended
  char* stack = nullptr;           // the lowest byte of its stack
  void* fake_stack = nullptr;      // AddressSanitizer's
  void* logical_thread = nullptr;  // ThreadSanitizer's
};

// Ready to run entry() on the number-th stack of the pool. entry must never return.
void prepare(Fiber& fiber, size_t number, void (*entry)());

// To be called first in entry().
void entered();

// Run the fiber until it suspends; from the scheduler alone.
void resume(Fiber& fiber);

// Back to the scheduler. `last`: never to be resumed.
void suspend(Fiber& fiber, bool last);

// After the fiber's last suspension.
void discard(Fiber& fiber);

}  // namespace cuda_emu
