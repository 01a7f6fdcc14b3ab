// A training step: how a tensor is cut into pieces, in what order they are gone over, and where what was seen is kept.
//
// A channel is cut into pieces, and sums are taken of pieces in their order, so that results depend neither on threads
// nor on the run. Channels side by side (NX_HWC) are taken kColumnBytes at a time.
#pragma once

#include <functional>
#include <initializer_list>

#include "driver.h"
#include "norm.h"
#include "table.h"

namespace nx::cpu {

// Elements of a piece of one channel: 128 KiB of floats. Rows of a piece of channels side by side.
constexpr int64_t kPieceElements = 32 << 10, kPieceRows = 2 << 10;

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
class TrainingStep {
 public:
  static size_t workspace(const NxNorm& norm) {
    static const TrainingTable none{};
    return TrainingStep(norm, NxForward{}, none, nullptr, nullptr).size_;
  }

 protected:
  TrainingStep(const NxNorm& norm, const NxForward& t, const TrainingTable& table, void* workspace,
               const NxThreads* threads)
      : TrainingStep(norm, t, nullptr, t.y, table, workspace, threads) {}

  TrainingStep(const NxNorm& norm, const NxBackward& t, const TrainingTable& table, void* workspace,
               const NxThreads* threads)
      : TrainingStep(norm, t, t.grad_y, t.grad_x, table, workspace, threads) {}

  // Group by group, so that a group's later passes find it in the cache; phase by phase where threads would starve.
  // Every other phase goes from the last piece to the first: what it begins with was read last, and is still cached.
  void go_over(std::initializer_list<Phase> phases) const {
    if (!threads_ || (!cut_.side_by_side && cut_.groups >= 4 * threads_->threads)) {
      parallel(threads_, cut_.groups, [&](int64_t group) {
        bool back = false;
        for (const Phase& phase : phases) {
          for (int64_t p = 0; p < cut_.pieces; ++p) phase.work(group, back ? cut_.pieces - 1 - p : p);
          phase.finish(group);
          back = !back;
        }
      });
      return;
    }
    const int64_t count = cut_.groups * cut_.pieces;
    bool back = false;
    for (const Phase& phase : phases) {
      parallel(threads_, count, [&](int64_t task) {
        const int64_t i = back ? count - 1 - task : task;
        phase.work(i / cut_.pieces, i % cut_.pieces);
      });
      parallel(threads_, cut_.groups, phase.finish);
      back = !back;
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
  const W *x_, *g_;
  W *out_, *mean_, *stat_, *marks_;
  Seen* seen_;
  W *slope_, *shift_, *worth_, *equal_, *values_ = nullptr;
  Collected* collected_ = nullptr;
  int64_t slot_ = 0;

 private:
  // Either direction's tensors by the names that both have; backward writes none of mean, stat and marks.
  template <class Tensors>
  TrainingStep(const NxNorm& norm, const Tensors& t, const void* g, void* out, const TrainingTable& table,
               void* workspace, const NxThreads* threads)
      : norm_(norm),
        cut_(norm, sizeof(W)),
        epsilon_(t.epsilon),
        factor_(t.correction),
        table_(table),
        channels_(norm.channels),
        x_(static_cast<const W*>(t.x)),
        g_(static_cast<const W*>(g)),
        out_(static_cast<W*>(out)),
        mean_(static_cast<W*>(const_cast<void*>(t.mean))),
        stat_(static_cast<W*>(const_cast<void*>(t.stat))),
        marks_(static_cast<W*>(const_cast<void*>(t.marks))) {
    norm_.correction = 0;
    if (factor_ == 0) factor_ = factor(norm_);
    const int64_t bytes = cut_.n * channels_ * int64_t(sizeof(W));
    stream_ = bytes >= kStreamBytes;
    threads_ = bytes >= kSerialBytes ? threads : nullptr;
    place(static_cast<char*>(workspace));
  }
};

}  // namespace nx::cpu
