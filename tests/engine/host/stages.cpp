#include "stages.h"

#include <cstring>
#include <memory>
#include <sstream>

#include "check.h"
#include "memory.h"

namespace {

using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

struct NoExpressions : nvinfer1::IExprBuilder {};  // y's shape is x's: nothing is built

PluginTensorDesc described(Dims dims, DataType type, TensorFormat format) { return {dims, type, format, -1.0f}; }

Dims vector_of(int64_t channels) {
  Dims dims{};
  dims.nbDims = 1;
  dims.d[0] = channels;
  return dims;
}

void check_identity(IPluginV3& plugin, const Case& c) {
  IPluginV3OneCore& core = core_of(plugin);
  CLAIM(core.getPluginName() == c.op, "the plugin has its operator's name");
  CLAIM(!std::strcmp(core.getPluginNamespace(), "normexport"), "and our namespace");
  CLAIM(!std::strcmp(core.getPluginVersion(), "1"), "and version 1");
  std::string identity = build_of(plugin).getTimingCacheID();
  CLAIM(identity.find(c.op + ":") == 0 && identity.find("k=" + std::to_string(c.k)) != std::string::npos,
        "its tactics are kept apart by operator and attributes: " + identity);
}

void check_outputs(IPluginV3& plugin, const Case& c) {
  IPluginV3OneBuild& build = build_of(plugin);
  CLAIM(build.getNbOutputs() == 1, "there is one output");
  DataType inputs[3] = {c.type, DataType::kFLOAT, DataType::kFLOAT}, output;
  CLAIM(!build.getOutputDataTypes(&output, 1, inputs, 3) && output == c.type, "y has the type of x");
  nvinfer1::DimsExprs shapes[3] = {}, shape = {};
  shapes[0].nbDims = c.dims.nbDims;
  for (int32_t i = 0; i < c.dims.nbDims; ++i)  // told apart by their addresses, never looked into
    shapes[0].d[i] = reinterpret_cast<const nvinfer1::IDimensionExpr*>(uintptr_t(16 * (i + 1)));
  shapes[1].nbDims = shapes[2].nbDims = 1;
  NoExpressions none;
  CLAIM(!build.getOutputShapes(shapes, 3, nullptr, 0, &shape, 1, none), "the shape of y is known");
  CLAIM(shape.nbDims == c.dims.nbDims && !std::memcmp(shape.d, shapes[0].d, sizeof(void*) * size_t(shape.nbDims)),
        "y has the shape of x");
}

void check_formats(IPluginV3& plugin, const Case& c) {
  IPluginV3OneBuild& build = build_of(plugin);
  std::vector<PluginTensorDesc> tensors = tensors_of(c, c.dims.d[0]);
  std::vector<DynamicPluginTensorDesc> all = dynamic(tensors, tensors);
  for (int32_t position = 0; position < 4; ++position)
    CLAIM(build.supportsFormatCombination(position, all.data(), 3, 1), "the combination is supported");
  all[3].desc.format = c.format == TensorFormat::kLINEAR ? TensorFormat::kHWC8 : TensorFormat::kLINEAR;
  CLAIM(!build.supportsFormatCombination(3, all.data(), 3, 1), "y can't have another format than x");
  all[1].desc.type = DataType::kHALF;
  CLAIM(!build.supportsFormatCombination(1, all.data(), 3, 1), "scale is float32");
}

// Serialises; the plugin made of it at run time serialises to the same.
std::unique_ptr<IPluginV3> carried_over(const Library& library, const Case& c, std::unique_ptr<IPluginV3> built) {
  std::vector<StoredField> plan = stored(*runtime_of(*built).getFieldsToSerialize());
  built.reset();
  std::unique_ptr<IPluginV3> loaded(create(library.creator(c.op), plan, TensorRTPhase::kRUNTIME));
  CLAIM(loaded, "a plugin is made of the plan's fields");
  CLAIM(stored(*runtime_of(*loaded).getFieldsToSerialize()) == plan, "it comes back identical");
  std::vector<StoredField> asked = attributes_of(c);
  for (size_t i = 0; i < asked.size(); ++i)
    CLAIM(plan[i] == asked[i], asked[i].name + " is in the plan as it was given");
  return loaded;
}

void compute(IPluginV3& plugin, const Case& c, size_t workspace_bytes) {
  IPluginV3OneRuntime& runtime = runtime_of(plugin);
  std::vector<PluginTensorDesc> tensors = tensors_of(c, c.dims.d[0]);
  CLAIM(!runtime.onShapeChange(tensors.data(), 3, tensors.data() + 3, 1), "the shape is accepted: " + logged());
  Memory x(read_file(c.files + ".x")), scale(read_file(c.files + ".scale")), bias(read_file(c.files + ".bias"));
  Memory y(x.content().size()), workspace(workspace_bytes);
  const void* inputs[3] = {x.data(), scale.data(), bias.data()};
  void* outputs[1] = {y.data()};
  int32_t failed = runtime.enqueue(tensors.data(), tensors.data() + 3, inputs, outputs, workspace.data(), nullptr);
  CLAIM(!failed, "enqueue succeeds: " + logged());
  write_file(c.files + ".y", y.content());
}

}  // namespace

bool read_case(const std::string& line, Case& c) {
  std::istringstream words(line);
  int32_t type, format;
  c.dims = {};
  words >> c.files >> c.op >> type >> format >> c.dims.nbDims;
  for (int32_t i = 0; i < c.dims.nbDims && i < Dims::MAX_DIMS; ++i) words >> c.dims.d[i];
  words >> c.largest_batch >> c.epsilon >> c.correction >> c.k >> c.chunks;
  c.type = static_cast<DataType>(type);
  c.format = static_cast<TensorFormat>(format);
  return !words.fail();
}

IPluginV3OneCore& core_of(IPluginV3& plugin) {
  auto* found = plugin.getCapabilityInterface(PluginCapabilityType::kCORE);
  CLAIM(found && !std::strcmp(found->getInterfaceInfo().kind, "PLUGIN_V3ONE_CORE"), "it has the core");
  return *static_cast<IPluginV3OneCore*>(found);
}

IPluginV3OneBuild& build_of(IPluginV3& plugin) {
  auto* found = plugin.getCapabilityInterface(PluginCapabilityType::kBUILD);
  CLAIM(found && !std::strcmp(found->getInterfaceInfo().kind, "PLUGIN_V3ONE_BUILD"), "it can build");
  return *static_cast<IPluginV3OneBuild*>(found);
}

IPluginV3OneRuntime& runtime_of(IPluginV3& plugin) {
  auto* found = plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME);
  CLAIM(found && !std::strcmp(found->getInterfaceInfo().kind, "PLUGIN_V3ONE_RUNTIME"), "it can run");
  return *static_cast<IPluginV3OneRuntime*>(found);
}

std::vector<StoredField> attributes_of(const Case& c) {
  return {field("epsilon", PluginFieldType::kFLOAT32, c.epsilon),
          field("correction", PluginFieldType::kFLOAT32, c.correction), field("k", PluginFieldType::kINT32, c.k),
          field("chunks", PluginFieldType::kINT32, c.chunks)};
}

std::vector<PluginTensorDesc> tensors_of(const Case& c, int64_t batch) {
  Dims dims = c.dims;
  dims.d[0] = batch;
  PluginTensorDesc x = described(dims, c.type, c.format);
  PluginTensorDesc parameter = described(vector_of(dims.d[1]), DataType::kFLOAT, TensorFormat::kLINEAR);
  return {x, parameter, parameter, x};
}

std::vector<DynamicPluginTensorDesc> dynamic(const std::vector<PluginTensorDesc>& least,
                                             const std::vector<PluginTensorDesc>& most) {
  std::vector<DynamicPluginTensorDesc> all;
  for (size_t i = 0; i < least.size(); ++i) {
    DynamicPluginTensorDesc each{};
    each.desc = least[i];
    each.min = least[i].dims;
    each.opt = each.max = most[i].dims;
    if (i % 3 == 0) each.desc.dims.d[0] = -1;  // x and y: the batch is open
    all.push_back(each);
  }
  return all;
}

void live(const Library& library, const Case& c) {
  std::unique_ptr<IPluginV3> parsed(create(library.creator(c.op), attributes_of(c), TensorRTPhase::kBUILD));
  CLAIM(parsed, "a plugin is made of the node's attributes: " + logged());
  check_identity(*parsed, c);
  check_outputs(*parsed, c);
  check_formats(*parsed, c);
  std::unique_ptr<IPluginV3> built(parsed->clone());
  parsed.reset();
  std::vector<DynamicPluginTensorDesc> profile = dynamic(tensors_of(c, 1), tensors_of(c, c.largest_batch));
  CLAIM(!build_of(*built).configurePlugin(profile.data(), 3, profile.data() + 3, 1), "it is configured: " + logged());
  size_t workspace = build_of(*built).getWorkspaceSize(profile.data(), 3, profile.data() + 3, 1);
  std::unique_ptr<IPluginV3> loaded = carried_over(library, c, std::move(built));
  std::unique_ptr<IPluginV3> attached(runtime_of(*loaded).attachToContext(nullptr));
  loaded.reset();
  compute(*attached, c, workspace);
  CLAIM(logged().empty(), "nothing was logged");
}

std::string negotiated(const Library& library, const std::string& op, int32_t rank) {
  Case c{"", op, DataType::kFLOAT, TensorFormat::kLINEAR, {}, 1, 1e-5f, 0, 1, 1};
  c.dims.nbDims = rank;
  for (int32_t i = 0; i < rank; ++i) c.dims.d[i] = 4;
  std::unique_ptr<IPluginV3> plugin(create(library.creator(op), attributes_of(c), TensorRTPhase::kBUILD));
  std::string found;
  for (int32_t type = 0; type < 12; ++type)
    for (int32_t format = 0; format < 13; ++format) {
      c.type = static_cast<DataType>(type);
      c.format = static_cast<TensorFormat>(format);
      std::vector<PluginTensorDesc> tensors = tensors_of(c, 4);
      if (build_of(*plugin).supportsFormatCombination(0, dynamic(tensors, tensors).data(), 3, 1))
        found += " " + std::to_string(type) + ":" + std::to_string(format);
    }
  return op + " " + std::to_string(rank) + found;
}
