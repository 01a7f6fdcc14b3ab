#include "workspace.h"

#include <iostream>
#include <memory>

#include "check.h"
#include "stages.h"

namespace {

using nvinfer1::TensorRTPhase;

Case with(const std::string& op, DataType type, TensorFormat format, int64_t channels, int64_t height, int64_t width) {
  Case c{"", op, type, format, {}, 1, 1e-5f, 0, 1, 3};
  c.dims.nbDims = 4;
  c.dims.d[0] = 1;
  c.dims.d[1] = channels;
  c.dims.d[2] = height;
  c.dims.d[3] = width;
  return c;
}

// Batches 1 to `batches`, images of 1 x 1 to `side` x `side`; the plugin itself says where its promise would not hold.
int64_t try_all(const Library& library, const std::string& op, DataType type, TensorFormat format, int64_t channels,
                int64_t batches, int64_t side) {
  Case least = with(op, type, format, channels, 1, 1), most = with(op, type, format, channels, side, side);
  std::unique_ptr<IPluginV3> plugin(create(library.creator(op), attributes_of(least), TensorRTPhase::kBUILD));
  std::vector<DynamicPluginTensorDesc> profile = dynamic(tensors_of(least, 1), tensors_of(most, batches));
  CLAIM(!build_of(*plugin).configurePlugin(profile.data(), 3, profile.data() + 3, 1), "it is configured: " + logged());
  int64_t shapes = 0;
  for (int64_t height = 1; height <= side; height += height < 5 ? 1 : 3)
    for (int64_t width = 1; width <= side; width += width < 9 ? 1 : 2) {
      Case c = with(op, type, format, channels, height, width);
      for (int64_t batch = 1; batch <= batches; ++batch, ++shapes) {
        std::vector<PluginTensorDesc> tensors = tensors_of(c, batch);
        CLAIM(!runtime_of(*plugin).onShapeChange(tensors.data(), 3, tensors.data() + 3, 1), logged());
      }
    }
  return shapes;
}

}  // namespace

void try_workspaces(const Library& library) {
  int64_t shapes = 0;
  for (auto* creator : library.creators()) {
    std::string op = creator->getPluginName();
    DataType type = op[0] == 'Q' ? DataType::kINT8 : DataType::kHALF;
    for (TensorFormat format : {TensorFormat::kLINEAR, TensorFormat::kHWC8}) {
      shapes += try_all(library, op, type, format, 5, 6, 40);
      shapes += try_all(library, op, type, format, 64, 3, 120);
    }
  }
  std::cout << shapes << " shapes\n";
}
