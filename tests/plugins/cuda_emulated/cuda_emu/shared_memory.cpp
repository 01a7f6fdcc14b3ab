#include "shared_memory.h"

#include <cstdlib>
#include <cstring>

#include "device_control.h"
#include "errors.h"
#include "sanitizers.h"

namespace cuda_emu {
namespace {

constexpr size_t kArenaBytes = 96 * 1024;   // 48 KiB of static arrays with their gaps
constexpr size_t kStaticLimit = 48 * 1024;  // CUDA's own
constexpr size_t kGap = 64, kDynamicAlignment = 128;

unsigned char filling = 0xFF;

size_t room(size_t bytes) { return (bytes + kDynamicAlignment - 1) / kDynamicAlignment * kDynamicAlignment + kGap; }

bool intact(const char* gap) {
  for (size_t i = 0; i < kGap; ++i)
    if (static_cast<unsigned char>(gap[i]) != filling) return false;
  return true;
}

}  // namespace

void* shared_array(const void* tag, size_t bytes, size_t alignment, const char* file, int line) {
  Block& block = *current->block;
  for (const SharedArray& each : block.arrays)
    if (each.tag == tag) return block.arena + each.offset;
  current->site = {file, line};
  if (alignment > kGap) fail("shared array aligned to %zu bytes: the emulation offers %zu", alignment, kGap);
  block.static_bytes += bytes;
  if (block.static_bytes > kStaticLimit) fail("%zu bytes of static shared memory: CUDA has 48 KiB", block.static_bytes);
  if (block.static_bytes + block.dynamic_bytes > size_t(device_control().shared_memory))
    fail("%zu bytes of static and %zu of dynamic shared memory: the device has %d a block", block.static_bytes,
         block.dynamic_bytes, device_control().shared_memory);
  size_t offset = (block.arena_used + kGap - 1) / kGap * kGap;
  block.arena_used = offset + bytes + kGap;
  if (block.arena_used > kArenaBytes) fail("too many shared arrays for the emulation");
  Unwatched scope;
  block.arrays.push_back({tag, offset, bytes});
  unpoison(block.arena + offset, bytes + kGap);
  memset(block.arena + offset, filling, bytes + kGap);
  poison(block.arena + offset + bytes, kGap);
  return block.arena + offset;
}

void* dynamic_shared() { return current->block->dynamic; }

unsigned rank_in_cluster(const char* file, int line) {
  current->site = {file, line};
  require_clusters();
  return current->block->rank;
}

void* peer_shared(const void* pointer, unsigned rank, const char* file, int line) {
  current->site = {file, line};
  require_clusters();
  Block& own = *current->block;
  if (!gang.cluster || rank >= gang.blocks.size()) fail("rank %u in a cluster of %zu", rank, gang.blocks.size());
  Block& peer = gang.blocks[rank];
  if (&peer != &own) {
    if (gang.barrier.generation == 0)
      fail("a peer's shared memory before any cluster barrier: it may not have started");
    if (peer.barrier.exited == peer.barrier.size) fail("shared memory of block rank %u, which has exited", rank);
    peer.seen_by_peer = true;
    peer.seen_in = gang.barrier.generation;
  }
  auto* byte = static_cast<const char*>(pointer);
  if (byte >= own.arena && byte < own.arena + own.arena_used) return peer.arena + (byte - own.arena);
  if (byte >= own.dynamic && byte <= own.dynamic + own.dynamic_bytes) return peer.dynamic + (byte - own.dynamic);
  fail("dsmem of a pointer that is not shared memory of this block");
}

void misaligned(const void* pointer, size_t bytes, const char* file, int line) {
  current->site = {file, line};
  fail("misaligned access: address %p for %zu bytes", pointer, bytes);
}

void open_shared_memory(Block& block, size_t dynamic_bytes, unsigned char fill) {
  filling = fill;
  Unwatched scope;
  if (!block.arena) block.arena = static_cast<char*>(aligned_alloc(kDynamicAlignment, kArenaBytes));
  if (!block.dynamic || block.dynamic_bytes != dynamic_bytes) {
    if (block.dynamic) unpoison(block.dynamic, room(block.dynamic_bytes));
    free(block.dynamic);
    block.dynamic = static_cast<char*>(aligned_alloc(kDynamicAlignment, (room(dynamic_bytes) + 127) / 128 * 128));
  }
  block.dynamic_bytes = dynamic_bytes;
  poison(block.arena, kArenaBytes);
  unpoison(block.dynamic, room(dynamic_bytes));
  memset(block.dynamic, filling, room(dynamic_bytes));
  poison(block.dynamic + dynamic_bytes, room(dynamic_bytes) - dynamic_bytes);
  block.arrays.clear();
  block.arena_used = block.static_bytes = 0;
  block.seen_by_peer = false;
}

void close_shared_memory(Block& block) {
#ifndef NX_EMU_ASAN
  for (const SharedArray& each : block.arrays)
    if (!intact(block.arena + each.offset + each.bytes)) fail("a write beyond a shared array of %zu bytes", each.bytes);
  if (!intact(block.dynamic + block.dynamic_bytes)) fail("a write beyond dynamic shared memory");
#endif
  if (!gang.cluster || gang.blocks.size() == 1) return;
  if (block.seen_by_peer && block.seen_in == gang.barrier.generation)
    fail("a block exits while a peer may read its shared memory: no cluster barrier since dsmem()");
  poison(block.arena, kArenaBytes);
  poison(block.dynamic, block.dynamic_bytes);
#if !defined(NX_EMU_ASAN) && !defined(NX_EMU_TSAN)
  memset(block.dynamic, filling, block.dynamic_bytes);
  memset(block.arena, filling, block.arena_used);
#endif
}

void free_shared_memory(Block& block) {
  Unwatched scope;
  if (block.dynamic) {
    unpoison(block.arena, kArenaBytes);
    unpoison(block.dynamic, room(block.dynamic_bytes));
  }
  free(block.arena);
  free(block.dynamic);
  block.arena = block.dynamic = nullptr;
}

}  // namespace cuda_emu
