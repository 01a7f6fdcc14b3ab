// Checks of a back end against reference.h: `check_cpu` and `check_emulated` are these with a main of their own.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "normexport/kernels.h"

// Memory and calls of a back end.
struct Backend {
  std::vector<std::string> types;           // that it computes: "float32", ...
  std::vector<NxLayout> layouts;            // of x and y
  void* (*allocate)(size_t bytes);          // aligned to 256 bytes
  bool (*release)(void* memory);            // false: something was written beside it
  size_t (*workspace)(const NxNorm* norm);  // bytes
  std::string (*compute)(const NxNorm& norm, const void* x, const void* scale, const void* bias, void* y,
                         void* workspace, size_t workspace_bytes);  // what went wrong, empty for nothing
};

// What `main` does: words are KIND TYPE and, for fewer and smaller cases, "small" or "tiny". Returns the exit
// status.
int check_norms(const Backend& backend, int count, char** words);
