// What the emulation's tests ask of a library, on a real device: the same calls, with a copy in the device's memory of
// every block that the host has. Linked with the real kernels, every check written for the emulation runs on the GPU.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

constexpr size_t kGuard = 4096;
constexpr unsigned char kMark = 0xa5;

struct Block {
  size_t bytes;
  unsigned char* device;  // of the guard before it
};

std::map<void*, Block> blocks;  // by the host's address
std::string error;

bool copied(void* to, const void* from, size_t bytes) {
  return cudaMemcpy(to, from, bytes, cudaMemcpyDefault) == cudaSuccess;
}

bool marked(const unsigned char* device) {
  std::vector<unsigned char> seen(kGuard), marks(kGuard, kMark);
  return copied(seen.data(), device, kGuard) && seen == marks;
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

// Waits for the device and fetches every block; empty where all is well.
EXPORT const char* nx_emu_error() {
  cudaError_t status = cudaDeviceSynchronize();
  if (status == cudaSuccess) status = cudaGetLastError();
  for (auto& [host, block] : blocks)
    if (status == cudaSuccess) status = cudaMemcpy(host, block.device + kGuard, block.bytes, cudaMemcpyDeviceToHost);
  if (status != cudaSuccess) error = cudaGetErrorString(status);
  return error.c_str();
}

// `bytes` of the host, and as many of the device between two guards, aligned to 256 at least; null where memory ends.
EXPORT void* nx_emu_alloc(size_t bytes) {
  void *host = std::malloc(bytes ? bytes : 1), *device = nullptr;
  if (!host || cudaMalloc(&device, bytes + 2 * kGuard) != cudaSuccess) return nullptr;
  std::memset(host, 0xff, bytes);
  cudaMemset(device, kMark, bytes + 2 * kGuard);
  blocks[host] = {bytes, static_cast<unsigned char*>(device)};
  return host;
}

// The device's copy of a block, as the host has it now.
EXPORT void* nx_emu_on_device(void* host) {
  const Block& block = blocks.at(host);
  copied(block.device + kGuard, host, block.bytes);
  return block.device + kGuard;
}

// Nonzero where something wrote beside the block.
EXPORT int nx_emu_free(void* host) {
  if (!host) return 0;
  const Block block = blocks.at(host);
  bool intact = marked(block.device) && marked(block.device + kGuard + block.bytes);
  cudaFree(block.device);
  std::free(host);
  blocks.erase(host);
  return intact ? 0 : 1;
}
