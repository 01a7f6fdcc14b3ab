// Bugs within one block. Expected results are in test_emulation_sees_bugs.py.
#include "probes.h"

// Named, so that reports can name the kernels.
namespace probe {

// y = x reversed.
template <bool broken>
__global__ void missing_barrier(const float* x, float* y) {
  NX_SHARED(float, tile, kProbeSize);
  int t = threadIdx.x;
  tile[t] = x[t];
  if (!broken) __syncthreads();
  y[t] = tile[kProbeSize - 1 - t];
}

// y = right neighbour of x, plus twice the right neighbour of that; in order of threads the race does no harm.
template <bool broken>
__global__ void write_after_read(const float* x, float* y) {
  NX_SHARED(float, tile, kProbeSize + 1);
  int t = threadIdx.x;
  tile[t] = x[t];
  if (t == 0) tile[kProbeSize] = 0;
  __syncthreads();
  float right = tile[t + 1];
  if (!broken) __syncthreads();
  tile[t] = right;
  __syncthreads();
  y[t] = right + 2 * tile[t + 1];
}

// y = x.
template <bool broken>
__global__ void shared_write_beyond(const float* x, float* y) {
  NX_SHARED(float, tile, kProbeSize);
  int t = threadIdx.x;
  tile[t] = x[t];
  if (broken && t == 0) tile[kProbeSize] = 1;
  y[t] = tile[t];
}

// y = x: what is read beyond the array is never used.
template <bool broken>
__global__ void shared_read_beyond(const float* x, float* y) {
  NX_SHARED(float, tile, kProbeSize);
  int t = threadIdx.x;
  tile[t] = x[t];
  __syncthreads();
  float next = tile[broken || t + 1 < kProbeSize ? t + 1 : t];
  y[t] = next == 12345.0f ? next : x[t];
}

template <bool broken>
__global__ void global_read_beyond(const float* x, float* y) {
  int t = threadIdx.x;
  float next = x[broken || t + 1 < kProbeSize ? t + 1 : t];
  y[t] = next == 12345.0f ? next : x[t];
}

template <bool broken>
__global__ void global_write_beyond(const float* x, float* y) {
  int t = threadIdx.x;
  y[t] = x[t];
  if (broken && t == kProbeSize - 1) y[kProbeSize] = 1;
}

// y[i] = how many x have that integer part; no schedule of whole threads shows the lost update.
template <bool broken>
__global__ void plain_add(const float* x, float* y) {
  NX_SHARED(unsigned, counts, kProbeSize);
  int t = threadIdx.x;
  counts[t] = 0;
  __syncthreads();
  unsigned* count = &counts[int(x[t])];
  if (broken)
    *count += 1;
  else
    atomicAdd(count, 1);
  __syncthreads();
  y[t] = float(counts[t]);
}

// y = x reversed in groups of four, by way of shared memory.
template <bool broken>
__global__ void copy_not_awaited(const float* x, float* y) {
  NX_SHARED(float, tile, kProbeSize);
  int t = threadIdx.x;
  if (t < kProbeSize / 4) {
    nx::cp_async<16>(tile + 4 * t, x + 4 * t);
    nx::cp_async_commit();
    if (!broken) nx::cp_async_wait<0>();
    for (int i = 0; i < 4; ++i) y[4 * t + i] = tile[4 * t + 3 - i];
    if (broken) nx::cp_async_wait<0>();
  }
}

// Two groups in flight: the first is used while the second may still travel.
template <bool broken>
__global__ void wrong_copy_awaited(const float* x, float* y) {
  NX_SHARED(float, tile, kProbeSize);
  int t = threadIdx.x;
  if (t < kProbeSize / 8) {
    for (int half = 0; half < 2; ++half) {
      nx::cp_async<16>(tile + 8 * t + 4 * half, x + 8 * t + 4 * half);
      nx::cp_async_commit();
    }
    nx::cp_async_wait<broken ? 2 : 1>();
    for (int i = 0; i < 4; ++i) y[8 * t + i] = tile[8 * t + i];
    nx::cp_async_wait<0>();
    for (int i = 4; i < 8; ++i) y[8 * t + i] = tile[8 * t + i];
  }
}

// y = sum over the warp.
template <bool broken>
__global__ void wrong_mask(const float* x, float* y) {
  int t = threadIdx.x;
  float sum = x[t];
  for (int step = 16; step; step /= 2)
    sum += __shfl_xor_sync(broken && step < 16 && t % 32 < 16 ? 0xffffu : ~0u, sum, step);
  y[t] = sum;
}

template <bool broken>
__global__ void exited_lane(const float* x, float* y) {
  int t = threadIdx.x;
  if (broken && t == 7) return;
  y[t] = x[t] + 0 * __shfl_xor_sync(~0u, x[t], 1);
}

// y = x of the lane's neighbour, through shared memory.
template <bool broken>
__global__ void missing_syncwarp(const float* x, float* y) {
  NX_SHARED(float, tile, kProbeSize);
  int t = threadIdx.x;
  tile[t] = x[t];
  if (!broken) __syncwarp();
  y[t] = tile[t ^ 1];
}

template <bool broken>
__global__ void divergent_barrier(const float* x, float* y) {
  if (!broken || threadIdx.x < 128) __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

template <bool broken>
__global__ void different_barriers(const float* x, float* y) {
  if (broken && threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

struct alignas(16) Four {
  float v[4];
};

template <bool broken>
__global__ void misaligned_vector(const float* x, float* y) {
  int t = threadIdx.x;
  float first = t < 63 ? nx::load_vec<Four>(x + 4 * t + (broken ? 1 : 0)).v[0] : 0;
  y[t] = first == 12345.0f ? first : x[t];
}

// y = x.
template <bool broken>
__global__ void uninitialised_shared(const float* x, float* y) {
  NX_SHARED(float, sums, 32);
  int t = threadIdx.x;
  if (!broken && t < 32) sums[t] = 0;
  __syncthreads();
  y[t] = x[t] + sums[t % 32];
}

// y = x sorted by arrival: right in no order but one.
template <bool broken>
__global__ void order_of_arrival(const float* x, float* y) {
  NX_SHARED(int, arrived, 1);
  int t = threadIdx.x;
  if (t == 0) arrived[0] = 0;
  __syncthreads();
  int place = atomicAdd(arrived, 1);
  y[broken ? place : t] = x[t];
}

}  // namespace probe

using namespace probe;

#define PROBE(kernel) {#kernel, [](bool broken, const float* x, float* y) { return LAUNCH_BLOCK(kernel); }}

const NamedProbe kBlockProbes[] = {
    PROBE(missing_barrier),    PROBE(write_after_read),    PROBE(shared_write_beyond), PROBE(shared_read_beyond),
    PROBE(global_read_beyond), PROBE(global_write_beyond), PROBE(plain_add),           PROBE(copy_not_awaited),
    PROBE(wrong_copy_awaited), PROBE(wrong_mask),          PROBE(exited_lane),         PROBE(missing_syncwarp),
    PROBE(divergent_barrier),  PROBE(different_barriers),  PROBE(misaligned_vector),   PROBE(uninitialised_shared),
    PROBE(order_of_arrival),   {nullptr, nullptr},
};
