#include "warp.h"

#include "errors.h"
#include "sanitizers.h"

namespace cuda_emu {
namespace {

void check(const Warp& warp, unsigned mask) {
  Thread& me = *current;
  if (!(mask >> me.lane & 1)) fail("lane %u is not in its own mask %08x", me.lane, mask);
  if (mask & ~warp.live) fail("mask %08x names lanes that have exited or do not exist: %08x", mask, mask & ~warp.live);
  const Deposit& mine = warp.deposits[me.lane];
  for (unsigned others = warp.waiting; others; others &= others - 1) {
    const Deposit& other = warp.deposits[__builtin_ctz(others)];
    if (!(other.mask & mask)) continue;
    if (other.mask != mask) fail("lanes of a warp meet with different masks: %08x and %08x", mask, other.mask);
    if (other.op != mine.op || !same(other.site, mine.site))
      fail("lanes of a warp meet in different operations: here and at %s:%d", other.site.file, other.site.line);
    break;  // the others of this mask were compared with it when they came
  }
}

// The last lane has come: what every lane gets.
void complete(Warp& warp, unsigned mask, WarpOp op) {
  uint64_t votes = 0;
  if (op == WarpOp::kBallot)
    for (unsigned left = mask; left; left &= left - 1) {
      int lane = __builtin_ctz(left);
      votes |= warp.deposits[lane].value << lane;
    }
  for (unsigned left = mask; left; left &= left - 1) {
    int lane = __builtin_ctz(left);
    int source = warp.deposits[lane].source;
    if (op == WarpOp::kShuffle && !(mask >> source & 1))
      fail("lane %d shuffles from lane %d, which is not in the mask %08x", lane, source, mask);
    warp.threads[lane].result = op == WarpOp::kBallot ? votes : warp.deposits[source].value;
  }
  warp.waiting &= ~mask;
  warp.runnable |= mask;
  warp.generation++;
}

}  // namespace

unsigned lane() { return current->lane; }

uint64_t warp_operation(WarpOp op, unsigned mask, uint64_t value, int source, const char* file, int line) {
  Thread& me = *current;
  Warp& warp = *me.warp;
  me.site = {file, line};
  warp.deposits[me.lane] = {op, mask, value, source, me.site};
  check(warp, mask);
  // Shuffles and votes order no memory accesses; __syncwarp does.
  uint64_t* tag = op == WarpOp::kSync ? &warp.tags[warp.generation & 1] : nullptr;
  if (tag) release(tag);
  warp.waiting |= 1u << me.lane;
  if ((warp.waiting & mask) == mask) {
    complete(warp, mask, op);
  } else {
    warp.runnable &= ~(1u << me.lane);
    suspend(me.fiber, false);
  }
  if (tag) acquire(tag);
  return me.result;
}

}  // namespace cuda_emu
