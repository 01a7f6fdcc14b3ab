// The device that the emulation pretends to be, and the seed of its schedules; both set by tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_emu {

struct DeviceControl {
  int compute_capability = 90, multiprocessors = 132, shared_memory = 227 * 1024;
  uint64_t seed = 0;
};

DeviceControl& device_control();

// Clusters and distributed shared memory exist from compute capability 9.0.
void require_clusters();

}  // namespace cuda_emu
