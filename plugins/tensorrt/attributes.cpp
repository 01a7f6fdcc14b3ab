#include "attributes.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

namespace nxtrt {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

// Integers come as int32 from most parsers and as int64 from some.
bool integer_of(const PluginField& field, int64_t& value) {
  if (field.type == PluginFieldType::kINT32) {
    int32_t narrow;
    std::memcpy(&narrow, field.data, sizeof narrow);
    value = narrow;
    return true;
  }
  if (field.type != PluginFieldType::kINT64) return false;
  std::memcpy(&value, field.data, sizeof value);
  return true;
}

bool float_of(const PluginField& field, float& value) {
  if (field.type != PluginFieldType::kFLOAT32) return false;
  std::memcpy(&value, field.data, sizeof value);
  return true;
}

bool positive_of(const PluginField& field, int32_t& value) {
  int64_t wide;
  if (!integer_of(field, wide) || wide < 1 || wide > std::numeric_limits<int32_t>::max()) return false;
  value = static_cast<int32_t>(wide);
  return true;
}

// Whether the field was understood; fields of other names are none of ours.
bool take(const PluginField& field, Attributes& attributes) {
  if (!std::strcmp(field.name, "epsilon")) return float_of(field, attributes.epsilon) && attributes.epsilon >= 0;
  if (!std::strcmp(field.name, "correction"))
    return float_of(field, attributes.correction) && std::isfinite(attributes.correction);
  if (!std::strcmp(field.name, "k")) return positive_of(field, attributes.k);
  if (!std::strcmp(field.name, "chunks")) return positive_of(field, attributes.chunks);
  if (!std::strcmp(field.name, "workspace")) return integer_of(field, attributes.workspace);
  return true;
}

}  // namespace

std::string read(const nvinfer1::PluginFieldCollection* fields, Attributes& attributes) {
  if (!fields || (fields->nbFields > 0 && !fields->fields)) return "was given no fields";
  for (int32_t i = 0; i < fields->nbFields; ++i) {
    const PluginField& field = fields->fields[i];
    if (!field.name || !field.data) continue;  // an attribute that the node leaves to its default
    if (field.length > 1) return std::string("attribute ") + field.name + " is a list, one number is needed";
    if (!take(field, attributes)) return std::string("attribute ") + field.name + " has a wrong type or value";
  }
  return "";
}

std::vector<PluginField> fields_of(const Attributes& attributes) {
  return {
      {"epsilon", &attributes.epsilon, PluginFieldType::kFLOAT32, 1},
      {"correction", &attributes.correction, PluginFieldType::kFLOAT32, 1},
      {"k", &attributes.k, PluginFieldType::kINT32, 1},
      {"chunks", &attributes.chunks, PluginFieldType::kINT32, 1},
      {"workspace", &attributes.workspace, PluginFieldType::kINT64, 1},
  };
}

const std::vector<PluginField>& onnx_fields() {
  static const std::vector<PluginField> fields = {
      {"epsilon", nullptr, PluginFieldType::kFLOAT32, 1},
      {"correction", nullptr, PluginFieldType::kFLOAT32, 1},
      {"k", nullptr, PluginFieldType::kINT32, 1},
      {"chunks", nullptr, PluginFieldType::kINT32, 1},
  };
  return fields;
}

std::string text(const Attributes& attributes) {
  char buffer[128];
  std::snprintf(buffer, sizeof buffer, "epsilon=%.9g,correction=%.9g,k=%d,chunks=%d", attributes.epsilon,
                attributes.correction, attributes.k, attributes.chunks);
  return buffer;
}

}  // namespace nxtrt
