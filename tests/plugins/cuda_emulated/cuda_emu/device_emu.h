// What device.cuh promises, on the CPU. Included by device.cuh, which documents it.
#pragma once

#define NX_SHARED(T, name, n)          \
  static const char nx_tag_##name = 0; \
  T* const name =                      \
      static_cast<T*>(::cuda_emu::shared_array(&nx_tag_##name, sizeof(T) * (n), alignof(T), __FILE__, __LINE__))

#define NX_DYN_SHARED(T, name) T* const name = static_cast<T*>(::cuda_emu::dynamic_shared())

namespace nx {

inline Device device() {
  const cuda_emu::DeviceControl& control = cuda_emu::device_control();
  if (!control.compute_capability) return Device{};
  return {control.compute_capability, control.multiprocessors, control.shared_memory};
}

template <class... P, class... A>
cudaError_t launch(const Launch& how, void (*kernel)(P...), A&&... arguments) {
  cuda_emu::Launch plain;
  plain.grid = how.grid;
  plain.block = how.block;
  plain.cluster = how.cluster;
  plain.dynamic_shared = how.smem;
  return cuda_emu::launch(plain, kernel, std::forward<A>(arguments)...);
}

inline void nx_cluster_sync(NX_EMU_SITE) { cuda_emu::sync_cluster(file, line); }
// A peer may pass its wait later than on a GPU, never earlier.
inline void nx_cluster_arrive() {}
inline void nx_cluster_wait(NX_EMU_SITE) { cuda_emu::sync_cluster(file, line); }

template <class T>
T* dsmem(T* pointer, unsigned rank, NX_EMU_SITE) {
  return static_cast<T*>(cuda_emu::peer_shared(pointer, rank, file, line));
}

template <class V, class T>
V load_vec(const T* address, NX_EMU_SITE) {
  static_assert(sizeof(typename RawBits<sizeof(V)>::Type) == sizeof(V), "1, 2, 4, 8 or 16 bytes");
  cuda_emu::check_aligned(address, sizeof(V), file, line);
  V value;
  std::memcpy(static_cast<void*>(&value), address, sizeof value);
  return value;
}

template <class V, class T>
void store_vec(T* address, const V& value, NX_EMU_SITE) {
  static_assert(sizeof(typename RawBits<sizeof(V)>::Type) == sizeof(V), "1, 2, 4, 8 or 16 bytes");
  cuda_emu::check_aligned(address, sizeof(V), file, line);
  std::memcpy(static_cast<void*>(address), &value, sizeof value);
}

template <class V, class T>
void store_vec_stream(T* address, const V& value, NX_EMU_SITE) {
  store_vec(address, value, file, line);
}

}  // namespace nx
