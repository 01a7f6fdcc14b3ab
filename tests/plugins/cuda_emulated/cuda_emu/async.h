// cp.async: a copy into shared memory that lands, as far as the program may know, when it is waited for.
#pragma once

#include <cstring>

#include "shared_memory.h"
#include "state.h"

namespace cuda_emu {

void copy_issued(void* to, const void* from, size_t bytes);
void copies_committed();

// The next copy of all groups but the newest `groups`; false when there is none left.
bool next_landing(int groups, Copy* copy);

bool copies_pending(const Thread& thread);

}  // namespace cuda_emu

namespace nx {

// Until it is waited for, the destination holds NaN bytes: a read too early, and a write over what others still read.
template <int bytes>
void cp_async(void* to, const void* from, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "what cp.async copies");
  cuda_emu::check_aligned(to, bytes, file, line);
  cuda_emu::check_aligned(from, bytes, file, line);
  std::memset(to, 0xFF, bytes);
  cuda_emu::copy_issued(to, from, bytes);
}

inline void cp_async_commit() { cuda_emu::copies_committed(); }

template <int N>
void cp_async_wait() {
  cuda_emu::Copy copy;
  while (cuda_emu::next_landing(N, &copy)) std::memcpy(copy.to, copy.from, copy.bytes);
}

}  // namespace nx
