// The norms of int8, exact as kernels.h defines them: what the passes' integers mean.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "geometry.h"
#include "table.h"

namespace nx::cpu {

class ByteMethod {
 public:
  using First = ByteFirst;
  // Where the mean lies, S = sum q.
  struct Center {
    int64_t p;         // rint(S/n)
    int64_t e;         // n*p - S
    int64_t known;     // Top-k: n*|d| that at least k elements reach; -1 where none is known
    int highest;       // Top-k: the largest byte
    int lowest;        // Top-k: the smallest
    ByteCenter bytes;  // what the second pass compares with
  };
  using Second = ByteSecond;
  using Affine = ByteAffine;
  using Divisor = float;
  static constexpr int64_t kMaxChannels = kMaxByteChannels;
  static constexpr int64_t kElement = 1;

  ByteMethod(const NxNorm& norm, const Geometry& geometry, const ByteTable& table, const void* scale, const void* bias)
      : norm_(norm),
        n_(geometry.n),
        table_(table),
        chunks_(chunk_layout(geometry.n, norm.kind == NX_RANGE ? norm.chunks : 1)),
        factor_(float(factor(norm))),
        scale_(static_cast<const float*>(scale)),
        bias_(static_cast<const float*>(bias)) {}

  static int64_t capacity(const NxNorm&, int64_t) { return 0; }

  // Passes over x that the statistic takes.
  int passes() const { return norm_.kind == NX_L1 || norm_.kind == NX_TOPK ? 2 : 1; }

  void first(const Stretch& part, int64_t start, First* out) const {
    table_.first(norm_.kind, part, {chunks_.length, start % chunks_.length, norm_.k}, out);
  }

  void merge(First* all, const First& next) const {
    all->sum += next.sum;
    if (norm_.kind == NX_L2) all->squares += next.squares;
    if (norm_.kind == NX_RANGE) return merge_chunks(all, next);
    for (int i = 0; i < all->lanes; ++i) {
      all->high[i] = std::max(all->high[i], next.high[i]);
      all->low[i] = std::min(all->low[i], next.low[i]);
    }
  }

  bool second_needed(const First& all, Center* center, Second*) const {
    center->p = int64_t(std::nearbyint(double(all.sum) / double(n_)));
    center->e = n_ * center->p - all.sum;
    if (norm_.kind == NX_L1) {
      // e > 0: the mean lies below p, so that elements equal to p are above it; e < 0: the other way round. Either
      // neighbour is a byte, for some element lies on its side.
      const int pivot = int(center->p) + 128;
      center->bytes = {pivot, pivot + (center->e > 0 ? -1 : center->e < 0 ? 1 : 0), 0, 0};
      return true;
    }
    if (norm_.kind == NX_TOPK) bound(all, center);
    return norm_.kind == NX_TOPK;
  }

  static void begin(Second* state, void*, int64_t) { std::memset(state, 0, sizeof *state); }

  static void share_bound(const Second&, Second*) {}

  void second(const Stretch& part, const Center& center, Second* state) const {
    table_.second(norm_.kind, part, center.bytes, state);
  }

  void merge(Second* all, const Second& next) const {
    all->distances += next.distances;
    all->sides += next.sides;
    for (int i = 0; i < 256; ++i) all->counts[i] += next.counts[i];
  }

  // factor*statistic + epsilon.
  Divisor divisor(const First& all, const Center& center, Second* second) const {
    return factor_ * float(statistic(all, center, *second)) + norm_.epsilon;
  }

  Affine affine(const Center& center, Divisor divisor, int64_t channel) const {
    return {float(center.p), float(double(center.e) / double(n_)), scale_[channel] / divisor, bias_[channel]};
  }

  void apply(const Rows& rows, const Affine* channels) const { table_.apply(rows, channels); }

  // Elements each of a channel of its own, from `channel` on.
  void each(const void* x, void* y, int64_t count, int64_t channel, const Center& center, Divisor divisor) const {
    const ByteAffine mean{float(center.p), float(double(center.e) / double(n_)), 0, 0};
    table_.each({x, y, count, scale_ + channel, bias_ + channel}, mean, divisor);
  }

 private:
  // A walk over the bytes from both ends inwards, the larger deviation first; without branches, which nobody could
  // predict.
  struct Inward {
    int low;       // the byte at the lower end
    int high;      // the byte at the upper end
    int64_t up;    // n*|d| of high
    int64_t down;  // n*|d| of low
    int64_t n;     // elements of the statistic

    bool rises() const { return up >= down; }
    int byte() const { return rises() ? high : low; }
    void step() {
      const bool rise = rises();
      high -= rise;
      low += !rise;
      up -= rise ? n : 0;
      down -= rise ? 0 : n;
    }
  };

  static int span(int high, int low) { return high < low ? 0 : high - low; }

  static void merge_chunks(First* all, const First& next) {
    int* high = all->cut ? &all->tail_high : &all->head_high;
    int* low = all->cut ? &all->tail_low : &all->head_low;
    *high = std::max(*high, next.head_high);
    *low = std::min(*low, next.head_low);
    if (next.cut && all->cut) all->spans += span(*high, *low);
    if (!next.cut) return;
    all->spans += next.spans;
    all->cut = true;
    all->tail_high = next.tail_high;
    all->tail_low = next.tail_low;
  }

  // A lower bound of the k-th largest n*|d|: the k-th largest among the lanes' ends, each an element of its own unless
  // both ends of a lane are equal. Bytes low..high deviate by no more than that.
  void bound(const First& all, Center* center) const {
    uint16_t ends[256] = {};
    int low = 255, high = 0;
    for (int i = 0; i < all.lanes; ++i) {
      if (all.high[i] < all.low[i]) continue;
      ++ends[all.high[i]];
      ends[all.low[i]] += all.high[i] > all.low[i];
      high = std::max<int>(high, all.high[i]);
      low = std::min<int>(low, all.low[i]);
    }
    center->known = -1;
    center->bytes = {0, 0, 0, 255};  // high < low: count all
    center->highest = high;
    center->lowest = low;
    Inward at{low, high, above(*center, high), -above(*center, low), n_};
    for (int64_t found = 0; at.low <= at.high; at.step()) {
      found += ends[at.byte()];
      if (found < norm_.k) continue;
      center->known = std::max(at.up, at.down);
      // The one taken last is within the bounds, and so is what lies as far on the other side.
      center->bytes.high = at.high;
      center->bytes.low = at.low;
      return;
    }
  }

  // n * (q - mean) of the byte q + 128.
  int64_t above(const Center& center, int byte) const { return n_ * (byte - 128 - center.p) + center.e; }

  double statistic(const First& all, const Center& center, const Second& second) const {
    const double n = double(n_), e = double(center.e);
    switch (norm_.kind) {
      case NX_L1: {
        // sides - distances = #{q >= p} - #{q < p} where other is p - 1, #{q <= p} - #{q > p} where it is p + 1.
        const int64_t balance = second.sides - second.distances;
        return mean(second.distances, std::llabs(center.e) * balance, n_);
      }
      case NX_LINF: {
        const int64_t rise = all.high[0] - 128 - center.p, drop = center.p - (all.low[0] - 128);
        const bool up = n_ * rise + center.e >= n_ * drop - center.e;
        return mean(up ? rise : drop, up ? center.e : -center.e, 1);
      }
      case NX_RANGE: {
        int64_t spans = all.spans + span(all.head_high, all.head_low);
        if (all.cut) spans += span(all.tail_high, all.tail_low);
        return mean(spans, 0, chunks_.count);
      }
      case NX_L2: {
        // sum (q-p)^2 = sum q^2 - 2 p S + n p^2
        const int64_t squares = all.squares - 2 * center.p * all.sum + n_ * center.p * center.p;
        return std::sqrt((double(squares) - e * e / n) / n);
      }
      default: return mean_of_largest(center, second);
    }
  }

  double mean(int64_t whole, int64_t part, int64_t count) const {
    return (double(whole) + double(part) / double(n_)) / double(count);
  }

  double mean_of_largest(const Center& center, const Second& second) const {
    int64_t whole = 0, part = 0, left = norm_.k;
    Inward at{center.lowest, center.highest, above(center, center.highest), -above(center, center.lowest), n_};
    auto take = [&](int byte, bool above, int64_t count) {
      const int64_t r = byte - 128 - center.p;
      whole += (above ? r : -r) * count;
      part += (above ? center.e : -center.e) * count;
      left -= count;
    };
    auto counted = [&] { return at.high > center.bytes.high || at.low < center.bytes.low; };
    for (; left > 0 && at.low <= at.high && counted(); at.step())
      take(at.byte(), at.rises(), std::min<int64_t>(left, second.counts[at.byte()]));
    // The bytes within the bounds were not counted: what is missing deviates by exactly the bound.
    for (int byte = center.bytes.low; left > 0 && byte <= center.bytes.high; ++byte)
      if (std::llabs(above(center, byte)) == center.known) take(byte, above(center, byte) >= 0, left);
    return mean(whole, part, norm_.k);
  }

  NxNorm norm_;
  int64_t n_;
  const ByteTable& table_;
  Chunks chunks_;
  float factor_;
  const float* scale_;
  const float* bias_;
};

}  // namespace nx::cpu
