#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "sanitizers.h"

#if !defined(__x86_64__)  // elsewhere the C library switches, with a system call each time
#include <ucontext.h>
#endif

namespace cuda_emu {
namespace {

// Stacks that lie a multiple of 64 KiB apart would share their cache lines' sets: shift each by some lines.
constexpr size_t kColours = 16, kColourBytes = 192;
// Each guard page costs two of the process's memory mappings, of which it has 65,530.
constexpr size_t kGuarded = 8192, kPage = 4096;

struct Scheduler {
  void* stack_pointer = nullptr;
  void* fake_stack = nullptr;
  void* logical_thread = nullptr;
  const void* bottom = nullptr;
  size_t bytes = 0;
};
Scheduler scheduler;

#ifdef NX_EMU_TSAN
// Fresh memory each time: ThreadSanitizer must not hold an earlier thread's accesses against a later one.
char* take_stack(size_t) { return static_cast<char*>(aligned_alloc(kPage, kStackBytes)); }
void give_stack(char* stack) { free(stack); }
#else
std::vector<char*> stacks;

char* take_stack(size_t number) {
  while (stacks.size() <= number) {
    void* memory =
        mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || (stacks.size() < kGuarded && mprotect(memory, kPage, PROT_NONE))) {
      fputs("cuda_emu: no memory for another thread's stack\n", stderr);
      abort();
    }
    stacks.push_back(static_cast<char*>(memory));
  }
  return stacks[number];
}
void give_stack(char*) {}
#endif

#if defined(__x86_64__)
extern "C" void nx_emu_switch(void** save, void* load);
__asm__(R"(
.pushsection .text
.local nx_emu_switch
.type nx_emu_switch,@function
nx_emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size nx_emu_switch, .-nx_emu_switch
.popsection
)");

void* first_frame(char* stack, size_t bytes, void (*entry)()) {
  uintptr_t top = reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t(15);
  void** slot = reinterpret_cast<void**>(top);
  *--slot = nullptr;  // keeps the alignment that a call leaves
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--slot = nullptr;
  return slot;
}
#else
ucontext_t* context(void*& slot) {
  if (!slot) slot = new ucontext_t;
  return static_cast<ucontext_t*>(slot);
}

void nx_emu_switch(void** save, void* load) { swapcontext(context(*save), static_cast<ucontext_t*>(load)); }

void* first_frame(char* stack, size_t bytes, void (*entry)()) {
  auto* made = new ucontext_t;
  getcontext(made);
  made->uc_stack.ss_sp = stack;
  made->uc_stack.ss_size = bytes;
  made->uc_link = nullptr;
  makecontext(made, entry, 0);
  return made;
}
#endif

}  // namespace

void prepare(Fiber& fiber, size_t number, void (*entry)()) {
  fiber.stack = take_stack(number);
  fiber.fake_stack = nullptr;
  unpoison(fiber.stack + kPage, kStackBytes - kPage);  // frames of a thread that ended in an error
  fiber.stack_pointer = first_frame(fiber.stack, kStackBytes - number % kColours * kColourBytes, entry);
#ifdef NX_EMU_TSAN
  fiber.logical_thread = __tsan_create_fiber(0);
  scheduler.logical_thread = __tsan_get_current_fiber();
#endif
}

void entered() {
#ifdef NX_EMU_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.bottom, &scheduler.bytes);
#endif
}

void resume(Fiber& fiber) {
#ifdef NX_EMU_ASAN
  __sanitizer_start_switch_fiber(&scheduler.fake_stack, fiber.stack, kStackBytes);
#endif
#ifdef NX_EMU_TSAN
  __tsan_switch_to_fiber(fiber.logical_thread, 1);  // 1: a switch orders nothing
#endif
  nx_emu_switch(&scheduler.stack_pointer, fiber.stack_pointer);
#ifdef NX_EMU_ASAN
  __sanitizer_finish_switch_fiber(scheduler.fake_stack, nullptr, nullptr);
#endif
}

void suspend(Fiber& fiber, bool last) {
#ifdef NX_EMU_ASAN
  __sanitizer_start_switch_fiber(last ? nullptr : &fiber.fake_stack, scheduler.bottom, scheduler.bytes);
#endif
#ifdef NX_EMU_TSAN
  __tsan_switch_to_fiber(scheduler.logical_thread, 1);
#endif
  (void)last;
  nx_emu_switch(&fiber.stack_pointer, scheduler.stack_pointer);
#ifdef NX_EMU_ASAN
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &scheduler.bottom, &scheduler.bytes);
#endif
}

void discard(Fiber& fiber) {
#ifdef NX_EMU_TSAN
  __tsan_destroy_fiber(fiber.logical_thread);
#endif
#if !defined(__x86_64__)
  delete static_cast<ucontext_t*>(fiber.stack_pointer);
#endif
  give_stack(fiber.stack);
}

}  // namespace cuda_emu
