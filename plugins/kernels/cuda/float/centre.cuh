// What a block knows about the channels of its tile: pivots, means, and the line y = (x - m)*a + b they end in.
#pragma once

#include "cuda/block/group.cuh"
#include "cuda/float/args.h"
#include "cuda/memory/element.cuh"

namespace nx {

// Element at a position of a group. Positions of a row lie `held` elements apart.
template <class T>
__device__ inline float element(const Geometry& g, const T* x, const Group& group, int64_t sample, int64_t position) {
  const int64_t row = position >> g.shift, beside = position - (row << g.shift);
  return to_float(x[group.offset + sample * g.x_stride + row * g.step + beside * g.held]);
}

// A number near the mean: the middle one of the first, a middle and the last element, so that one outlier can't be
// it. Sums of x - pivot keep the digits that sums of x lose, and are exactly 0 where the channel is constant.
template <class T>
__device__ inline float pivot_of(const Geometry& g, const T* x, const Group& group, int64_t sample) {
  const float a = element(g, x, group, sample, 0);
  const float b = element(g, x, group, sample + g.samples / 2, g.space / 2);
  const float c = element(g, x, group, sample + g.samples - 1, g.space - 1);
  return fmaxf(fminf(a, b), fminf(fmaxf(a, b), c));
}

// A mean as two floats.
struct Centre {
  float m;     // the mean, rounded
  float rest;  // what rounding left
};

__device__ inline Centre centre_of(double mean) {
  const float m = float(mean);
  return {m, float(mean - double(m))};
}

// mean and statistic (its factor not yet in it) -> the line. A mean that is not finite makes the channel NaN.
__device__ inline Line line_of(const FloatArgs& args, double mean, float m, double statistic, int64_t channel) {
  double a = double(args.scale[channel]) / (args.factor * statistic + double(args.epsilon));
  if (!isfinite(mean)) a = mean - mean;
  return {m, float(a), float(double(args.bias[channel]) - (mean - double(m)) * a)};
}

}  // namespace nx
