// The threads of the caller's OpenMP. Threads of a framework watch for its next loop for milliseconds after each; a
// pool of others would share the processors with them, and took 1.3 times as long beside PyTorch on two.
#include <atomic>
#include <new>

#include "normexport/capi.h"

namespace {

// GOMP_parallel of libgomp, which LLVM's and Intel's OpenMP have too: calls member(data) on every thread of a team.
using Parallel = void (*)(void (*member)(void*), void* data, unsigned threads, unsigned flags);

struct Loop {
  int64_t count;
  NxTask task;
  void* data;
  std::atomic<int64_t> next{0};
};

void take(void* shared) {
  auto* loop = static_cast<Loop*>(shared);
  for (int64_t i; (i = loop->next.fetch_add(1, std::memory_order_relaxed)) < loop->count;) loop->task(loop->data, i);
}

}  // namespace

struct NxTeam {
  NxThreads face;  // what the kernels see of it
  Parallel parallel;

  static void run(void* context, int64_t count, NxTask task, void* data) {
    auto* team = static_cast<NxTeam*>(context);
    Loop loop{count, task, data};
    if (count > 1)
      team->parallel(take, &loop, unsigned(team->face.threads), 0);
    else
      take(&loop);
  }
};

extern "C" {

NxTeam* nx_team_create(void* gomp_parallel, int32_t threads) {
  if (!gomp_parallel || threads < 1) return nullptr;
  auto* team = new (std::nothrow) NxTeam{{&NxTeam::run, nullptr, threads}, reinterpret_cast<Parallel>(gomp_parallel)};
  if (team) team->face.context = team;
  return team;
}

const NxThreads* nx_team_threads(const NxTeam* team) { return team ? &team->face : nullptr; }

void nx_team_destroy(NxTeam* team) { delete team; }

}  // extern "C"
