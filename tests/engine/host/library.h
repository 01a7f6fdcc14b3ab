// The plugin library as TensorRT opens it, and its fields as a plan stores them.
#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <vector>

// Opens the library, hands it a logger, and lists its creators.
class Library {
 public:
  explicit Library(const std::string& path);
  nvinfer1::IPluginCreatorV3One& creator(const std::string& name) const;
  const std::vector<nvinfer1::IPluginCreatorV3One*>& creators() const { return creators_; }

 private:
  std::vector<nvinfer1::IPluginCreatorV3One*> creators_;
};

// What the library has logged since the last call.
std::string logged();

// A field with its own copy of the data.
struct StoredField {
  std::string name;
  nvinfer1::PluginFieldType type;
  std::vector<char> data;
  int32_t length;
  bool operator==(const StoredField& other) const {
    return name == other.name && type == other.type && data == other.data && length == other.length;
  }
};

template <class T>
StoredField field(const std::string& name, nvinfer1::PluginFieldType type, T value) {
  const char* bytes = reinterpret_cast<const char*>(&value);
  return {name, type, std::vector<char>(bytes, bytes + sizeof value), 1};
}

std::vector<StoredField> stored(const nvinfer1::PluginFieldCollection& fields);

// A plugin made from fields; nullptr where the creator refuses.
nvinfer1::IPluginV3* create(nvinfer1::IPluginCreatorV3One& creator, const std::vector<StoredField>& fields,
                            nvinfer1::TensorRTPhase phase, const std::string& name = "layer1.0.bn1");
