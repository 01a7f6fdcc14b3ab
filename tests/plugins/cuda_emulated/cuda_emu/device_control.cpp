#include "device_control.h"

#include <cstdlib>
#include <cstring>

#include "errors.h"
#include "sanitizers.h"

#define NX_EMU_API extern "C" __attribute__((visibility("default")))

namespace cuda_emu {

DeviceControl& device_control() {
  static DeviceControl control;
  return control;
}

void require_clusters() {
  if (device_control().compute_capability < 90)
    fail("cluster code on compute capability %d", device_control().compute_capability);
}

namespace {

// Before and after each allocation; a write there shows when it is freed, under AddressSanitizer at once.
constexpr size_t kGuard = 256;
constexpr unsigned char kGuardByte = 0xA5;

struct Allocation {
  size_t bytes;
};

}  // namespace
}  // namespace cuda_emu

// compute_capability: major*10 + minor; 0 for no device at all.
NX_EMU_API void nx_emu_set_device(int compute_capability, int multiprocessors, int shared_memory) {
  cuda_emu::DeviceControl& control = cuda_emu::device_control();
  control.compute_capability = compute_capability;
  control.multiprocessors = multiprocessors;
  control.shared_memory = shared_memory;
}

// 0: everything in order. Any other value: another schedule of blocks, warps and lanes, the same for the same seed.
NX_EMU_API void nx_emu_set_seed(uint64_t seed) { cuda_emu::device_control().seed = seed; }

// As cudaMalloc: aligned to 256 bytes. Contents are NaN bytes.
NX_EMU_API void* nx_emu_alloc(size_t bytes) {
  using namespace cuda_emu;
  size_t whole = (bytes + 2 * kGuard + 255) / 256 * 256;
  auto* base = static_cast<unsigned char*>(aligned_alloc(256, whole));
  if (!base) return nullptr;
  memset(base, kGuardByte, whole);
  memset(base + kGuard, 0xFF, bytes);
  reinterpret_cast<Allocation*>(base)->bytes = bytes;
  poison(base, kGuard);
  poison(base + kGuard + bytes, whole - kGuard - bytes);
  return base + kGuard;
}

// What a kernel gets of an allocation: here, itself.
NX_EMU_API void* nx_emu_on_device(void* pointer) { return pointer; }

// 0 if nothing wrote outside of the allocation.
NX_EMU_API int nx_emu_free(void* pointer) {
  using namespace cuda_emu;
  if (!pointer) return 0;
  auto* base = static_cast<unsigned char*>(pointer) - kGuard;
  unpoison(base, kGuard);
  size_t bytes = reinterpret_cast<Allocation*>(base)->bytes;
  size_t whole = (bytes + 2 * kGuard + 255) / 256 * 256;
  unpoison(base, whole);
  int touched = 0;
  for (size_t i = sizeof(Allocation); i < kGuard; ++i) touched |= base[i] != kGuardByte;
  for (size_t i = kGuard + bytes; i < whole; ++i) touched |= base[i] != kGuardByte;
  free(base);
  return touched;
}
