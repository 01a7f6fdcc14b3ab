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

// Merges the parts of a [part][group] array; valid in thread t < tile*held. `none`: the value of no part.
template <class V, class Total, class Op>
__device__ inline Total merge_parts(const Geometry& g, const Place& place, const V* values, Total none, Total* slots,
                                    Op op) {
  int groups = g.tile * g.held, t = int(threadIdx.x), local = t & (groups - 1);
  Group group = group_of(g, place, local);
  Total total = none;
  if (group.exists)
    for (int part = t / groups; part < g.parts; part += int(blockDim.x) / groups)
      total = op(total, Total(values[int64_t(part) * g.groups + group.index]));
  return reduce_threads(total, groups, slots, op);
}

// Spreads a value that threads t < tile*held hold to the lanes of each thread's vectors.
template <int W>
__device__ inline void share(const Geometry& g, float value, float (&lane)[W], float* shared) {
  int t = int(threadIdx.x);
  __syncthreads();
  if (t < g.tile * g.held) shared[t] = value;
  __syncthreads();
#pragma unroll
  for (int j = 0; j < W; ++j) lane[j] = shared[(t & (g.tile - 1)) * g.held + (j & (g.held - 1))];
}

// The mean as two floats: float(mean) and the rest.
__device__ inline float rest_of(double mean) { return float(mean - double(float(mean))); }

// y = (x - m)*a + b of one channel; where m, the mean rounded to float32, is off, b makes up for it.
struct Line {
  float m, a, b;
};

// mean and statistic (its factor not yet in it) -> the line. A mean that is not finite makes the channel NaN.
__device__ inline Line line_of(const Task& task, double mean, float m, double statistic, int64_t channel) {
  double a = double(task.scale[channel]) / (task.factor * statistic + double(task.epsilon));
  if (!isfinite(mean)) a = mean - mean;
  return {m, float(a), float(double(task.bias[channel]) - (mean - double(m)) * a)};
}

}  // namespace nx
