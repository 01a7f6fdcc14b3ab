// Bugs between blocks: clusters, cooperative grids, the last block of a grid.
#include "probes.h"

// Named, so that reports can name the kernels.
namespace probe {

constexpr int kBlocks = 4, kThreads = kProbeSize / kBlocks;

enum class Bug { kNone, kEarlyRead, kExit, kUnstarted };

// y = x of the next block's thread.
template <Bug bug>
__global__ void read_peer(const float* x, float* y) {
  NX_SHARED(float, tile, kThreads);
  int t = threadIdx.x, i = int(blockIdx.x) * kThreads + t;
  if (bug == Bug::kEarlyRead) nx::nx_cluster_sync();
  tile[t] = x[i];
  if (bug != Bug::kUnstarted && bug != Bug::kEarlyRead) nx::nx_cluster_sync();
  y[i] = nx::dsmem(static_cast<float*>(tile), (cluster_rank() + 1) % kBlocks)[t];
  if (bug != Bug::kExit) nx::nx_cluster_sync();
}

template <Bug bug>
cudaError_t launch_cluster(bool broken, const float* x, float* y) {
  nx::Launch how{dim3(kBlocks), dim3(kThreads)};
  how.cluster = dim3(kBlocks);
  return broken ? nx::launch(how, read_peer<bug>, x, y) : nx::launch(how, read_peer<Bug::kNone>, x, y);
}

// y = x reversed over the whole grid.
template <bool broken>
__global__ void reverse_grid(const float* x, float* y, float* room) {
  int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  room[i] = x[i];
  if (!broken) sync_grid();
  y[i] = room[kProbeSize - 1 - i];
}

cudaError_t missing_grid_barrier(bool broken, const float* x, float* y) {
  static float room[kProbeSize];
  for (float& each : room) each = -1;
  return broken ? launch_cooperative(dim3(kBlocks), dim3(kThreads), reverse_grid<true>, x, y, room)
                : launch_cooperative(dim3(kBlocks), dim3(kThreads), reverse_grid<false>, x, y, room);
}

// y = x + 1 by whichever block comes last. Without the fence nothing makes the others' writes visible to it.
template <bool broken>
__global__ void last_block(const float* x, float* y, float* room, unsigned* count) {
  NX_SHARED(int, last, 1);
  int t = threadIdx.x, i = int(blockIdx.x) * kThreads + t;
  room[i] = x[i];
  if (!broken) __threadfence();
  __syncthreads();
  if (t == 0) last[0] = atomicAdd(count, 1) == kBlocks - 1;
  __syncthreads();
  if (!last[0]) return;
  if (!broken) __threadfence();
  for (int j = t; j < kProbeSize; j += kThreads) y[j] = room[j] + 1;
}

cudaError_t missing_fence(bool broken, const float* x, float* y) {
  static float room[kProbeSize];
  static unsigned count;
  count = 0;
  nx::Launch how{dim3(kBlocks), dim3(kThreads)};
  return broken ? nx::launch(how, last_block<true>, x, y, room, &count)
                : nx::launch(how, last_block<false>, x, y, room, &count);
}

// y = x; every block writes the same value to y[0].
template <bool broken>
__global__ void shared_cell(const float* x, float* y) {
  int i = int(blockIdx.x) * kThreads + int(threadIdx.x);
  y[i] = x[i];
  if (broken && threadIdx.x == 0) y[0] = x[0];
}

cudaError_t race_between_blocks(bool broken, const float* x, float* y) {
  nx::Launch how{dim3(kBlocks), dim3(kThreads)};
  return broken ? nx::launch(how, shared_cell<true>, x, y) : nx::launch(how, shared_cell<false>, x, y);
}

}  // namespace probe

using namespace probe;

const NamedProbe kWideProbes[] = {
    {"cluster_read_too_early", launch_cluster<Bug::kEarlyRead>},
    {"cluster_exit_while_peers_read", launch_cluster<Bug::kExit>},
    {"cluster_peer_not_started", launch_cluster<Bug::kUnstarted>},
    {"missing_grid_barrier", missing_grid_barrier},
    {"missing_fence", missing_fence},
    {"race_between_blocks", race_between_blocks},
    {nullptr, nullptr},
};

namespace {

const NamedProbe* find(const char* name, int index) {
  for (const NamedProbe* table : {kBlockProbes, kWideProbes})
    for (const NamedProbe* each = table; each->name; ++each)
      if (name ? !strcmp(each->name, name) : index-- == 0) return each;
  return nullptr;
}

}  // namespace

extern "C" {

// Null beyond the last.
const char* nx_probe_name(int index) {
  const NamedProbe* found = find(nullptr, index);
  return found ? found->name : nullptr;
}

// Runs a probe; -1 if there is none of that name, else a cudaError_t.
int nx_probe(const char* name, int broken, const float* x, float* y) {
  const NamedProbe* found = find(name, 0);
  return found ? int(found->run(broken != 0, x, y)) : -1;
}

}  // extern "C"
