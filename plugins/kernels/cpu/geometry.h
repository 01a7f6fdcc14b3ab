// Where the elements of a statistic lie, and how they are cut. Depends on the norm alone, never on threads.
#pragma once

#include <algorithm>
#include <cstddef>

#include "norm.h"

namespace nx::cpu {

// Partial results are taken of parts of about this many bytes. A part is the grain of splitting one statistic over
// threads, and the grain of rounding: results are combined part by part, in order, whoever computed them.
constexpr int64_t kPartBytes = 64 << 10;

// A part: `rows` runs of `length` contiguous elements each, starting `offset` elements into run `row`. `start`: the
// elements of the group before it, in the order of batch and then space.
struct Part {
  int64_t row, rows, offset, length, start;
};

// A group is one statistic: a channel, or a channel of one sample. It is `runs` runs of `space` elements.
struct Geometry {
  int64_t size, n, groups, runs, space, channels, x_stride, y_stride;  // strides: elements from sample to sample
  int64_t part_rows, part_length, slices, parts;

  explicit Geometry(const NxNorm& norm)
      : size(element_size(norm.type)),
        n(reduced_elements(norm)),
        groups(nx::groups(norm)),
        runs(norm.instance ? 1 : norm.batch),
        space(norm.space),
        channels(norm.channels),
        x_stride(norm.x_stride ? norm.x_stride : channels * space),
        y_stride(norm.y_stride ? norm.y_stride : channels * space) {
    int64_t elements = kPartBytes / size;
    part_length = std::min(space, elements);
    slices = (space + part_length - 1) / part_length;
    part_rows = slices > 1 ? 1 : std::min(runs, elements / space);
    parts = slices > 1 ? runs * slices : (runs + part_rows - 1) / part_rows;
  }

  Part part(int64_t index) const {
    int64_t row = slices > 1 ? index / slices : index * part_rows;
    int64_t offset = slices > 1 ? index % slices * part_length : 0;
    return {row, std::min(part_rows, runs - row), offset, std::min(part_length, space - offset), row * space + offset};
  }

  int64_t part_elements() const { return part_rows * part_length; }
  int64_t group_bytes() const { return n * size; }

  // Elements from the start of the tensor to the first one of the group; stride: x_stride or y_stride.
  int64_t base(int64_t group, int64_t stride) const { return group / channels * stride + group % channels * space; }
};

}  // namespace nx::cpu
