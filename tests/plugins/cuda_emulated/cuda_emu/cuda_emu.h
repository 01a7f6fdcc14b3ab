// CUDA on the CPU: every CUDA thread is a fiber. Kernels reach this through device.cuh alone, compiled by a C++
// compiler with -x c++ -DNX_EMU and the CUDA toolkit's include folder.
#pragma once

// Host declarations: vector types, and bit-exact half-precision conversions.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <tuple>
#include <utility>

#undef __constant__
#undef __device__
#undef __forceinline__
#undef __global__
#undef __grid_constant__
#undef __host__
#undef __launch_bounds__
#undef __shared__
#define __constant__
#define __device__
#define __forceinline__ inline
#define __global__
#define __grid_constant__
#define __host__
#define __launch_bounds__(...)

#include "arithmetic.h"
#include "async.h"
#include "atomics.h"
#include "barrier.h"
#include "device_control.h"
#include "errors.h"
#include "launch.h"
#include "shared_memory.h"
#include "state.h"
#include "warp.h"

#define threadIdx (::cuda_emu::current->index)
#define blockIdx (::cuda_emu::current->block->index)
#define blockDim (::cuda_emu::grid.block)
#define gridDim (::cuda_emu::grid.grid)
#define warpSize 32

inline void __syncthreads(NX_EMU_SITE) { cuda_emu::sync_threads(file, line); }

inline void __trap(NX_EMU_SITE) {
  cuda_emu::current->site = {file, line};
  cuda_emu::fail("__trap()");
}

template <class T>
T __ldg(const T* address) {
  return *address;
}

namespace cuda_emu {

template <class... P>
struct Call {
  void (*kernel)(P...);
  std::tuple<P...> arguments;

  static void run(const void* call) {
    auto* self = static_cast<const Call*>(call);
    std::apply(self->kernel, self->arguments);
  }
};

// kernel<<<how>>>(arguments...); arguments convert to the kernel's own types.
template <class... P, class... A>
cudaError_t launch(Launch how, void (*kernel)(P...), A&&... arguments) {
  static_assert((sizeof(P) + ... + 0) <= 4096, "CUDA passes 4 KiB of arguments");
  const Call<P...> call{kernel, std::tuple<P...>(static_cast<P>(arguments)...)};
  how.kernel = reinterpret_cast<const void*>(kernel);
  how.body = Call<P...>::run;
  how.arguments = &call;
  return launch(how);
}

}  // namespace cuda_emu
