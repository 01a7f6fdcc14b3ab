// The norms by the formulas of kernels.h, one element after the other: what every back end must give.
#pragma once

#include <cstdint>
#include <vector>

#include "normexport/kernels.h"

namespace reference {

// y (N, C, space) of x (N, C, space), in float64.
std::vector<double> floats(const NxNorm& norm, const std::vector<double>& x, const std::vector<float>& scale,
                           const std::vector<float>& bias);

// The same of an int8 operator: exact integers, then the operations of kernels.h, each rounded by itself.
std::vector<double> bytes(const NxNorm& norm, const std::vector<double>& x, const std::vector<float>& scale,
                          const std::vector<float>& bias);

}  // namespace reference
