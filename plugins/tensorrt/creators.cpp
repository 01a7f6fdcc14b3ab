// What TensorRT finds in the library: one creator per operator, the logger's way in, and the kernels' version.
#include <NvInferRuntime.h>

#include <exception>
#include <string>
#include <vector>

#include "attributes.h"
#include "log.h"
#include "norm_plugin.h"
#include "normexport/kernels.h"
#include "operators.h"

namespace nxtrt {
namespace {

class NormCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  explicit NormCreator(const Operator& op)
      : op_(op), fields_{static_cast<int32_t>(onnx_fields().size()), onnx_fields().data()} {}

  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase) noexcept override {
    try {
      std::string node = name ? name : "";
      Attributes attributes;
      std::string wrong = read(fields, attributes);
      if (wrong.empty()) return new NormPlugin(op_, attributes, node);
      error(op_.name, node, wrong);
    } catch (const std::exception& failure) {
      error(op_.name, "", failure.what());
    }
    return nullptr;
  }

  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &fields_; }
  const char* getPluginName() const noexcept override { return op_.name; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

 private:
  const Operator& op_;
  nvinfer1::PluginFieldCollection fields_;
};

// TensorRT keeps the pointers for as long as the library is loaded.
const std::vector<nvinfer1::IPluginCreatorInterface*>& creators() {
  static std::vector<NormCreator> all(kOperatorTable, kOperatorTable + kOperators);
  static const std::vector<nvinfer1::IPluginCreatorInterface*> pointers = [] {
    std::vector<nvinfer1::IPluginCreatorInterface*> found;
    for (NormCreator& each : all) found.push_back(&each);
    return found;
  }();
  return pointers;
}

}  // namespace
}  // namespace nxtrt

extern "C" {

NX_API nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  count = 0;
  try {
    const auto& all = nxtrt::creators();
    count = static_cast<int32_t>(all.size());
    return all.data();
  } catch (const std::exception& failure) {
    nxtrt::error("plugin library", "", failure.what());
    return nullptr;
  }
}

NX_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { nxtrt::set_logger_finder(finder); }

}  // extern "C"
