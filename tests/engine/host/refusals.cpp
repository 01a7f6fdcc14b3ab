#include "refusals.h"

#include <functional>
#include <iostream>
#include <limits>
#include <memory>

#include "check.h"
#include "memory.h"
#include "stages.h"

namespace {

using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;
using Plugin = std::unique_ptr<IPluginV3>;

Case usual(const std::string& op) {
  Case c{"", op, op[0] == 'Q' ? DataType::kINT8 : DataType::kFLOAT, TensorFormat::kLINEAR, {}, 4, 1e-5f, 0, 3, 2};
  c.dims.nbDims = 4;
  for (int32_t i = 0; i < 4; ++i) c.dims.d[i] = 4;
  return c;
}

void tell(const std::string& name, bool refused) {
  std::string words = logged();
  CLAIM(refused, name + " is refused");
  CLAIM(!words.empty(), name + " is logged");
  std::cout << name << ": " << words;
}

void refuse_field(const Library& library, const std::string& name, StoredField wrong, int32_t length = 1) {
  wrong.length = length;
  Plugin made(create(library.creator("TopKBatchNorm"), {wrong}, TensorRTPhase::kBUILD));
  tell(name, !made);
}

void refuse_fields(const Library& library) {
  using Type = PluginFieldType;
  refuse_field(library, "zero k", field("k", Type::kINT32, int32_t{0}));
  refuse_field(library, "huge k", field("k", Type::kINT64, int64_t{1} << 40));
  refuse_field(library, "float chunks", field("chunks", Type::kFLOAT32, 4.0f));
  refuse_field(library, "negative epsilon", field("epsilon", Type::kFLOAT32, -1.0f));
  refuse_field(library, "nan epsilon", field("epsilon", Type::kFLOAT32, std::numeric_limits<float>::quiet_NaN()));
  refuse_field(library, "infinite correction",
               field("correction", Type::kFLOAT32, std::numeric_limits<float>::infinity()));
  refuse_field(library, "list of k", field("k", Type::kINT32, int32_t{3}), 2);
  tell("no fields", !library.creator("L1BatchNorm").createPlugin("layer", nullptr, TensorRTPhase::kBUILD));
}

Plugin made(const Library& library, const Case& c) {
  return Plugin(create(library.creator(c.op), attributes_of(c), TensorRTPhase::kBUILD));
}

void refuse_types(const Library& library) {
  Plugin plugin = made(library, usual("L1BatchNorm")), integer = made(library, usual("QL1BatchNorm"));
  DataType half[3] = {DataType::kFLOAT, DataType::kHALF, DataType::kHALF}, output;
  tell("half scale", build_of(*plugin).getOutputDataTypes(&output, 1, half, 3));
  DataType bytes[3] = {DataType::kINT8, DataType::kFLOAT, DataType::kFLOAT};
  tell("int8 of a float operator", build_of(*plugin).getOutputDataTypes(&output, 1, bytes, 3));
  DataType floats[3] = {DataType::kFLOAT, DataType::kFLOAT, DataType::kFLOAT};
  tell("float of an int8 operator", build_of(*integer).getOutputDataTypes(&output, 1, floats, 3));
  tell("two inputs", build_of(*plugin).getOutputDataTypes(&output, 1, floats, 2));
}

void refuse_shape(const Library& library, const std::string& name, const std::string& op,
                  const std::function<void(std::vector<PluginTensorDesc>&)>& spoil) {
  Case c = usual(op);
  Plugin plugin = made(library, c);
  std::vector<PluginTensorDesc> tensors = tensors_of(c, 4);
  spoil(tensors);
  tell(name, runtime_of(*plugin).onShapeChange(tensors.data(), 3, tensors.data() + 3, 1));
}

void refuse_shapes(const Library& library) {
  refuse_shape(library, "k of fewer elements", "TopKInstanceNorm", [](auto& tensors) {
    for (int32_t i : {0, 3}) {
      tensors[size_t(i)].dims.d[2] = 1;
      tensors[size_t(i)].dims.d[3] = 2;
    }
  });
  refuse_shape(library, "short scale", "L1BatchNorm", [](auto& tensors) { tensors[1].dims.d[0] = 3; });
  refuse_shape(library, "matrix of biases", "L1BatchNorm", [](auto& tensors) { tensors[2].dims.nbDims = 2; });
  refuse_shape(library, "another y", "L1BatchNorm", [](auto& tensors) { tensors[3].dims.d[0] = 5; });
  refuse_shape(library, "x of one dimension", "L1BatchNorm", [](auto& tensors) { tensors[0].dims.nbDims = 1; });
}

// A plan promises workspace for its profile; a larger tensor must not write beyond it.
void refuse_growth(const Library& library) {
  Case c = usual("L1BatchNorm");
  Plugin plugin = made(library, c);
  std::vector<DynamicPluginTensorDesc> profile = dynamic(tensors_of(c, 1), tensors_of(c, 4));
  CLAIM(!build_of(*plugin).configurePlugin(profile.data(), 3, profile.data() + 3, 1), "it is configured");
  c.dims.d[2] = c.dims.d[3] = 4096;
  std::vector<PluginTensorDesc> tensors = tensors_of(c, 64);
  tell("more than the profile", runtime_of(*plugin).onShapeChange(tensors.data(), 3, tensors.data() + 3, 1));
}

void refuse_pointers(const Library& library) {
  Case c = usual("L1BatchNorm");
  Plugin plugin = made(library, c);
  std::vector<PluginTensorDesc> tensors = tensors_of(c, 4);
  const void* inputs[3] = {};
  void* outputs[1] = {};
  tell("null pointers",
       runtime_of(*plugin).enqueue(tensors.data(), tensors.data() + 3, inputs, outputs, nullptr, nullptr));
}

}  // namespace

void try_refusals(const Library& library) {
  refuse_fields(library);
  refuse_types(library);
  refuse_shapes(library);
  refuse_growth(library);
  refuse_pointers(library);
}
