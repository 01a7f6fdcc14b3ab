// check_emulated KIND TYPE [small|tiny]: the CUDA kernels on the emulated GPU, in every layout.
#include <cstdint>

#include "checks.h"

extern "C" {
void nx_emu_set_device(int compute_capability, int multiprocessors, int shared_memory);
void nx_emu_clear();
const char* nx_emu_error();
void* nx_emu_alloc(size_t bytes);
void* nx_emu_on_device(void* pointer);
int nx_emu_free(void* pointer);
}

namespace {

void* on_device(const void* pointer) { return pointer ? nx_emu_on_device(const_cast<void*>(pointer)) : nullptr; }

bool release(void* memory) { return nx_emu_free(memory) == 0; }

std::string compute(const NxNorm& norm, const void* x, const void* scale, const void* bias, void* y, void* workspace,
                    size_t workspace_bytes) {
  nx_emu_clear();
  const int32_t status = nx_cuda_norm(&norm, on_device(x), on_device(scale), on_device(bias), on_device(y),
                                      on_device(workspace), workspace_bytes, nullptr);
  const std::string error = nx_emu_error();
  return !error.empty() ? error : status == NX_OK ? "" : nx_message(status);
}

}  // namespace

int main(int count, char** words) {
  const Backend emulated = {{"float32", "float16", "bfloat16", "int8"},
                            {NX_LINEAR, NX_CHW2, NX_CHW4, NX_CHW32, NX_HWC, NX_HWC8, NX_HWC16},
                            nx_emu_alloc,
                            release,
                            nx_cuda_workspace,
                            compute};
  // A large GPU with clusters, and a small one without.
  int status = 0;
  for (const bool large : {true, false}) {
    nx_emu_set_device(large ? 90 : 75, large ? 132 : 40, large ? 227 * 1024 : 64 * 1024);
    status |= check_norms(emulated, count, words);
  }
  return status;
}
