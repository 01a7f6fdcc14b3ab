#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "check.h"

#ifdef ON_DEVICE
#include <cuda_runtime_api.h>
#endif

namespace {

constexpr char kMark = 0x5a;

size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

#ifdef ON_DEVICE
char* allocate(size_t bytes) {
  void* found = nullptr;
  CLAIM(cudaMalloc(&found, bytes) == cudaSuccess, "cudaMalloc");
  return static_cast<char*>(found);
}
void release(char* start) { cudaFree(start); }
void copy(char* to, const char* from, size_t bytes) {
  CLAIM(cudaMemcpy(to, from, bytes, cudaMemcpyDefault) == cudaSuccess, "cudaMemcpy");
}
#else
char* allocate(size_t bytes) { return static_cast<char*>(std::aligned_alloc(256, rounded(bytes))); }
void release(char* start) { std::free(start); }
void copy(char* to, const char* from, size_t bytes) { std::memcpy(to, from, bytes); }
#endif

}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes), start_(allocate(bytes + 2 * kGuard)) {
  std::vector<char> marks(bytes + 2 * kGuard, kMark);
  copy(start_, marks.data(), marks.size());
}

Memory::Memory(const std::vector<char>& content) : Memory(content.size()) {
  if (!content.empty()) copy(start_ + kGuard, content.data(), content.size());
}

Memory::~Memory() {
  for (const char* guard : {start_, start_ + kGuard + bytes_})
    for (char each : read(guard, kGuard)) CLAIM(each == kMark, "nothing is written beside a buffer");
  release(start_);
}

std::vector<char> Memory::content() const { return read(start_ + kGuard, bytes_); }

std::vector<char> Memory::read(const char* from, size_t bytes) const {
  std::vector<char> content(bytes);
  if (bytes) copy(content.data(), from, bytes);
  return content;
}

std::vector<char> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  CLAIM(file.good(), "can read " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, const std::vector<char>& content) {
  std::ofstream(path, std::ios::binary).write(content.data(), std::streamsize(content.size()));
}
