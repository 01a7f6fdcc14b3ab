// Atomics on integers alone: sums of floats would depend on the order of threads. Relaxed, as CUDA's are.
#pragma once

#include <type_traits>

#include "sanitizers.h"
#include "scheduler.h"

namespace cuda_emu {

// Reads, changes and writes as one; a moment at which a seeded schedule may turn to other threads.
template <class T, class F>
T change(T* address, F f) {
  static_assert(std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "CUDA's integer atomics");
  maybe_yield();
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(address, &old, T(f(old)), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}

// Keeps the second argument of an atomic out of template deduction, so that atomicAdd(&unsigned, 1) compiles as in
// CUDA.
template <class T>
struct Same {
  using Type = T;
};
template <class T>
using SameAs = typename Same<T>::Type;

extern char fence;

}  // namespace cuda_emu

template <class T>
T atomicAdd(T* address, cuda_emu::SameAs<T> value) {
  return cuda_emu::change(address, [=](T old) { return old + value; });
}
template <class T>
T atomicSub(T* address, cuda_emu::SameAs<T> value) {
  return cuda_emu::change(address, [=](T old) { return old - value; });
}
template <class T>
T atomicMax(T* address, cuda_emu::SameAs<T> value) {
  return cuda_emu::change(address, [=](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, cuda_emu::SameAs<T> value) {
  return cuda_emu::change(address, [=](T old) { return value < old ? value : old; });
}
template <class T>
T atomicAnd(T* address, cuda_emu::SameAs<T> value) {
  return cuda_emu::change(address, [=](T old) { return old & value; });
}
template <class T>
T atomicOr(T* address, cuda_emu::SameAs<T> value) {
  return cuda_emu::change(address, [=](T old) { return old | value; });
}
template <class T>
T atomicExch(T* address, cuda_emu::SameAs<T> value) {
  return cuda_emu::change(address, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* address, cuda_emu::SameAs<T> expected, cuda_emu::SameAs<T> value) {
  return cuda_emu::change(address, [=](T old) { return old == expected ? value : old; });
}

inline void __threadfence() {
  cuda_emu::release(&cuda_emu::fence);
  cuda_emu::acquire(&cuda_emu::fence);
}
inline void __threadfence_block() { __threadfence(); }
