// What the plugin has to say, through TensorRT's logger where the library was given one, else to standard error.
#pragma once

#include <NvInferRuntime.h>

#include <string>

namespace nxtrt {

// Called once by TensorRT when it loads the library.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// "normexport: L1BatchNorm layer1.0.bn1: words".
void error(const std::string& op, const std::string& node, const std::string& words) noexcept;

}  // namespace nxtrt
