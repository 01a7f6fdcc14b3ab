#include "errors.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "fiber.h"
#include "sanitizers.h"
#include "state.h"

namespace cuda_emu {
namespace {

std::string last_error, launches;  // kept after the launch
std::string name;

std::string name_of(const void* kernel) {
  Dl_info found{};
  if (!dladdr(kernel, &found) || !found.dli_sname || found.dli_saddr != kernel) return "a kernel";
  int status = 0;
  char* plain = abi::__cxa_demangle(found.dli_sname, nullptr, nullptr, &status);
  std::string whole = plain ? plain : found.dli_sname;
  free(plain);
  size_t start = whole.rfind("void ", 0) == 0 ? 5 : 0;  // of a template the return type is part of the symbol
  size_t end = start;
  for (int depth = 0; end < whole.size() && (depth || whole[end] != '('); ++end)
    depth += (whole[end] == '<') - (whole[end] == '>');
  return whole.substr(start, end - start);
}

void record(const char* format, va_list values) {
  if (!error.empty()) return;  // what follows the first error is its consequence
  Unwatched scope;
  char text[512], place[256] = "";
  vsnprintf(text, sizeof text, format, values);
  if (current) {
    const Block& block = *current->block;
    snprintf(place, sizeof place, ", block (%u, %u, %u) thread (%u, %u, %u), at %s:%d", block.index.x, block.index.y,
             block.index.z, current->index.x, current->index.y, current->index.z, current->site.file,
             current->site.line);
  }
  last_error = error = std::string(text) + " [" + name + place + "]";
  fprintf(stderr, "cuda_emu: %s\n", error.c_str());
}

}  // namespace

std::string error;

void report(const char* format, ...) {
  va_list values;
  va_start(values, format);
  record(format, values);
  va_end(values);
}

void fail(const char* format, ...) {
  va_list values;
  va_start(values, format);
  record(format, values);
  va_end(values);
  suspend(current->fiber, true);
  abort();
}

void name_kernel(const void* kernel, size_t blocks) {
  name = name_of(kernel);
  launches += name + " x" + std::to_string(blocks) + "\n";
}

}  // namespace cuda_emu

#define NX_EMU_API extern "C" __attribute__((visibility("default")))

// What the latest failed launch did wrong.
NX_EMU_API const char* nx_emu_error() { return cuda_emu::last_error.c_str(); }

// Kernels launched so far, a line each: name and how many blocks ran together.
NX_EMU_API const char* nx_emu_launches() { return cuda_emu::launches.c_str(); }

NX_EMU_API void nx_emu_clear() {
  cuda_emu::last_error.clear();
  cuda_emu::launches.clear();
}
