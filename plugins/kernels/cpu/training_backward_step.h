// A training step's backward, with the letters of normexport/nn/ops/live_formula.py.
#pragma once

#include <cmath>
#include <limits>

#include "training_step.h"

namespace nx::cpu {

template <class W>
class BackwardStep : private TrainingStep<W> {
  using Step = TrainingStep<W>;
  using Step::channels_;
  using Step::coefficients;
  using Step::cut_;
  using Step::each_channel;
  using Step::epsilon_;
  using Step::equal_;
  using Step::factor_;
  using Step::known;
  using Step::mean_;
  using Step::norm_;
  using Step::piece;
  using Step::seen;
  using Step::shift_;
  using Step::slope_;
  using Step::stat_;
  using Step::table_;
  using Step::total;
  using Step::worth_;

 public:
  BackwardStep(const NxNorm& norm, const NxBackward& tensors, const TrainingTable& table, void* workspace,
               const NxThreads* threads)
      : Step(norm, tensors, table, workspace, threads), b_(tensors) {}

  void run() {
    const Phase sums = {
        [this](int64_t g, int64_t p) { table_.gradient_sums(norm_.kind, piece(g, p), known(g, p), seen(g, p)); },
        [this](int64_t g) { each_channel(g, [&](int64_t c) { gradient(g, c); }); }};
    const Phase apply = {
        [this](int64_t g, int64_t p) { table_.gradient(norm_.kind, piece(g, p), known(g, p), coefficients(g, p)); },
        [](int64_t) {}};
    this->go_over({sums, apply});
  }

 private:
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

  const NxBackward b_;
};

}  // namespace nx::cpu
