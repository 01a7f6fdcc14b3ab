// What AddressSanitizer and ThreadSanitizer must be told. The build defines NX_EMU_ASAN or NX_EMU_TSAN: the emulation's
// own sources are compiled without instrumentation, so that only the kernels' accesses are watched.
#pragma once

#include <cstddef>

#ifdef NX_EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef NX_EMU_TSAN
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace cuda_emu {

// Bytes that no access may touch (poison) or that may be used again.
inline void poison(const void* begin, size_t bytes) {
#ifdef NX_EMU_ASAN
  __asan_poison_memory_region(begin, bytes);
#else
  (void)begin;
  (void)bytes;
#endif
}

inline void unpoison(const void* begin, size_t bytes) {
#ifdef NX_EMU_ASAN
  __asan_unpoison_memory_region(begin, bytes);
#else
  (void)begin;
  (void)bytes;
#endif
}

// Happens-before, for ThreadSanitizer: what a thread did before release(tag) comes before what follows acquire(tag).
inline void release(void* tag) {
#ifdef NX_EMU_TSAN
  __tsan_release(tag);
#else
  (void)tag;
#endif
}

inline void acquire(void* tag) {
#ifdef NX_EMU_TSAN
  __tsan_acquire(tag);
#else
  (void)tag;
#endif
}

// Intercepted calls (malloc, free, memset) inside this scope are the emulation's own and race with nothing.
struct Unwatched {
#ifdef NX_EMU_TSAN
  Unwatched() {
    AnnotateIgnoreReadsBegin("", 0);
    AnnotateIgnoreWritesBegin("", 0);
  }
  ~Unwatched() {
    AnnotateIgnoreWritesEnd("", 0);
    AnnotateIgnoreReadsEnd("", 0);
  }
#else
  Unwatched() {}
#endif
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

}  // namespace cuda_emu
