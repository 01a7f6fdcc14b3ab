// A norm's attributes as TensorRT carries them: fields of a collection, read when a plugin is made, written into plans.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <string>
#include <vector>

namespace nxtrt {

// Attributes of the ONNX operator with its defaults, and what the builder adds.
struct Attributes {
  float epsilon = 1e-5f;    // added to the statistic
  float correction = 0.0f;  // its factor; 0: the kind's own
  int32_t k = 10;           // Top-k
  int32_t chunks = 16;      // Range
  int64_t workspace = -1;   // bytes promised for every shape of the profiles; -1 before anything was promised
};

// Reads the fields that are there. Returns what is wrong with them, "" for nothing.
std::string read(const nvinfer1::PluginFieldCollection* fields, Attributes& attributes);

// Fields that point into `attributes`, which must outlive them.
std::vector<nvinfer1::PluginField> fields_of(const Attributes& attributes);

// Names and types that ONNX nodes carry: all but `workspace`.
const std::vector<nvinfer1::PluginField>& onnx_fields();

// "epsilon=1e-05,correction=0,k=10,chunks=16": equal strings compute alike.
std::string text(const Attributes& attributes);

}  // namespace nxtrt
