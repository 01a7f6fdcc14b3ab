// Where the elements of a statistic lie, and how they are cut. Depends on the norm alone, never on threads.
#pragma once

#include <algorithm>
#include <cstddef>

#include "norm.h"

namespace nx::cpu {

// Partial results are taken of parts of about this many bytes. A part is the grain of splitting one statistic over
// threads, and the grain of rounding: results are combined part by part, in order, whoever computed them.
constexpr int64_t kPartBytes = 64 << 10;

// Some of the elements of a group.
struct Part {
  int64_t row;     // its first run
  int64_t rows;    // runs of it
  int64_t offset;  // elements of a run before it
  int64_t length;  // contiguous elements of a run
  int64_t start;   // elements of the group before it, in the order of batch and then space
};

// A group is one statistic: a channel, a channel of one sample, or some channels of one sample, its members, which lie
// one after the other. It is `runs` runs of `space` elements.
struct Geometry {
  int64_t size;         // bytes of an element
  int64_t n;            // elements of a group
  int64_t groups;       // of the tensor
  int64_t runs;         // of a group
  int64_t space;        // elements of a run
  int64_t channels;     // groups that lie side by side in a sample
  int64_t members;      // channels of a group
  int64_t x_stride;     // elements from sample to sample of x
  int64_t y_stride;     // the same of y
  int64_t part_rows;    // runs of a part
  int64_t part_length;  // elements of a run in a part
  int64_t slices;       // parts of a run; 1 where a part has whole runs
  int64_t parts;        // of a group

  explicit Geometry(const NxNorm& norm)
      : size(element_size(norm.type)),
        n(reduced_elements(norm)),
        groups(nx::groups(norm)),
        runs(norm.instance || norm.num_groups ? 1 : norm.batch),
        space(norm.num_groups ? n : norm.space),
        channels(norm.num_groups ? norm.num_groups : norm.channels),
        members(norm.channels / channels),
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
