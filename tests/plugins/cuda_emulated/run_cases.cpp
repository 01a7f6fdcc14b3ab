// run_cases FILE: the norm kernels on a list of cases, for what a sanitizer has to say; values are checked elsewhere.
// A line of FILE: kind type layout instance batch channels space x_stride y_stride k chunks compute_capability seed
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "common/norm.h"

extern "C" {
void nx_emu_set_device(int compute_capability, int multiprocessors, int shared_memory);
void nx_emu_set_seed(uint64_t seed);
void* nx_emu_alloc(size_t bytes);
void* nx_emu_on_device(void* pointer);
int nx_emu_free(void* pointer);
}

namespace {

struct Case {
  NxNorm norm{};
  int compute_capability = 0;
  uint64_t seed = 0;
};

bool read(const std::string& line, Case& out) {
  NxNorm& n = out.norm;
  n.epsilon = 1e-5f;
  std::istringstream words(line);
  return bool(words >> n.kind >> n.type >> n.layout >> n.instance >> n.batch >> n.channels >> n.space >> n.x_stride >>
              n.y_stride >> n.k >> n.chunks >> out.compute_capability >> out.seed);
}

size_t bytes_of(const NxNorm& norm, int64_t stride) {
  int64_t sample = nx::sample_elements(norm);
  int64_t elements = nx::is_empty(norm) ? 0 : (norm.batch - 1) * (stride ? stride : sample) + sample;
  return size_t(elements * nx::element_size(norm.type));
}

// Finite values about 1 in size, whatever the type; the same for the same size.
void fill(unsigned char* bytes, size_t count, int32_t type) {
  uint64_t state = 12345;
  for (size_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    auto byte = static_cast<unsigned char>(state >> 56);
    bool top = type == NX_FLOAT32 ? i % 4 == 3 : type != NX_INT8 && i % 2 == 1;
    unsigned char exponent = type == NX_FLOAT16 ? 0x3b : 0x3f;
    bytes[i] = top ? static_cast<unsigned char>((byte & 0x80) | exponent) : byte;
  }
}

const float* on_device(void* floats) { return static_cast<const float*>(nx_emu_on_device(floats)); }

int run(const Case& c) {
  nx_emu_set_device(c.compute_capability, 16, c.compute_capability >= 90 ? 227 * 1024 : 64 * 1024);
  nx_emu_set_seed(c.seed);
  const NxNorm& norm = c.norm;
  size_t x_bytes = bytes_of(norm, norm.x_stride), room = nx_cuda_workspace(&norm);
  size_t channels = size_t(norm.channels) * sizeof(float);
  auto* x = static_cast<unsigned char*>(nx_emu_alloc(x_bytes));
  fill(x, x_bytes, norm.type);
  void* y = nx_emu_alloc(bytes_of(norm, norm.y_stride));
  auto* scale = static_cast<unsigned char*>(nx_emu_alloc(channels));
  auto* bias = static_cast<unsigned char*>(nx_emu_alloc(channels));
  fill(scale, channels, NX_FLOAT32);
  fill(bias, channels, NX_FLOAT32);
  void* workspace = room ? nx_emu_alloc(room) : nullptr;
  int status = nx_cuda_norm(&norm, nx_emu_on_device(x), on_device(scale), on_device(bias), nx_emu_on_device(y),
                            workspace ? nx_emu_on_device(workspace) : nullptr, room, nullptr);
  int touched = 0;
  for (void* each : {static_cast<void*>(x), y, static_cast<void*>(scale), static_cast<void*>(bias), workspace})
    touched |= nx_emu_free(each);
  if (status || touched)
    std::fprintf(stderr, "status %d (%s), guards touched %d\n", status, nx_message(status), touched);
  return status || touched;
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) return 2;
  std::ifstream file(words[1]);
  int cases = 0, bad = 0;
  for (std::string line; std::getline(file, line); ++cases) {
    Case c;
    if (!read(line, c)) {
      std::cerr << "not a case: " << line << '\n';
      return 2;
    }
    std::cout << line << std::endl;  // the last line printed is the case that a sanitizer stopped
    bad += run(c) != 0;
  }
  std::cerr << cases << " cases, " << bad << " bad\n";
  return bad != 0 || cases == 0;
}
