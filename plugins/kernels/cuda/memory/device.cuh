// All of CUDA that a kernel may use, in one header: launch, shared memory, barriers, clusters, asynchronous copies and
// vector access. nvcc compiles it to real CUDA (sm_75 and later); a C++ compiler with -DNX_EMU compiles the same
// sources against the CPU emulation that the tests run. Beside what is declared here kernels may use: threadIdx,
// blockIdx, blockDim, gridDim, __syncthreads, warp shuffles, votes and __syncwarp, integer atomics, __threadfence,
// conversions of __half and __nv_bfloat16, and the integer, SIMD and __*_rn intrinsics.
#pragma once

#ifdef NX_EMU
#include "cuda_emu.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nx {

// What kernel selection may depend on.
struct Device {
  int compute_capability = 0;  // 10*major + minor; 0: no usable device
  int multiprocessors = 0;     // of the whole device
  int shared_memory = 0;       // bytes a block may have, opted in
};

// How a kernel is launched.
struct Launch {
  dim3 grid;                      // blocks
  dim3 block;                     // threads of a block
  size_t smem = 0;                // bytes of dynamic shared memory
  cudaStream_t stream = nullptr;  // the queue it waits in
  dim3 cluster{1, 1, 1};          // blocks that share distributed shared memory
};

// The bits of a vector as one load or store moves them: unsigned words.
template <int bytes>
struct RawBits;
template <>
struct RawBits<1> {
  using Type = unsigned char;
};
template <>
struct RawBits<2> {
  using Type = unsigned short;
};
template <>
struct RawBits<4> {
  using Type = unsigned;
};
template <>
struct RawBits<8> {
  using Type = uint2;
};
template <>
struct RawBits<16> {
  using Type = uint4;
};

}  // namespace nx

#ifdef NX_EMU
#include "device_emu.h"
#else

// name: n elements of T, static, in shared memory.
#define NX_SHARED(T, name, n) __shared__ __align__(16) T name[n]

// name: T* to the launch's dynamic shared memory.
#define NX_DYN_SHARED(T, name)                                  \
  extern __shared__ __align__(128) unsigned char nx_dyn_smem[]; \
  T* name = reinterpret_cast<T*>(nx_dyn_smem)

namespace nx {

// The calling thread's current device.
inline Device device() {
  Device found;
  int id = 0, major = 0, minor = 0;
  if (cudaGetDevice(&id) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, id) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, id) != cudaSuccess ||
      cudaDeviceGetAttribute(&found.multiprocessors, cudaDevAttrMultiProcessorCount, id) != cudaSuccess ||
      cudaDeviceGetAttribute(&found.shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin, id) != cudaSuccess)
    return Device{};
  found.compute_capability = 10 * major + minor;
  return found;
}

// kernel<<<...>>>(arguments...), with clusters; arguments convert to the kernel's own types.
template <class... P, class... A>
cudaError_t launch(const Launch& how, void (*kernel)(P...), A&&... arguments) {
  if (how.smem > 16 * 1024) {  // CUDA wants to be asked where static and dynamic memory exceed 48 KiB together
    cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                             cudaFuncAttributeMaxDynamicSharedMemorySize, int(how.smem));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config{};
  cudaLaunchAttribute attributes[1];
  config.gridDim = how.grid;
  config.blockDim = how.block;
  config.dynamicSmemBytes = how.smem;
  config.stream = how.stream;
  config.attrs = attributes;
  if (how.cluster.x * how.cluster.y * how.cluster.z > 1) {
    cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = how.cluster.x;
    cluster.val.clusterDim.y = how.cluster.y;
    cluster.val.clusterDim.z = how.cluster.z;
  }
  return cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}

// Clusters: sm_90 and later. For older architectures the code is a trap, and the host never launches it there.

// All threads of all blocks of the cluster; orders their shared and global memory accesses.
__device__ __forceinline__ void nx_cluster_sync() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
#else
  __trap();
#endif
}

// The same in two steps: what a thread did before it arrives is done when the others' wait ends.
__device__ __forceinline__ void nx_cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#else
  __trap();
#endif
}
__device__ __forceinline__ void nx_cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#else
  __trap();
#endif
}

// Where `pointer` into this block's shared memory lies in the block `rank` of the cluster. Between two cluster
// barriers alone: the peer must have started, and must not have exited.
template <class T>
__device__ __forceinline__ T* dsmem(T* pointer, unsigned rank) {
#if __CUDA_ARCH__ >= 900
  T* there;
  asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(pointer), "r"(rank));
  return there;
#else
  (void)rank;
  __trap();
  return pointer;
#endif
}

// Copies `bytes` bytes, 4, 8 or 16, global to shared memory, both aligned to them; before sm_80 at once.
template <int bytes>
__device__ __forceinline__ void cp_async(void* to, const void* from) {
#if __CUDA_ARCH__ >= 800
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  if constexpr (bytes == 16)  // past L1, which only this size may
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(from), "n"(bytes) : "memory");
#else
  using Bits = typename RawBits<bytes>::Type;
  *static_cast<Bits*>(to) = *static_cast<const Bits*>(from);
#endif
}

// The copies since the last commit are one group.
__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until all of this thread's groups but the newest N have landed; other threads need a barrier after it.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// One load of sizeof(V) = 1, 2, 4, 8 or 16 bytes, aligned to its size.
template <class V, class T>
__device__ __forceinline__ V load_vec(const T* address) {
  auto raw = *reinterpret_cast<const typename RawBits<sizeof(V)>::Type*>(address);
  V value;
  memcpy(&value, &raw, sizeof(V));
  return value;
}

template <class V, class T>
__device__ __forceinline__ void store_vec(T* address, const V& value) {
  typename RawBits<sizeof(V)>::Type raw;
  memcpy(&raw, &value, sizeof(V));
  *reinterpret_cast<typename RawBits<sizeof(V)>::Type*>(address) = raw;
}

// The same to global memory that nobody reads soon: it is first to leave the caches.
template <class V, class T>
__device__ __forceinline__ void store_vec_stream(T* address, const V& value) {
  typename RawBits<sizeof(V)>::Type raw;
  memcpy(&raw, &value, sizeof(V));
  __stcs(reinterpret_cast<typename RawBits<sizeof(V)>::Type*>(address), raw);
}

}  // namespace nx

#endif  // NX_EMU
