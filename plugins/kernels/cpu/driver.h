// How a norm is computed: tile by tile where threads can share the statistics out among themselves, else part by part.
// A method (float_method.h, byte_method.h) says what; both ways combine the same parts in the same order.
#pragma once

#include "geometry.h"
#include "table.h"

namespace nx::cpu {

// What a task reads should stay in half of a second-level cache of 1 MiB: this much, and as much of the next tile.
// Of 96 to 384 KiB, 256 was as good as any on all shapes measured.
constexpr int64_t kTileBytes = 256 << 10;
// Shorter runs than this of contiguous memory are not worth a tile of their own.
constexpr int64_t kRunBytes = 4 << 10;
// One statistic of more bytes than this is split over threads even where there are statistics enough for all.
constexpr int64_t kSplitBytes = 2 << 20;
// Results smaller than this are written through the caches: the next reader finds them there. Larger ones are written
// past them, which saves reading every line first: 1.5 times the time otherwise.
constexpr int64_t kStreamBytes = 512 << 10;
// Norms smaller than this stay on the calling thread.
constexpr int64_t kSerialBytes = 64 << 10;
// Statistics whose parts are in flight at once, and tasks that need a buffer of their own.
constexpr int64_t kWave = 64, kTasks = 256;

inline size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

template <class Task>
void parallel(const NxThreads* threads, int64_t count, Task task) {
  if (!threads || count == 1) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  threads->run(threads->context, count, [](void* data, int64_t i) { (*static_cast<Task*>(data))(i); }, &task);
}

template <class Method>
class Driver {
 public:
  using First = typename Method::First;
  using Second = typename Method::Second;
  using Affine = typename Method::Affine;
  using Center = typename Method::Center;
  using Divisor = typename Method::Divisor;

  Driver(const Method& method, const NxNorm& norm, const Geometry& geometry, const void* x, void* y, void* workspace,
         const NxThreads* threads)
      : method_(method),
        g_(geometry),
        x_(static_cast<const char*>(x)),
        y_(static_cast<char*>(y)),
        workspace_(static_cast<char*>(workspace)),
        group_capacity_(Method::capacity(norm, g_.n)),
        part_capacity_(Method::capacity(norm, g_.part_elements())),
        stream_(x != y && g_.groups * g_.group_bytes() >= kStreamBytes),
        threads_(threads && threads->threads > 1 && g_.groups * g_.group_bytes() >= kSerialBytes ? threads : nullptr) {}

  static size_t workspace(const NxNorm& norm, const Geometry& g) {
    size_t tiled = rounded(size_t(std::min(g.groups, kTasks) * Method::capacity(norm, g.n)) * Method::kElement);
    return std::max(tiled, g.parts > 1 ? split_bytes(norm, g, std::min(g.groups, kWave)) : 0);
  }

  void run() const {
    const bool few = g_.groups < 4 * int64_t(threads_ ? threads_->threads : 0);
    const bool shared = threads_ && g_.parts > 1 && (few || g_.group_bytes() > kSplitBytes);
    if (shared)
      split();
    else
      tiles();
  }

 private:
  // What the elements of a group share.
  struct Statistic {
    Center center;    // where their mean lies
    Divisor divisor;  // of their deviations
  };

  static size_t split_bytes(const NxNorm& norm, const Geometry& g, int64_t wave) {
    const size_t parts = size_t(wave * g.parts);
    return rounded(parts * sizeof(First)) + rounded(parts * sizeof(Second)) +
           parts * size_t(Method::capacity(norm, g.part_elements())) * Method::kElement;
  }

  const char* x_of(int64_t group) const { return x_ + g_.base(group, g_.x_stride) * g_.size; }
  char* y_of(int64_t group) const { return y_ + g_.base(group, g_.y_stride) * g_.size; }

  Stretch stretch(int64_t group, const Part& part, Fetch fetch = {0, Fetch::kAll}) const {
    const char* x = x_of(group) + (part.row * g_.x_stride + part.offset) * g_.size;
    return {x, part.rows, part.length, g_.x_stride, fetch};
  }

  // Tiles: some adjacent groups, all passes over them one after the other, so that x comes from memory once.

  int64_t tile_groups() const {
    const int64_t run_bytes = std::min(kRunBytes, 4 * kTileBytes / g_.runs), least = run_bytes / (g_.space * g_.size);
    int64_t tile = kTileBytes / g_.group_bytes();
    if (threads_) tile = std::min(tile, g_.groups / (4 * threads_->threads));
    return std::min({std::max<int64_t>({tile, least, 1}), g_.channels, Method::kMaxChannels});
  }

  void tiles() const {
    const int64_t tile = tile_groups();
    const int64_t per_sample = (g_.channels + tile - 1) / tile, count = g_.groups / g_.channels * per_sample;
    const int64_t tasks = std::min({count, kTasks, threads_ ? 4 * int64_t(threads_->threads) : int64_t(1)});
    parallel(threads_, tasks, [&](int64_t task) {
      const int64_t end = (task + 1) * count / tasks;
      auto start = [&](int64_t i) { return i / per_sample * g_.channels + i % per_sample * tile; };
      for (int64_t i = task * count / tasks; i < end; ++i) {
        const int64_t first = start(i), groups = std::min(tile, g_.channels - i % per_sample * tile);
        const bool worth = i + 1 < end && groups * g_.group_bytes() <= 2 * kTileBytes;
        one_tile(first, groups, worth ? x_of(start(i + 1)) - x_of(first) : 0, task);
      }
    });
  }

  void one_tile(int64_t first, int64_t groups, ptrdiff_t ahead, int64_t task) const {
    Affine channels[Method::kMaxChannels];
    void* buffer = workspace_ + task * group_capacity_ * Method::kElement;
    for (int64_t i = 0; i < groups; ++i) {
      const Statistic found = one_group(first + i, ahead, buffer);
      if (g_.members > 1)
        apply_members(first + i, 0, g_.space, found);
      else
        channels[i] = method_.affine(found.center, found.divisor, (first + i) % g_.channels);
    }
    if (g_.members > 1) return;
    method_.apply({x_of(first), y_of(first), g_.runs, g_.x_stride, g_.y_stride, groups, g_.space, stream_}, channels);
  }

  Statistic one_group(int64_t group, ptrdiff_t ahead, void* buffer) const {
    const Fetch one{ahead, method_.passes() == 2 ? Fetch::kFirstHalf : Fetch::kAll}, two{ahead, Fetch::kSecondHalf};
    First all;
    method_.first(stretch(group, g_.part(0), one), 0, &all);
    for (int64_t i = 1; i < g_.parts; ++i) {
      First next;
      const Part part = g_.part(i);
      method_.first(stretch(group, part, one), part.start, &next);
      method_.merge(&all, next);
    }
    Center center;
    Second second;
    Method::begin(&second, buffer, group_capacity_);
    if (method_.second_needed(all, &center, &second))
      for (int64_t i = 0; i < g_.parts; ++i) method_.second(stretch(group, g_.part(i), two), center, &second);
    return {center, method_.divisor(all, center, &second)};
  }

  // y of `length` elements of a group of several channels, from `offset` on: cut at the channels.
  void apply_members(int64_t group, int64_t offset, int64_t length, const Statistic& found) const {
    const int64_t space = g_.space / g_.members, first = group % g_.channels * g_.members, end = offset + length;
    const char* x = x_of(group);
    char* y = y_of(group);
    if (space == 1) {
      method_.each(x + offset * g_.size, y + offset * g_.size, length, first + offset, found.center, found.divisor);
      return;
    }
    Affine channels[Method::kMaxChannels];
    for (int64_t at = offset; at < end;) {
      const int64_t member = at / space, left = std::min(end, (member + 1) * space) - at;
      const int64_t whole = at % space ? 0 : std::min((end - at) / space, Method::kMaxChannels);
      const int64_t count = std::max<int64_t>(whole, 1), each = whole ? space : left;
      for (int64_t i = 0; i < count; ++i) channels[i] = method_.affine(found.center, found.divisor, first + member + i);
      method_.apply({x + at * g_.size, y + at * g_.size, 1, 0, 0, count, each, stream_}, channels);
      at += count * each;
    }
  }

  // Split: every pass is a parallel loop over the parts of a wave of groups.

  void split() const {
    const int64_t fitting = std::max<int64_t>(1, threads_->threads * 2 * kTileBytes / g_.group_bytes());
    const int64_t wave = std::min({g_.groups, kWave, fitting});
    for (int64_t first = 0; first < g_.groups; first += wave) one_wave(first, std::min(wave, g_.groups - first));
  }

  void one_wave(int64_t group, int64_t groups) const {
    const size_t parts = size_t(groups * g_.parts);
    auto* firsts = reinterpret_cast<First*>(workspace_);
    auto* seconds = reinterpret_cast<Second*>(workspace_ + rounded(parts * sizeof(First)));
    char* buffers = reinterpret_cast<char*>(seconds) + rounded(parts * sizeof(Second));
    parallel(threads_, int64_t(parts), [&](int64_t i) {
      const Part part = g_.part(i % g_.parts);
      method_.first(stretch(group + i / g_.parts, part), part.start, firsts + i);
      Method::begin(seconds + i, buffers + i * part_capacity_ * Method::kElement, part_capacity_);
    });
    Center centers[kWave];
    Divisor divisors[kWave];
    bool again = false;
    for (int64_t i = 0; i < groups; ++i) again |= center(firsts + i * g_.parts, centers + i, seconds + i * g_.parts);
    if (again)
      parallel(threads_, int64_t(parts), [&](int64_t i) {
        method_.second(stretch(group + i / g_.parts, g_.part(i % g_.parts)), centers[i / g_.parts], seconds + i);
      });
    for (int64_t i = 0; i < groups; ++i) {
      Second* all = seconds + i * g_.parts;
      for (int64_t k = 1; k < g_.parts; ++k) method_.merge(all, all[k]);
      divisors[i] = method_.divisor(firsts[i * g_.parts], centers[i], all);
    }
    parallel(threads_, int64_t(parts), [&](int64_t i) {
      const int64_t of = i / g_.parts;
      apply(group + of, i % g_.parts, {centers[of], divisors[of]});
    });
  }

  // The centre of one group from its parts; whether it needs the second pass.
  bool center(First* firsts, Center* center, Second* seconds) const {
    for (int64_t k = 1; k < g_.parts; ++k) method_.merge(firsts, firsts[k]);
    bool again = method_.second_needed(*firsts, center, seconds);
    for (int64_t k = 1; k < g_.parts; ++k) Method::share_bound(seconds[0], seconds + k);
    return again;
  }

  void apply(int64_t group, int64_t index, const Statistic& found) const {
    const Part part = g_.part(index);
    if (g_.members > 1) return apply_members(group, part.offset, part.length, found);
    const Affine channel = method_.affine(found.center, found.divisor, group % g_.channels);
    char* y = y_of(group) + (part.row * g_.y_stride + part.offset) * g_.size;
    const char* x = static_cast<const char*>(stretch(group, part).x);
    method_.apply({x, y, part.rows, g_.x_stride, g_.y_stride, 1, part.length, stream_}, &channel);
  }

  const Method& method_;
  const Geometry& g_;
  const char* x_;
  char* y_;
  char* workspace_;
  int64_t group_capacity_, part_capacity_;
  bool stream_;
  const NxThreads* threads_;
};

}  // namespace nx::cpu
