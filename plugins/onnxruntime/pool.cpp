#include "pool.h"

#include <algorithm>
#include <thread>

namespace nxort {
namespace {

constexpr int32_t kWindow = 16;  // loops watched before a number is believed
// Never fewer: on one thread the kernels run no loops, and nothing more would ever be seen.
constexpr int32_t kFewest = 2;

int32_t processors() {
  static const unsigned found = std::thread::hardware_concurrency();
  return static_cast<int32_t>(std::max(found, 1u));
}

// A parallel loop under way.
struct Loop {
  NxTask task;                   // what every index is handed to
  void* data;                    // the same
  uint64_t number;               // of this loop among all of the process
  std::atomic<int32_t> threads;  // that took part in it
};

std::atomic<uint64_t> loops_begun{0};
thread_local uint64_t last_loop = 0;  // the loop that this thread took part in last

void step(void* user, size_t index) {
  auto& loop = *static_cast<Loop*>(user);
  if (last_loop != loop.number) {
    last_loop = loop.number;
    loop.threads.fetch_add(1, std::memory_order_relaxed);
  }
  loop.task(loop.data, static_cast<int64_t>(index));
}

}  // namespace

int32_t PoolSize::guess() const {
  int32_t current = current_.load(std::memory_order_relaxed);
  return current ? current : processors();
}

void PoolSize::saw(int64_t count, int32_t threads) {
  if (count < 2 * int64_t(guess())) return;  // not work for all
  int32_t most = most_.load(std::memory_order_relaxed);
  while (most < threads && !most_.compare_exchange_weak(most, threads, std::memory_order_relaxed)) {
  }
  if (loops_.fetch_add(1, std::memory_order_relaxed) % kWindow != kWindow - 1) return;
  most = most_.exchange(0, std::memory_order_relaxed);
  current_.store(std::max(most, std::min(kFewest, processors())), std::memory_order_relaxed);
}

void Pool::run(void* self, int64_t count, NxTask task, void* data) {
  auto& pool = *static_cast<Pool*>(self);
  Loop loop{task, data, loops_begun.fetch_add(1, std::memory_order_relaxed) + 1, {0}};
  const OrtApi& api = pool.api_;
  OrtStatus* status = api.KernelContext_ParallelFor(&pool.context_, step, static_cast<size_t>(count), 0, &loop);
  if (status) {  // refused before any task began
    api.ReleaseStatus(status);
    for (int64_t i = 0; i < count; ++i) task(data, i);
    return;
  }
  pool.size_.saw(count, loop.threads.load(std::memory_order_relaxed));
}

}  // namespace nxort
