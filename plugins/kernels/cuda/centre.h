// What a block knows about the channels of its tile: pivots, means, and the line y = a*x + b they end in.
// Thread t < tile*held answers for channel t of the tile.
#pragma once

#include "element.h"
#include "reduce.h"
#include "task.h"

namespace nx {

constexpr int kGroups = 256;  // channels of a tile, at most

// A statistic: which channel, which entry of a [group] array.
struct Group {
  bool exists;
  int64_t channel, index, offset;  // offset: of its first lane in row 0
};

__device__ inline Group group_of(const Geometry& g, const Place& place, int local) {
  Column column = column_of(g, place, local / g.held);
  int lane = local & (g.held - 1);
  int64_t channel = column.channel + lane;
  return {column.exists && channel < g.channels, channel, place.sample * g.channels + channel, column.offset + lane};
}

// Element at a position of a group. Positions of a row lie `held` elements apart.
template <class T>
__device__ inline float element(const Geometry& g, const T* x, const Group& group, int64_t sample, int64_t position) {
  int64_t row = position >> g.shift, beside = position - (row << g.shift);
  return to_float(x[group.offset + sample * g.x_stride + row * g.step + beside * g.held]);
}

// A number near the mean: the middle one of the first, a middle and the last element, so that one outlier can't be
// it. Sums of x - pivot keep the digits that sums of x lose, and are exactly 0 where the channel is constant.
template <class T>
__device__ inline float pivot_of(const Geometry& g, const T* x, const Group& group, int64_t sample) {
  float a = element(g, x, group, sample, 0);
  float b = element(g, x, group, sample + g.samples / 2, g.space / 2);
  float c = element(g, x, group, sample + g.samples - 1, g.space - 1);
  return fmaxf(fminf(a, b), fminf(fmaxf(a, b), c));
}

// A mean as two floats.
struct Centre {
  float m, rest;
};

__device__ inline Centre centre_of(double mean) {
  float m = float(mean);
  return {m, float(mean - double(m))};
}

// Spreads what threads t < tile*held hold over the block. Each call needs an array of its own.
template <class V>
__device__ inline void publish(const Geometry& g, const V& value, V* shared) {
  int t = int(threadIdx.x);
  if (t < g.tile * g.held) shared[t] = value;
  __syncthreads();
}

// Which channel of the tile lane j of this thread's vectors holds.
__device__ inline int local_of(const Geometry& g, int j) {
  return (int(threadIdx.x) & (g.tile - 1)) * g.held + (j & (g.held - 1));
}

// mean and statistic (its factor not yet in it) -> the line. A mean that is not finite makes the channel NaN.
__device__ inline Line line_of(const Task& task, double mean, float m, double statistic, int64_t channel) {
  double a = double(task.scale[channel]) / (task.factor * statistic + double(task.epsilon));
  if (!isfinite(mean)) a = mean - mean;
  return {m, float(a), float(double(task.bias[channel]) - (mean - double(m)) * a)};
}

}  // namespace nx
