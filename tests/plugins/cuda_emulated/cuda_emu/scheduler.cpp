#include "scheduler.h"

#include <algorithm>
#include <cstdlib>

#include "async.h"
#include "barrier.h"
#include "errors.h"
#include "sanitizers.h"
#include "shared_memory.h"
#include "state.h"

namespace cuda_emu {

Thread* current = nullptr;
Gang gang;
Grid grid;
char fence;

namespace {

Random dice{0};
bool seeded = false;

void resume_lane(Warp& warp, unsigned lane) {
  current = &warp.threads[lane];
  resume(current->fiber);
  current = nullptr;
}

bool runs(const Warp& warp, unsigned lane) { return warp.runnable >> lane & 1; }

// Lanes in order, round after round, until all of them wait.
bool run_warp_in_order(Warp& warp) {
  bool ran = false;
  while (warp.runnable && error.empty()) {
    ran = true;
    for (unsigned todo = warp.runnable; todo && error.empty(); todo &= todo - 1) {
      unsigned lane = unsigned(__builtin_ctz(todo));
      if (runs(warp, lane)) resume_lane(warp, lane);
    }
  }
  return ran;
}

// Lanes in a random rotation and direction, until all wait, a barrier opens or the warp's luck turns.
void run_warp_at_random(Warp& warp) {
  unsigned start = dice.below(kLanes), step = dice.below(2) ? 1 : kLanes - 1;
  gang.reschedule = false;
  while (warp.runnable) {
    for (unsigned i = 0, lane = start; i < kLanes; ++i, lane = (lane + step) % kLanes) {
      if (!runs(warp, lane)) continue;
      resume_lane(warp, lane);
      if (!error.empty() || gang.reschedule) return;
      if (dice.below(64) == 0) {
        warp.priority = dice.next();
        return;
      }
    }
  }
}

Warp* most_urgent() {
  Warp* best = nullptr;
  for (Warp& warp : gang.warps)
    if (warp.runnable && (!best || warp.priority > best->priority)) best = &warp;
  return best;
}

bool step() {
  if (seeded) {
    Warp* warp = most_urgent();
    if (warp) run_warp_at_random(*warp);
    return warp;
  }
  bool ran = false;
  for (Warp& warp : gang.warps)
    if (warp.runnable && error.empty()) ran |= run_warp_in_order(warp);
  return ran;
}

void report_deadlock() {
  for (Thread& thread : gang.threads) {
    if (!(thread.warp->live >> thread.lane & 1)) continue;
    current = &thread;
    bool in_warp = thread.warp->waiting >> thread.lane & 1;
    report("deadlock: no thread can run; the first waits %s", in_warp ? "for lanes of its warp" : "at a barrier");
    current = nullptr;
    return;
  }
}

char ended;  // orders each thread's end before what the host does next

void leave() {
  Thread& thread = *current;
  Block& block = *thread.block;
  if (copies_pending(thread)) fail("a thread ends with cp.async copies that it never waited for");
  leave_barrier(block.barrier, "__syncthreads");
  leave_barrier(gang.barrier, gang.cluster ? "the cluster barrier" : "the grid barrier");
  if (block.barrier.exited == block.barrier.size) close_shared_memory(block);
  thread.warp->live &= ~(1u << thread.lane);
  thread.warp->runnable &= ~(1u << thread.lane);
  release(&ended);
}

}  // namespace

void thread_main() {
  entered();
  gang.body(gang.arguments);
  leave();
  suspend(current->fiber, true);
  abort();
}

void maybe_yield() {
  if (seeded && dice.below(8) == 0) suspend(current->fiber, false);
}

void run_gang(uint64_t seed) {
  seeded = seed != 0;
  dice = Random{seed};
  if (seeded)
    for (Warp& warp : gang.warps) warp.priority = dice.next();
  while (error.empty() && gang.barrier.exited < gang.barrier.size)
    if (!step() && error.empty()) report_deadlock();
}

// After a launch: its threads' ends come before what the host does next.
void join_threads() { acquire(&ended); }

}  // namespace cuda_emu
