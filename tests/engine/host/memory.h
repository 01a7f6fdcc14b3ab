// Memory that kernels may read and write: the host's for emulated kernels, the device's with ON_DEVICE.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

// Aligned to 256 bytes as TensorRT's is, between guards that are checked when it goes.
class Memory {
 public:
  explicit Memory(size_t bytes);
  explicit Memory(const std::vector<char>& content);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* data() const { return start_ + kGuard; }
  std::vector<char> content() const;

 private:
  static constexpr size_t kGuard = 256;
  std::vector<char> read(const char* from, size_t bytes) const;

  size_t bytes_;
  char* start_;
};

std::vector<char> read_file(const std::string& path);
void write_file(const std::string& path, const std::vector<char>& content);
