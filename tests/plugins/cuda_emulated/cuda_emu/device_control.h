// The device that the emulation pretends to be, and the seed of its schedules; both set by tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_emu {

struct DeviceControl {
  int compute_capability = 90;     // 90: 9.0
  int multiprocessors = 132;       // how many
  int shared_memory = 227 * 1024;  // bytes that a block may ask for
  uint64_t seed = 0;               // of the schedule; 0: in order
};

DeviceControl& device_control();

// Clusters and distributed shared memory exist from compute capability 9.0.
void require_clusters();

}  // namespace cuda_emu
