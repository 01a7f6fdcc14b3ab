// A library whose one creator never makes a plugin.
#include <NvInferRuntime.h>

namespace {

class Broken : public nvinfer1::IPluginCreatorV3One {
  nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection*,
                                    nvinfer1::TensorRTPhase) noexcept override {
    return nullptr;
  }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &fields_; }
  const char* getPluginName() const noexcept override { return "L1BatchNorm"; }
  const char* getPluginVersion() const noexcept override { return "1"; }
  const char* getPluginNamespace() const noexcept override { return "normexport"; }
  nvinfer1::PluginFieldCollection fields_ = {0, nullptr};
};

}  // namespace

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static Broken creator;
  static nvinfer1::IPluginCreatorInterface* const all[] = {&creator};
  count = 1;
  return all;
}

extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder*) {}
