// check_cpu KIND TYPE [small|tiny]: the kernels on the CPU, on a pool of three threads. NORMEXPORT_CPU names their
// instruction set.
#include <cstdlib>
#include <cstring>

#include "checks.h"
#include "normexport/capi.h"

namespace {

void* allocate(size_t bytes) {
  void* const memory = std::aligned_alloc(256, (bytes + 511) / 256 * 256);
  if (memory) std::memset(memory, 0xff, bytes);
  return memory;
}

bool release(void* memory) {
  std::free(memory);
  return true;
}

std::string compute(const NxNorm& norm, const void* x, const void* scale, const void* bias, void* y, void* workspace,
                    size_t workspace_bytes) {
  static NxPool* const pool = nx_pool_create(3);
  const int32_t status =
      nx_cpu_norm(&norm, x, scale, bias, y, workspace, workspace_bytes, pool ? nx_pool_threads(pool) : nullptr);
  return status == NX_OK ? "" : nx_message(status);
}

}  // namespace

int main(int count, char** words) {
  const Backend cpu = {
      {"float32", "float16", "bfloat16", "int8", "float64"}, {NX_LINEAR}, allocate, release, nx_cpu_workspace, compute};
  return check_norms(cpu, count, words);
}
