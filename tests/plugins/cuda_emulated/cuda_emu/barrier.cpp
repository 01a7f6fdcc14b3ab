#include "barrier.h"

#include "device_control.h"
#include "errors.h"
#include "sanitizers.h"
#include "scheduler.h"

namespace cuda_emu {
namespace {

void wake(Block& block) {
  // Every live thread of the block waits at this barrier, or it would not have opened.
  for (unsigned w = 0; w < block.warp_count; ++w) block.warps[w].runnable = block.warps[w].live;
}

// Blocks until `size` threads are here. CUDA wants all of them at the same barrier of the program.
void arrive(Barrier& barrier, const char* name, Block* block) {
  Thread& me = *current;
  if (barrier.exited) fail("%u threads exited before %s that others reach", barrier.exited, name);
  if (barrier.waiting == 0) barrier.site = me.site;
  if (!same(barrier.site, me.site))
    fail("threads meet at different barriers: %s here and at %s:%d", name, barrier.site.file, barrier.site.line);
  uint64_t* tag = &barrier.tags[barrier.generation & 1];
  release(tag);
  if (++barrier.waiting == barrier.size) {
    barrier.waiting = 0;
    barrier.generation++;
    gang.reschedule = true;
    if (block)
      wake(*block);
    else
      for (Block& each : gang.blocks) wake(each);
    maybe_yield();
  } else {
    me.warp->runnable &= ~(1u << me.lane);
    suspend(me.fiber, false);
  }
  acquire(tag);
}

}  // namespace

void sync_threads(const char* file, int line) {
  current->site = {file, line};
  arrive(current->block->barrier, "__syncthreads", current->block);
}

void sync_cluster(const char* file, int line) {
  current->site = {file, line};
  require_clusters();
  arrive(gang.barrier, "the cluster barrier", nullptr);
}

void sync_grid(const char* file, int line) {
  current->site = {file, line};
  if (gang.cluster) fail("grid barrier in a launch that is not cooperative");
  arrive(gang.barrier, "the grid barrier", nullptr);
}

void leave_barrier(Barrier& barrier, const char* name) {
  if (barrier.waiting)
    fail("a thread exits while %u others wait at %s, %s:%d", barrier.waiting, name, barrier.site.file,
         barrier.site.line);
  barrier.exited++;
}

}  // namespace cuda_emu
