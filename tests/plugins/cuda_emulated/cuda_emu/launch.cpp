#include "launch.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "device_control.h"
#include "errors.h"
#include "sanitizers.h"
#include "scheduler.h"
#include "shared_memory.h"
#include "state.h"

namespace cuda_emu {
namespace {

size_t volume(const dim3& size) { return size_t(size.x) * size.y * size.z; }

uint3 unravel(size_t index, const dim3& size) {
  return {unsigned(index % size.x), unsigned(index / size.x % size.y), unsigned(index / size.x / size.y)};
}

size_t resident_blocks(const Launch& launch, const DeviceControl& device) {
  size_t threads = device.compute_capability == 75 ? 1024 : device.compute_capability >= 86 ? 1536 : 2048;
  size_t by_threads = threads / volume(launch.block);
  size_t by_memory = size_t(device.shared_memory) / std::max<size_t>(launch.dynamic_shared, 1);
  return std::min(by_threads, by_memory) * size_t(device.multiprocessors);
}

// What CUDA would refuse.
void check(const Launch& launch, const DeviceControl& device) {
  const dim3 &grid = launch.grid, &block = launch.block, &cluster = launch.cluster;
  if (!volume(grid) || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return report("grid (%u, %u, %u)", grid.x, grid.y, grid.z);
  if (!volume(block) || volume(block) > 1024 || block.z > 64) return report("block of %zu threads", volume(block));
  if (launch.dynamic_shared > size_t(device.shared_memory))
    return report("%zu bytes of dynamic shared memory, %d at most", launch.dynamic_shared, device.shared_memory);
  size_t members = volume(cluster);
  if (!members || members > 8) return report("cluster of %zu blocks: 8 are portable", members);
  if (members > 1 && device.compute_capability < 90)
    return report("cluster launch on compute capability %d", device.compute_capability);
  if (grid.x % cluster.x || grid.y % cluster.y || grid.z % cluster.z)
    return report("grid is no multiple of the cluster");
  if (launch.cooperative && volume(grid) > resident_blocks(launch, device))
    return report("cooperative launch of %zu blocks: more than fit on the device", volume(grid));
}

// Room for `blocks` blocks side by side; kept from launch to launch.
void form_gang(const Launch& launch, size_t blocks) {
  size_t threads = volume(launch.block), warps = (threads + kLanes - 1) / kLanes;
  for (size_t i = blocks; i < gang.blocks.size(); ++i) free_shared_memory(gang.blocks[i]);
  gang.blocks.resize(blocks);
  gang.warps.resize(blocks * warps);
  gang.threads.resize(blocks * threads);
  gang.cluster = !launch.cooperative;
  gang.body = launch.body;
  gang.arguments = launch.arguments;
  for (size_t b = 0; b < blocks; ++b) {
    Block& block = gang.blocks[b];
    block.rank = unsigned(b);
    block.threads = &gang.threads[b * threads];
    block.warps = &gang.warps[b * warps];
    block.thread_count = unsigned(threads);
    block.warp_count = unsigned(warps);
    for (size_t t = 0; t < threads; ++t) {
      Thread& thread = block.threads[t];
      thread.index = unravel(t, launch.block);
      thread.number = unsigned(t);
      thread.lane = unsigned(t % kLanes);
      thread.block = &block;
      thread.warp = &block.warps[t / kLanes];
    }
    for (size_t w = 0; w < warps; ++w) block.warps[w].threads = &block.threads[w * kLanes];
  }
}

// Fresh ones for every gang: ThreadSanitizer would remember what an earlier gang ordered.
void renew_tags() {
  free(gang.tags);
  gang.tags = static_cast<uint64_t*>(calloc(2 * (1 + gang.blocks.size() + gang.warps.size()), sizeof(uint64_t)));
  uint64_t* next = gang.tags;
  gang.barrier.tags = next;
  for (Block& block : gang.blocks) block.barrier.tags = next += 2;
  for (Warp& warp : gang.warps) warp.tags = next += 2;
}

void reset(Block& block, uint3 index, size_t dynamic_shared, unsigned char fill) {
  block.index = index;
  block.barrier = Barrier{};
  block.barrier.size = block.thread_count;
  open_shared_memory(block, dynamic_shared, fill);
  for (unsigned w = 0; w < block.warp_count; ++w) {
    Warp& warp = block.warps[w];
    unsigned lanes = std::min(kLanes, block.thread_count - w * kLanes);
    warp.live = warp.runnable = lanes == kLanes ? ~0u : (1u << lanes) - 1;
    warp.waiting = warp.generation = 0;
  }
  for (unsigned t = 0; t < block.thread_count; ++t) {
    Thread& thread = block.threads[t];
    thread.site = {};
    thread.copies.clear();
    thread.groups.clear();
    thread.copied = 0;
    prepare(thread.fiber, block.rank * block.thread_count + t, thread_main);
  }
}

// The blocks of one cluster (or the one block, or the whole grid) from start to end.
void run_members(const Launch& launch, size_t set, uint64_t seed) {
  const dim3 members = launch.cooperative ? launch.grid : launch.cluster;
  const dim3 sets(launch.grid.x / members.x, launch.grid.y / members.y, launch.grid.z / members.z);
  uint3 tile = unravel(set, sets);
  unsigned char fill = seed % 2 ? 0x7F : 0xFF;  // NaN in every type, or huge floats that are no NaN
  gang.barrier = Barrier{};
  gang.barrier.size = unsigned(gang.threads.size());
  for (Block& block : gang.blocks) {
    uint3 offset = unravel(block.rank, members);
    uint3 index{tile.x * members.x + offset.x, tile.y * members.y + offset.y, tile.z * members.z + offset.z};
    reset(block, index, launch.dynamic_shared, fill);
  }
  renew_tags();
  run_gang(seed);
  for (Thread& thread : gang.threads) discard(thread.fiber);
#ifdef NX_EMU_TSAN
  for (Block& block : gang.blocks) free_shared_memory(block);  // see take_stack
#endif
}

void run_grid(const Launch& launch, uint64_t seed) {
  size_t blocks = launch.cooperative ? volume(launch.grid) : volume(launch.cluster);
  size_t sets = volume(launch.grid) / blocks;
  form_gang(launch, blocks);
  grid = {launch.grid, launch.block};
  std::vector<size_t> order(seed ? sets : 0);
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  Random dice{seed * 77 + 1};
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[dice.next() % i]);
  for (size_t i = 0; i < sets && error.empty(); ++i)
    run_members(launch, seed ? order[i] : i, seed ? seed * 1000003 + i : 0);
}

std::mutex one_at_a_time;

}  // namespace

cudaError_t launch(const Launch& launch) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  Unwatched scope;
  error.clear();
  name_kernel(launch.kernel, volume(launch.cooperative ? launch.grid : launch.cluster));
  check(launch, device_control());
  if (!error.empty()) return cudaErrorInvalidConfiguration;
  run_grid(launch, device_control().seed);
  join_threads();
  return error.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

}  // namespace cuda_emu
