// A fiber is a stack and a stack pointer: one CUDA thread. The scheduler resumes it, it suspends itself.
#pragma once

#include <cstddef>

namespace cuda_emu {

constexpr size_t kStackBytes = 64 * 1024;

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  void* fake_stack = nullptr;      // AddressSanitizer
  void* logical_thread = nullptr;  // ThreadSanitizer
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
