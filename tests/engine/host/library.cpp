#include "library.h"

#include <dlfcn.h>

#include <cstring>
#include <utility>

#include "check.h"

namespace {

std::string said;

class Logger : public nvinfer1::ILogger {
  void log(Severity severity, const char* text) noexcept override {
    CLAIM(severity == Severity::kERROR, "errors are logged as errors");
    said += std::string(text) + "\n";
  }
};

class Finder : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override { return &logger_; }

 private:
  Logger logger_;
};

size_t size_of(nvinfer1::PluginFieldType type) {
  switch (type) {
    case nvinfer1::PluginFieldType::kFLOAT32: return 4;
    case nvinfer1::PluginFieldType::kINT32: return 4;
    case nvinfer1::PluginFieldType::kINT64: return 8;
    default: return 0;
  }
}

}  // namespace

Library::Library(const std::string& path) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  CLAIM(handle, std::string("dlopen: ") + (handle ? "" : dlerror()));
  using Creators = nvinfer1::IPluginCreatorInterface* const* (*)(int32_t&);
  auto get_creators = reinterpret_cast<Creators>(dlsym(handle, "getCreators"));
  auto set_finder = reinterpret_cast<void (*)(nvinfer1::ILoggerFinder*)>(dlsym(handle, "setLoggerFinder"));
  CLAIM(get_creators && set_finder, "getCreators and setLoggerFinder are exported");
  static Finder finder;
  set_finder(&finder);
  int32_t count = -1;
  nvinfer1::IPluginCreatorInterface* const* found = get_creators(count);
  CLAIM(count == 20, "every operator has a creator");
  for (int32_t i = 0; i < count; ++i) {
    CLAIM(!std::strcmp(found[i]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE"), "creators are V3");
    creators_.push_back(static_cast<nvinfer1::IPluginCreatorV3One*>(found[i]));
  }
}

nvinfer1::IPluginCreatorV3One& Library::creator(const std::string& name) const {
  for (auto* each : creators_)
    if (each->getPluginName() == name) return *each;
  CLAIM(false, "there is a creator of " + name);
  std::abort();
}

std::string logged() { return std::exchange(said, ""); }

std::vector<StoredField> stored(const nvinfer1::PluginFieldCollection& fields) {
  std::vector<StoredField> copies;
  for (int32_t i = 0; i < fields.nbFields; ++i) {
    const nvinfer1::PluginField& field = fields.fields[i];
    const char* data = static_cast<const char*>(field.data);
    CLAIM(size_of(field.type) && field.length == 1 && data, "serialised fields hold one number each");
    copies.push_back({field.name, field.type, {data, data + size_of(field.type)}, field.length});
  }
  return copies;
}

nvinfer1::IPluginV3* create(nvinfer1::IPluginCreatorV3One& creator, const std::vector<StoredField>& fields,
                            nvinfer1::TensorRTPhase phase, const std::string& name) {
  std::vector<nvinfer1::PluginField> passed;
  for (const StoredField& each : fields)
    passed.push_back({each.name.c_str(), each.data.data(), each.type, each.length});
  nvinfer1::PluginFieldCollection collection{static_cast<int32_t>(passed.size()), passed.data()};
  return creator.createPlugin(name.c_str(), &collection, phase);
}
