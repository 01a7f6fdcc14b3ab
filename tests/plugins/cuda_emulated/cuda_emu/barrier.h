// __syncthreads, cluster and grid barriers.
#pragma once

#include "state.h"

namespace cuda_emu {

void sync_threads(const char* file, int line);
void sync_cluster(const char* file, int line);
void sync_grid(const char* file, int line);

// A thread exits: an error if others wait at the barrier, or ever will.
void leave_barrier(Barrier& barrier, const char* name);

}  // namespace cuda_emu
