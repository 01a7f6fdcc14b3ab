// A training step: what the vectorised passes find, put together, and what follows for each channel.
//
// A channel is cut into pieces, and sums are taken of pieces in their order, so that results depend neither on threads
// nor on the run. Channels side by side (NX_HWC) are taken kColumnBytes at a time.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>

#include "driver.h"
#include "norm.h"
#include "table.h"

namespace nx::cpu {

// Elements of a piece of one channel: 128 KiB of floats. Rows of a piece of channels side by side.
constexpr int64_t kPieceElements = 32 << 10, kPieceRows = 2 << 10;
// Pieces whose ends bound the k-th largest from below.
constexpr int64_t kBounding = 64;
// L2: no smaller one is divided by.
constexpr double kLeastSigma = 1e-15;

// How a tensor is cut: `groups` of channels, each of `pieces`. Depends on the norm alone.
struct Cut {
  bool side_by_side;  // channels
  int64_t n;          // elements of a channel
  int64_t columns;    // channels of a group
  int64_t groups;
  int64_t length;  // elements of a channel in a piece; of Range a chunk
  int64_t pieces;  // of a group

  Cut(const NxNorm& norm, int64_t bytes)
      : side_by_side(norm.layout == NX_HWC),
        n(norm.batch * norm.space),
        columns(side_by_side ? std::min(kColumnBytes / bytes, norm.channels) : 1),
        groups((norm.channels + columns - 1) / columns),
        length(norm.kind == NX_RANGE ? chunk_layout(n, norm.chunks).length
               : side_by_side        ? kPieceRows
                                     : kPieceElements),
        pieces((n + length - 1) / length) {}
};

// Marks of a channel; see kernels.h, nx_cpu_marks.
inline int64_t marks(const NxNorm& norm) {
  if (norm.kind == NX_RANGE) return 2 * chunk_layout(norm.batch * norm.space, norm.chunks).count;
  return norm.kind == NX_LINF || norm.kind == NX_TOPK;
}

// All of a tensor's pieces are worked on, then each group is finished.
struct Phase {
  std::function<void(int64_t group, int64_t piece)> work;
  std::function<void(int64_t group)> finish;
};

template <class W>
class Training {
 public:
  Training(const NxNorm& norm, double epsilon, double correction, const TrainingTable& table, void* workspace,
           const NxThreads* threads)
      : norm_(norm), cut_(norm, sizeof(W)), epsilon_(epsilon), table_(table), channels_(norm.channels) {
    norm_.correction = 0;
    factor_ = correction != 0 ? correction : factor(norm_);
    const int64_t bytes = cut_.n * channels_ * int64_t(sizeof(W));
    stream_ = bytes >= kStreamBytes;
    threads_ = bytes >= kSerialBytes ? threads : nullptr;
    place(static_cast<char*>(workspace));
  }

  static size_t workspace(const NxNorm& norm) {
    NxNorm plain = norm;
    static const TrainingTable none{};
    return Training(plain, 0, 0, none, nullptr, nullptr).size_;
  }

  void forward(const NxForward& tensors) {
    f_ = tensors;
    x_ = static_cast<const W*>(f_.x);
    out_ = static_cast<W*>(f_.y);
    mean_ = static_cast<W*>(f_.mean);
    stat_ = static_cast<W*>(f_.stat);
    marks_ = static_cast<W*>(f_.marks);
    const Phase first = {[this](int64_t g, int64_t p) { table_.first(norm_.kind, piece(g, p), seen(g, p)); },
                         [this](int64_t g) { each_channel(g, [&](int64_t c) { centre(g, c); }); }};
    const Phase second = {
        [this](int64_t g, int64_t p) { table_.second(norm_.kind, piece(g, p), known(g, p), seen(g, p)); },
        [this](int64_t g) { each_channel(g, [&](int64_t c) { deviation(g, c); }); }};
    const Phase apply = {[this](int64_t g, int64_t p) { table_.apply(piece(g, p), known(g, p), coefficients(g, p)); },
                         [](int64_t) {}};
    if (norm_.kind == NX_LINF || norm_.kind == NX_RANGE)
      run({first, apply});
    else
      run({first, second, apply});
  }

  void backward(const NxBackward& tensors) {
    b_ = tensors;
    x_ = static_cast<const W*>(b_.x);
    g_ = static_cast<const W*>(b_.grad_y);
    out_ = static_cast<W*>(b_.grad_x);
    // Read alone from here on.
    mean_ = const_cast<W*>(static_cast<const W*>(b_.mean));
    stat_ = const_cast<W*>(static_cast<const W*>(b_.stat));
    marks_ = const_cast<W*>(static_cast<const W*>(b_.marks));
    const Phase sums = {
        [this](int64_t g, int64_t p) { table_.gradient_sums(norm_.kind, piece(g, p), known(g, p), seen(g, p)); },
        [this](int64_t g) { each_channel(g, [&](int64_t c) { gradient(g, c); }); }};
    const Phase apply = {
        [this](int64_t g, int64_t p) { table_.gradient(norm_.kind, piece(g, p), known(g, p), coefficients(g, p)); },
        [](int64_t) {}};
    run({sums, apply});
  }

 private:
  // Group by group, so that a group's later passes find it in the cache; phase by phase where threads would starve.
  void run(std::initializer_list<Phase> phases) const {
    if (!threads_ || (!cut_.side_by_side && cut_.groups >= 4 * threads_->threads)) {
      parallel(threads_, cut_.groups, [&](int64_t group) {
        for (const Phase& phase : phases) {
          for (int64_t p = 0; p < cut_.pieces; ++p) phase.work(group, p);
          phase.finish(group);
        }
      });
      return;
    }
    for (const Phase& phase : phases) {
      parallel(threads_, cut_.groups * cut_.pieces, [&](int64_t i) { phase.work(i / cut_.pieces, i % cut_.pieces); });
      parallel(threads_, cut_.groups, phase.finish);
    }
  }

  template <class Each>
  void each_channel(int64_t group, Each each) const {
    const int64_t first = group * cut_.columns, end = std::min(first + cut_.columns, channels_);
    for (int64_t c = first; c < end; ++c) each(c);
  }

  Piece piece(int64_t group, int64_t index) const {
    const int64_t first = group * cut_.columns, begin = index * cut_.length;
    const int64_t place = cut_.side_by_side ? first : first * norm_.space;
    return {x_ + place,
            g_ ? g_ + place : nullptr,
            out_ + place,
            begin,
            std::min(begin + cut_.length, cut_.n),
            norm_.space,
            cut_.side_by_side ? channels_ : channels_ * norm_.space,
            cut_.side_by_side ? std::min(cut_.columns, channels_ - first) : 0,
            stream_};
  }

  Known known(int64_t group, int64_t index) const {
    const int64_t first = group * cut_.columns, rows = norm_.kind == NX_RANGE ? 2 * index : 0;
    const W* top = marks_ ? marks_ + rows * channels_ + first : nullptr;
    Collected* collected = collected_ ? collected_ + (group * cut_.pieces + index) * cut_.columns : nullptr;
    return {mean_ + first, top, norm_.kind == NX_RANGE ? top + channels_ : nullptr, collected};
  }

  Coefficients coefficients(int64_t group, int64_t index) const {
    const int64_t first = group * cut_.columns, row = (norm_.kind == NX_RANGE ? index : 0) * channels_ + first;
    return {slope_ + first, shift_ + first, worth_ + row, equal_ + row};
  }

  Seen* seen(int64_t group, int64_t piece) const { return seen_ + (group * cut_.pieces + piece) * cut_.columns; }
  const Seen& seen(int64_t group, int64_t piece, int64_t c) const { return seen(group, piece)[c % cut_.columns]; }

  double total(int64_t group, int64_t c, double Seen::* field) const {
    double sum = 0;
    for (int64_t p = 0; p < cut_.pieces; ++p) sum += seen(group, p, c).*field;
    return sum;
  }

  // Forward.

  // The mean of a channel, and what follows from its ends.
  void centre(int64_t group, int64_t c) {
    double mean = total(group, c, &Seen::sum) / double(cut_.n);
    if (norm_.kind != NX_L1 && norm_.kind != NX_L2) mean = within_ends(mean, group, c);
    mean_[c] = W(mean);
    if (norm_.kind == NX_LINF) largest(group, c);
    if (norm_.kind == NX_RANGE) spans(group, c);
    if (norm_.kind == NX_TOPK) begin_collecting(group, c);
  }

  // A sum of doubles is rounded; a constant's mean is the constant. NaN stays.
  double within_ends(double mean, int64_t group, int64_t c) const {
    double high = -HUGE_VAL, low = HUGE_VAL;
    for (int64_t p = 0; p < cut_.pieces; ++p) {
      high = std::max(high, seen(group, p, c).high);
      low = std::min(low, seen(group, p, c).low);
    }
    return mean > high ? high : mean < low ? low : mean;
  }

  // x less the mean, rounded as the passes round it.
  W deviation_of(double x, int64_t c) const { return W(x) - mean_[c]; }

  void largest(int64_t group, int64_t c) {
    W top = 0;
    for (int64_t p = 0; p < cut_.pieces; ++p)
      top = std::max({top, deviation_of(seen(group, p, c).high, c), -deviation_of(seen(group, p, c).low, c)});
    marks_[c] = top;
    settle(c, double(top));
  }

  void spans(int64_t group, int64_t c) {
    double sum = 0;
    for (int64_t p = 0; p < cut_.pieces; ++p) {
      const W top = deviation_of(seen(group, p, c).high, c), bottom = deviation_of(seen(group, p, c).low, c);
      marks_[2 * p * channels_ + c] = top;
      marks_[(2 * p + 1) * channels_ + c] = bottom;
      sum += double(top) - double(bottom);
    }
    settle(c, sum / double(cut_.pieces));
  }

  void begin_collecting(int64_t group, int64_t c) {
    const double bound = std::isfinite(mean_[c]) ? lower_bound(group, c) : HUGE_VAL;
    for (int64_t p = 0; p < cut_.pieces; ++p) {
      const int64_t at = (group * cut_.columns + c % cut_.columns) * cut_.pieces + p;
      known(group, p).collected[c % cut_.columns] = {values_ + at * slot_, 0, slot_ - kMaxLanes, norm_.k, bound};
    }
  }

  // At most the k-th largest |d|: of the ends of pieces, each an element of its own unless both are equal.
  double lower_bound(int64_t group, int64_t c) const {
    W sizes[2 * kBounding];
    int64_t count = 0;
    for (int64_t p = 0; p < std::min(cut_.pieces, kBounding); ++p) {
      const Seen& ends = seen(group, p, c);
      sizes[count++] = std::fabs(deviation_of(ends.high, c));
      if (ends.high > ends.low) sizes[count++] = std::fabs(deviation_of(ends.low, c));
    }
    return count < norm_.k ? -HUGE_VAL : double(kth_largest(sizes, count, norm_.k));
  }

  // The statistic of a channel from its second pass.
  void deviation(int64_t group, int64_t c) {
    if (norm_.kind == NX_TOPK) return mean_of_largest(group, c);
    const double mean = total(group, c, &Seen::sum) / double(cut_.n);
    settle(c, norm_.kind == NX_L2 ? std::max(std::sqrt(mean), kLeastSigma) : mean);
  }

  void mean_of_largest(int64_t group, int64_t c) {
    const int64_t lane = c % cut_.columns;
    double least = -HUGE_VAL;
    for (int64_t p = 0; p < cut_.pieces; ++p) least = std::max(least, known(group, p).collected[lane].threshold);
    W* values = static_cast<W*>(known(group, 0).collected[lane].values);
    int64_t count = 0;
    for (int64_t p = 0; p < cut_.pieces; ++p) {
      const Collected& from = known(group, p).collected[lane];
      for (int64_t i = 0; i < from.count; ++i) {
        const W value = static_cast<const W*>(from.values)[i];
        if (double(value) > least) values[count++] = value;
      }
    }
    const int64_t missing = std::max<int64_t>(norm_.k - count, 0);  // these are `least`
    double sum = sum_of_largest(values, count, norm_.k);
    if (missing) sum += double(missing) * least;
    marks_[c] = missing ? W(least) : W(kth_largest(values, count, norm_.k));
    settle(c, sum / double(norm_.k));
  }

  void settle(int64_t c, double plain) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const double stat = std::isfinite(mean_[c]) ? double(W(factor_ * plain)) : nan;
    stat_[c] = W(stat);
    slope_[c] = W(double(static_cast<const W*>(f_.scale)[c]) / (stat + epsilon_));
    shift_[c] = std::isfinite(mean_[c]) ? static_cast<const W*>(f_.bias)[c] : W(nan);
  }

  // Backward, with the letters of normexport/nn/ops/live_formula.py.

  void gradient(int64_t group, int64_t c) {
    const double scale = double(static_cast<const W*>(b_.scale)[c]), inverse = 1 / (double(stat_[c]) + epsilon_);
    const double sum = total(group, c, &Seen::sum), product = total(group, c, &Seen::product);
    const double worth = given(b_.grad_stat, c) - product * scale * inverse * inverse;
    const double owed = owe(group, c, worth);
    slope_[c] = W(scale * inverse);
    const double shift = (given(b_.grad_mean, c) - (sum * double(slope_[c]) + owed)) / double(cut_.n);
    // Where one element has a worth that is not finite, every sum has.
    shift_[c] = std::isfinite(worth) && std::isfinite(mean_[c]) ? W(shift) : std::numeric_limits<W>::quiet_NaN();
    static_cast<W*>(b_.grad_scale)[c] = W(product * inverse);
    static_cast<W*>(b_.grad_bias)[c] = W(sum);
  }

  static double given(const void* gradients, int64_t c) {
    return gradients ? double(static_cast<const W*>(gradients)[c]) : 0;
  }

  // The value as the passes will read it.
  static double put(W* place, double value) {
    *place = W(value);
    return double(*place);
  }

  // What each d owes; the sum of that over the channel.
  double owe(int64_t group, int64_t c, double worth) {
    auto sum = [&](double Seen::* field) { return total(group, c, field); };
    switch (norm_.kind) {
      case NX_L1: return sum(&Seen::side) * put(worth_ + c, worth * factor_ / double(cut_.n));
      case NX_L2: {
        const double sigma = std::max(double(stat_[c]) / factor_, kLeastSigma);
        return sum(&Seen::side) * put(worth_ + c, worth * factor_ / sigma / double(cut_.n));
      }
      case NX_LINF: return sum(&Seen::side) * put(equal_ + c, worth * factor_ / sum(&Seen::count));
      case NX_TOPK: {
        const double share = worth * factor_ / double(norm_.k);
        const double left = (double(norm_.k) - sum(&Seen::count)) / sum(&Seen::equal);
        const double above = sum(&Seen::side) * put(worth_ + c, share);
        return above + sum(&Seen::equal_side) * put(equal_ + c, share * left);
      }
      default: return owe_ends(group, c, worth * factor_ / double(cut_.pieces));
    }
  }

  double owe_ends(int64_t group, int64_t c, double share) {
    double owed = 0;
    for (int64_t p = 0; p < cut_.pieces; ++p) {
      const Seen& ends = seen(group, p, c);
      owed += ends.count * put(worth_ + p * channels_ + c, share / ends.count);
      owed -= ends.equal * put(equal_ + p * channels_ + c, share / ends.equal);
    }
    return owed;
  }

  // The workspace: what the pieces saw, coefficients, and what Top-k collects.
  void place(char* workspace) {
    const int64_t entries = cut_.groups * cut_.pieces * cut_.columns;
    const int64_t rows = norm_.kind == NX_RANGE ? cut_.pieces : 1;
    size_ = 0;
    auto take = [&](auto** array, int64_t count) {
      using Element = std::remove_pointer_t<std::remove_pointer_t<decltype(array)>>;
      *array = workspace ? reinterpret_cast<Element*>(workspace + size_) : nullptr;
      size_ += rounded(size_t(count) * sizeof(Element));
    };
    take(&seen_, entries);
    take(&slope_, channels_);
    take(&shift_, channels_);
    take(&worth_, rows * channels_);
    take(&equal_, rows * channels_);
    if (norm_.kind == NX_TOPK) {
      take(&collected_, entries);
      slot_ = std::min(2 * norm_.k + 32, std::max(norm_.k, std::min(cut_.length, cut_.n)) + 1) + kMaxLanes;
      take(&values_, entries * slot_);
    }
  }

  NxNorm norm_;
  Cut cut_;
  double epsilon_, factor_;
  const TrainingTable& table_;
  int64_t channels_;
  bool stream_;
  const NxThreads* threads_;
  size_t size_;
  NxForward f_{};
  NxBackward b_{};
  const W* x_ = nullptr;
  const W* g_ = nullptr;
  W* out_ = nullptr;
  W *mean_ = nullptr, *stat_ = nullptr, *marks_ = nullptr;
  Seen* seen_;
  W *slope_, *shift_, *worth_, *equal_, *values_ = nullptr;
  Collected* collected_ = nullptr;
  int64_t slot_ = 0;
};

}  // namespace nx::cpu
