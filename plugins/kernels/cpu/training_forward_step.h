// A training step's forward: statistics of each channel from what the passes saw of its pieces, and y.
#pragma once

#include <cmath>
#include <limits>

#include "training_step.h"

namespace nx::cpu {

// Pieces whose ends bound the k-th largest from below.
constexpr int64_t kBounding = 64;

template <class W>
class ForwardStep : private TrainingStep<W> {
  using Step = TrainingStep<W>;
  using Step::channels_;
  using Step::coefficients;
  using Step::cut_;
  using Step::each_channel;
  using Step::epsilon_;
  using Step::factor_;
  using Step::known;
  using Step::marks_;
  using Step::mean_;
  using Step::norm_;
  using Step::piece;
  using Step::seen;
  using Step::shift_;
  using Step::slope_;
  using Step::slot_;
  using Step::stat_;
  using Step::table_;
  using Step::total;
  using Step::values_;

 public:
  ForwardStep(const NxNorm& norm, const NxForward& tensors, const TrainingTable& table, void* workspace,
              const NxThreads* threads)
      : Step(norm, tensors, table, workspace, threads), f_(tensors) {}

  void run() {
    const Phase first = {[this](int64_t g, int64_t p) { table_.first(norm_.kind, piece(g, p), seen(g, p)); },
                         [this](int64_t g) { each_channel(g, [&](int64_t c) { centre(g, c); }); }};
    const Phase second = {
        [this](int64_t g, int64_t p) { table_.second(norm_.kind, piece(g, p), known(g, p), seen(g, p)); },
        [this](int64_t g) { each_channel(g, [&](int64_t c) { deviation(g, c); }); }};
    const Phase apply = {[this](int64_t g, int64_t p) { table_.apply(piece(g, p), known(g, p), coefficients(g, p)); },
                         [](int64_t) {}};
    if (norm_.kind == NX_LINF || norm_.kind == NX_RANGE)
      this->go_over({first, apply});
    else
      this->go_over({first, second, apply});
  }

 private:
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

  const NxForward f_;
};

}  // namespace nx::cpu
