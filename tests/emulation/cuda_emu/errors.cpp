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

std::string last_error;  // kept after the launch
const void* launched = nullptr;

std::string kernel_name() {
  Dl_info found{};
  if (!launched || !dladdr(launched, &found) || !found.dli_sname || found.dli_saddr != launched) return "a kernel";
  int status = 0;
  char* plain = abi::__cxa_demangle(found.dli_sname, nullptr, nullptr, &status);
  std::string name = plain ? plain : found.dli_sname;
  free(plain);
  return name.substr(0, name.find('('));
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
  last_error = error = std::string(text) + " [" + kernel_name() + place + "]";
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

void name_kernel(const void* kernel) { launched = kernel; }

}  // namespace cuda_emu

extern "C" {

// What the latest failed launch did wrong.
__attribute__((visibility("default"))) const char* nx_emu_error() { return cuda_emu::last_error.c_str(); }

__attribute__((visibility("default"))) void nx_emu_clear_error() { cuda_emu::last_error.clear(); }
}
