#include "log.h"

#include <atomic>
#include <cstdio>

namespace nxtrt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> finder_of_host{nullptr};

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { finder_of_host = finder; }

void error(const std::string& op, const std::string& node, const std::string& words) noexcept {
  try {
    std::string line = "normexport: " + op + (node.empty() ? "" : " " + node) + ": " + words;
    nvinfer1::ILoggerFinder* finder = finder_of_host;
    nvinfer1::ILogger* logger = finder ? finder->findLogger() : nullptr;
    if (logger)
      logger->log(nvinfer1::ILogger::Severity::kERROR, line.c_str());
    else
      std::fprintf(stderr, "%s\n", line.c_str());
  } catch (...) {  // no memory for words: the status still tells
  }
}

}  // namespace nxtrt
