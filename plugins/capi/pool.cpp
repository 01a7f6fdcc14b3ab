// A small pool of threads: one loop at a time, indices handed out one by one, idle threads asleep.
#include "normexport/capi.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace {

// How long a thread watches for the next loop before it sleeps: the phases of one norm follow each other within a few
// microseconds, and waking a sleeper costs 5 to 50.
constexpr std::chrono::microseconds kWatch(30);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct NxPool {
  NxThreads face;  // what the kernels see of it

  explicit NxPool(int32_t threads) : face{&NxPool::run, this, threads} {
    try {
      for (int32_t i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    } catch (...) {
      stop();
      throw;
    }
  }

  ~NxPool() { stop(); }

 private:
  static void run(void* context, int64_t count, NxTask task, void* data) {
    auto* pool = static_cast<NxPool*>(context);
    if (count <= 1 || pool->workers_.empty()) {
      for (int64_t i = 0; i < count; ++i) task(data, i);
      return;
    }
    std::lock_guard<std::mutex> turn(pool->turn_);
    pool->loop(count, task, data);
  }

  void loop(int64_t count, NxTask task, void* data) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = task;
      data_ = data;
      count_ = count;
      open_ = true;
      next_.store(0, std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (asleep_.load() > 0) wake_.notify_all();
    take();
    // A worker that has not come by now is not waited for: it finds the loop closed.
    std::unique_lock<std::mutex> lock(mutex_);
    open_ = false;
    if (inside_ == 0) return;
    lock.unlock();
    auto until = std::chrono::steady_clock::now() + kWatch;
    while (busy_.load(std::memory_order_acquire) && std::chrono::steady_clock::now() < until) relax();
    lock.lock();
    done_.wait(lock, [this] { return inside_ == 0; });
  }

  void take() {
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) task_(data_, i);
  }

  void work() {
    uint64_t seen = 0;
    while (await(&seen)) {
      if (!enter()) continue;
      take();
      std::lock_guard<std::mutex> lock(mutex_);
      busy_.store(--inside_ > 0, std::memory_order_release);
      if (inside_ == 0) done_.notify_one();
    }
  }

  bool enter() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!open_) return false;
    ++inside_;
    busy_.store(true, std::memory_order_release);
    return true;
  }

  // Waits for a loop that this thread has not seen; false when the pool ends.
  bool await(uint64_t* seen) {
    auto until = std::chrono::steady_clock::now() + kWatch;
    while (generation_.load(std::memory_order_acquire) == *seen && std::chrono::steady_clock::now() < until) relax();
    if (generation_.load(std::memory_order_acquire) == *seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      asleep_.fetch_add(1);
      wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != *seen; });
      asleep_.fetch_sub(1);
    }
    *seen = generation_.load(std::memory_order_acquire);
    return !ending_.load(std::memory_order_acquire);
  }

  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ending_.store(true, std::memory_order_release);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  std::mutex turn_, mutex_;
  std::condition_variable wake_, done_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int64_t> next_{0};
  std::atomic<int32_t> asleep_{0};
  std::atomic<bool> ending_{false}, busy_{false};
  int64_t inside_ = 0;  // workers in the loop; with open_, under mutex_
  bool open_ = false;
  NxTask task_ = nullptr;
  void* data_ = nullptr;
  int64_t count_ = 0;
  std::vector<std::thread> workers_;
};

extern "C" {

size_t nx_norm_size(void) { return sizeof(NxNorm); }

NxPool* nx_pool_create(int32_t threads) {
  if (threads < 1) return nullptr;
  try {
    return new NxPool(threads);
  } catch (const std::bad_alloc&) {
    return nullptr;
  } catch (const std::system_error&) {
    return nullptr;
  }
}

const NxThreads* nx_pool_threads(const NxPool* pool) { return pool ? &pool->face : nullptr; }

void nx_pool_destroy(NxPool* pool) { delete pool; }

}  // extern "C"
