// The life of a plugin under TensorRT, from its creation at build time to its work at run time.
#pragma once

#include <NvInferRuntime.h>

#include <iosfwd>
#include <string>
#include <vector>

#include "library.h"

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IPluginV3;
using nvinfer1::IPluginV3OneBuild;
using nvinfer1::IPluginV3OneCore;
using nvinfer1::IPluginV3OneRuntime;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

// One line of the list: the operator, x as TensorRT would describe it, and the node's attributes.
struct Case {
  std::string files;  // prefix of .x, .scale, .bias and .y
  std::string op;
  DataType type;
  TensorFormat format;
  Dims dims;
  int64_t largest_batch;
  float epsilon, correction;
  int32_t k, chunks;
};

bool read_case(const std::string& line, Case& found);

IPluginV3OneCore& core_of(IPluginV3& plugin);
IPluginV3OneBuild& build_of(IPluginV3& plugin);
IPluginV3OneRuntime& runtime_of(IPluginV3& plugin);

std::vector<StoredField> attributes_of(const Case& c);

// x, scale, bias, y as TensorRT describes them.
std::vector<PluginTensorDesc> tensors_of(const Case& c, int64_t batch);
std::vector<DynamicPluginTensorDesc> dynamic(const std::vector<PluginTensorDesc>& least,
                                             const std::vector<PluginTensorDesc>& most);

// Build stage -> plan -> run stage -> y. Ends the program where a claim does not hold.
void live(const Library& library, const Case& c);

// Which types and formats the operator takes for x of the rank: one line of text.
std::string negotiated(const Library& library, const std::string& op, int32_t rank);
