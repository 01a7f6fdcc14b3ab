// A kernel that does what CUDA forbids: the message, and the end of its launch.
#pragma once

#include <cstddef>
#include <string>

namespace cuda_emu {

// The current launch's first error; empty while all is well.
extern std::string error;

// Records an error with the place of the current thread, prints it and lets the launch end with it.
void report(const char* format, ...) __attribute__((format(printf, 1, 2)));

// The same inside a kernel: its thread never runs again.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// The kernel that is being launched, for messages and for the list of launches that tests read. blocks: that run
// together.
void name_kernel(const void* kernel, size_t blocks);

}  // namespace cuda_emu
