// The operators that the library computes: every kind with batch and instance statistics, in floats and in int8.
#pragma once

#include <cstdint>

namespace nxtrt {

struct Operator {
  const char* name;  // also the plugin's: "L1BatchNorm", "QL1BatchNorm"
  int32_t kind;      // NxKind
  bool instance;     // statistics per sample
  bool quantized;    // of int8
};

constexpr const char* kNamespace = "normexport";
constexpr const char* kVersion = "1";
constexpr int32_t kOperators = 20;

extern const Operator kOperatorTable[kOperators];

}  // namespace nxtrt
