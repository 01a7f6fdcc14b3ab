// ONNX Runtime's thread pool as the kernels want it, and how many threads it has.
#pragma once

#include <onnxruntime_c_api.h>

#include <atomic>
#include <cstdint>

#include "normexport/kernels.h"

namespace nxort {

// How many threads a session's pool has. ONNX Runtime does not tell, so it is learned from who turns up: the first runs
// take one thread per processor, later ones the most that were seen in the last window. Too high a number costs up to
// three readings of the tensor instead of one, as statistics are split that need no splitting; results are the same.
class PoolSize {
 public:
  // For the next run.
  int32_t guess() const;
  // `threads` took part in a loop of `count` tasks.
  void saw(int64_t count, int32_t threads);

 private:
  std::atomic<int32_t> current_{0}, most_{0};
  std::atomic<uint32_t> loops_{0};
};

// NxThreads on the pool of one run.
class Pool {
 public:
  Pool(const OrtApi& api, const OrtKernelContext& context, PoolSize& size)
      : api_(api), context_(context), size_(size), threads_{run, this, size.guess()} {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  const NxThreads* threads() const { return &threads_; }

 private:
  static void run(void* self, int64_t count, NxTask task, void* data);

  const OrtApi& api_;
  const OrtKernelContext& context_;
  PoolSize& size_;
  NxThreads threads_;
};

}  // namespace nxort
