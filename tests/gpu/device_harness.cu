// What the emulation's tests ask of a library, on a real device: the same calls, with memory that host and device share.
// Linked with the real kernels, it lets every check written for the emulation run on the GPU as it is.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>

namespace {

constexpr size_t kGuard = 4096;
constexpr unsigned char kMark = 0xa5;

std::map<void*, size_t> blocks;  // what nx_emu_alloc gave -> bytes
std::string error;

bool marked(const unsigned char* bytes) {
  for (size_t i = 0; i < kGuard; ++i)
    if (bytes[i] != kMark) return false;
  return true;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// The device is what it is, and schedules as it likes.
EXPORT void nx_emu_set_device(int, int, int) {}
EXPORT void nx_emu_set_seed(uint64_t) {}
EXPORT const char* nx_emu_launches() { return ""; }

EXPORT void nx_emu_clear() {
  cudaDeviceSynchronize();
  cudaGetLastError();
  error.clear();
}

// Waits for the device; empty where all is well.
EXPORT const char* nx_emu_error() {
  cudaError_t status = cudaDeviceSynchronize();
  if (status == cudaSuccess) status = cudaGetLastError();
  if (status != cudaSuccess) error = cudaGetErrorString(status);
  return error.c_str();
}

// `bytes` between two guards, aligned to 256 at least; null where memory ends.
EXPORT void* nx_emu_alloc(size_t bytes) {
  void* whole = nullptr;
  if (cudaMallocManaged(&whole, bytes + 2 * kGuard) != cudaSuccess) return nullptr;
  std::memset(whole, kMark, bytes + 2 * kGuard);
  void* inner = static_cast<char*>(whole) + kGuard;
  blocks[inner] = bytes;
  return inner;
}

// Nonzero where something wrote beside the block.
EXPORT int nx_emu_free(void* pointer) {
  if (!pointer) return 0;
  cudaDeviceSynchronize();
  auto* bytes = static_cast<unsigned char*>(pointer);
  bool intact = marked(bytes - kGuard) && marked(bytes + blocks.at(pointer));
  blocks.erase(pointer);
  cudaFree(bytes - kGuard);
  return intact ? 0 : 1;
}
