// The norms of floats: what the passes' results mean. W: the working precision, float, or double for double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "geometry.h"
#include "table.h"

namespace nx::cpu {

template <class W>
class FloatMethod {
 public:
  using First = FloatFirst;
  using Center = cpu::Center;
  using Second = FloatSecond;
  using Affine = FloatAffine;
  using Divisor = double;
  static constexpr int64_t kMaxChannels = kMaxFloatChannels;
  static constexpr int64_t kElement = sizeof(W);  // of the buffer of Top-k

  FloatMethod(const NxNorm& norm, const Geometry& geometry, const FloatTable& table, const void* scale,
              const void* bias)
      : norm_(norm),
        geometry_(geometry),
        table_(table),
        chunks_(chunk_layout(geometry.n, norm.kind == NX_RANGE ? norm.chunks : 1)),
        factor_(factor(norm)),
        scale_(static_cast<const W*>(scale)),
        bias_(static_cast<const W*>(bias)) {}

  // Values that a buffer of Top-k needs to serve `elements` elements: beyond k, room to fill before the next selection.
  static int64_t capacity(const NxNorm& norm, int64_t elements) {
    if (norm.kind != NX_TOPK) return 0;
    return (norm.k < elements / 2 ? std::min(elements, 2 * norm.k + 256) : elements) + 2 * kFloatLanes;
  }

  // Passes over x that the statistic takes.
  int passes() const { return norm_.kind == NX_L1 || norm_.kind == NX_L2 || norm_.kind == NX_TOPK ? 2 : 1; }

  void first(const Stretch& part, int64_t start, First* out) const {
    table_.first(norm_.kind, part, {chunks_.length, start % chunks_.length, norm_.k}, out);
  }

  // Appends what the next part found.
  void merge(First* all, const First& next) const {
    all->sum += next.sum;
    for (int i = 0; i < all->lanes; ++i) widen(&all->ends[i], next.ends[i]);
    if (norm_.kind == NX_RANGE) merge_chunks(all, next);
  }

  // Whether a second pass is needed. Without one, a mean that is not finite needs no statistic either.
  bool second_needed(const First& all, Center* center, Second* state) const {
    *center = center_of(all);
    if (!std::isfinite(center->high)) return false;
    if (norm_.kind == NX_TOPK) state->threshold = bound(all, *center);
    state->k = norm_.k;
    return passes() == 2;
  }

  static void begin(Second* state, void* buffer, int64_t capacity) {
    *state = {0, -std::numeric_limits<double>::infinity(), buffer, 0, capacity - kFloatLanes, 0};
  }

  static void share_bound(const Second& from, Second* to) {
    to->threshold = from.threshold;
    to->k = from.k;
  }

  void second(const Stretch& part, const Center& center, Second* state) const {
    table_.second(norm_.kind, part, center, state);
  }

  // Appends what another part found; the buffers of a group's parts lie one after the other.
  void merge(Second* all, const Second& next) const {
    all->sum += next.sum;
    if (norm_.kind != NX_TOPK) return;
    all->threshold = std::max(all->threshold, next.threshold);
    std::memmove(static_cast<W*>(all->buffer) + all->count, next.buffer, size_t(next.count) * sizeof(W));
    all->count += next.count;
  }

  // factor*statistic + epsilon; NaN where the mean is not finite.
  Divisor divisor(const First& all, const Center& center, Second* second) const {
    if (!std::isfinite(center.high)) return std::numeric_limits<double>::quiet_NaN();
    return factor_ * statistic(all, center, second) + norm_.epsilon;
  }

  Affine affine(const Center& center, Divisor divisor, int64_t channel) const {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    if (!std::isfinite(center.high)) return {nan, nan, nan};
    const double slope = scale_[channel] / divisor;
    return {center.high, slope, bias_[channel] - center.low * slope};
  }

  void apply(const Rows& rows, const Affine* channels) const { table_.apply(rows, channels); }

  // Elements each of a channel of its own, from `channel` on.
  void each(const void* x, void* y, int64_t count, int64_t channel, const Center& center, Divisor divisor) const {
    table_.each({x, y, count, scale_ + channel, bias_ + channel}, center, divisor);
  }

 private:
  static void widen(Ends* ends, const Ends& by) {
    ends->high = std::max(ends->high, by.high);
    ends->low = std::min(ends->low, by.low);
  }

  static double span(const Ends& ends) { return ends.high < ends.low ? 0 : ends.high - ends.low; }

  static void merge_chunks(First* all, const First& next) {
    Ends* open = all->cut ? &all->tail : &all->head;
    widen(open, next.head);
    if (next.cut && all->cut) all->spans += span(*open);
    if (!next.cut) return;
    all->spans += next.spans;
    all->tail = next.tail;
    all->cut = true;
  }

  Center center_of(const First& all) const {
    double mean = all.sum / double(geometry_.n);
    if (sizeof(W) == 8) {  // a sum of doubles is rounded: keep the mean among the values, a constant's on it
      Ends whole = all.ends[0];
      for (int i = 1; i < all.lanes; ++i) widen(&whole, all.ends[i]);
      if (mean > whole.high) mean = whole.high;
      if (mean < whole.low) mean = whole.low;
      return {mean, 0, 1};
    }
    const W high = W(mean);
    return {double(high), std::isfinite(high) ? mean - double(high) : 0, 1};
  }

  // A lower bound of the k-th largest |d|: the k-th largest among the lanes' ends, each an element of its own unless
  // both ends of a lane are equal; computed as the second pass computes |d|.
  double bound(const First& all, const Center& center) const {
    W sizes[2 * kFloatLanes];
    int64_t count = 0;
    for (int i = 0; i < all.lanes; ++i) {
      const Ends& ends = all.ends[i];
      if (ends.high < ends.low) continue;
      sizes[count++] = size(W(ends.high), center);
      if (ends.high > ends.low) sizes[count++] = size(W(ends.low), center);
    }
    if (norm_.k > count) return -std::numeric_limits<double>::infinity();
    return kth_largest(sizes, count, norm_.k);
  }

  static W size(W x, const Center& center) { return std::fabs((x - W(center.high)) - W(center.low)); }

  double statistic(const First& all, const Center& center, Second* second) const {
    const double n = double(geometry_.n), mean = center.high + center.low;
    switch (norm_.kind) {
      case NX_L1: return second->sum / n;
      case NX_L2: return std::sqrt(second->sum / n);
      case NX_LINF: return std::max(all.ends[0].high - mean, mean - all.ends[0].low);
      case NX_RANGE: return (all.spans + span(all.head) + (all.cut ? span(all.tail) : 0)) / double(chunks_.count);
      default: return mean_of_largest(second);
    }
  }

  double mean_of_largest(Second* second) const {
    auto* values = static_cast<W*>(second->buffer);
    const double known = second->threshold;
    const int64_t count = std::partition(values, values + second->count, [known](W v) { return v > known; }) - values;
    double sum = sum_of_largest(values, count, norm_.k);
    if (count < norm_.k) sum += double(norm_.k - count) * known;
    return sum / double(norm_.k);
  }

  NxNorm norm_;
  const Geometry& geometry_;
  const FloatTable& table_;
  Chunks chunks_;
  double factor_;
  const W* scale_;
  const W* bias_;
};

}  // namespace nx::cpu
