// Last pass over floats: y = (x - mean) * slope + shift, one multiply-add after an (often exact) difference. Part of
// target.cpp.
#pragma once

#include "vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {

template <class T>
class Map {
 public:
  using V = Vector<T>;

  explicit Map(const FloatAffine& to)
      : mean_(hn::Set(Tag<T>(), Work(to.mean))),
        slope_(hn::Set(Tag<T>(), Work(to.slope))),
        shift_(hn::Set(Tag<T>(), Work(to.shift))) {}

  // The lanes of `which` by one map, the others by another.
  Map(Mask<T> which, const Map& yes, const Map& no)
      : mean_(hn::IfThenElse(which, yes.mean_, no.mean_)),
        slope_(hn::IfThenElse(which, yes.slope_, no.slope_)),
        shift_(hn::IfThenElse(which, yes.shift_, no.shift_)) {}

  HWY_INLINE V operator()(V x) const { return hn::MulAdd(hn::Sub(x, mean_), slope_, shift_); }

 private:
  using Work = typename Element<T>::Work;
  V mean_, slope_, shift_;
};

template <class T>
void apply_plain(const T* x, T* y, const Rows& rows, const FloatAffine* channels) {
  const int64_t n = int64_t(hn::Lanes(Tag<T>()));
  for (int64_t c = 0; c < rows.channels; ++c, x += rows.space, y += rows.space) {
    const Map<T> map(channels[c]);
    int64_t i = 0;
    for (; i + n <= rows.space; i += n) store(map(load(x + i)), y + i);
    if (i < rows.space) store_some(map(load_some(x + i, size_t(rows.space - i))), y + i, size_t(rows.space - i));
  }
}

// One row, written in whole vectors past the caches: a vector that straddles two channels is computed with the
// parameters of both, so that no cache line is written in two pieces. space >= one vector.
template <class T>
void apply_stream(const T* x, T* y, const Rows& rows, const FloatAffine* channels) {
  const Tag<T> d;
  const int64_t n = int64_t(hn::Lanes(d)), bytes = n * int64_t(sizeof(T));
  Map<T> map(channels[0]);
  int64_t at = int64_t(-reinterpret_cast<uintptr_t>(y) & uintptr_t(bytes - 1)) / int64_t(sizeof(T));
  if (at) store_some(map(load_some(x, size_t(at))), y, size_t(at));
  for (int64_t c = 0, end = rows.space;; ++c, end += rows.space) {
    for (; at + n <= end; at += n) stream(map(load(x + at)), y + at);
    const size_t rest = size_t(end - at);
    if (c + 1 == rows.channels) {
      if (rest) store_some(map(load_some(x + at, rest)), y + at, rest);
      return;
    }
    const Map<T> next(channels[c + 1]);
    if (rest) {
      stream(Map<T>(hn::FirstN(d, rest), map, next)(load(x + at)), y + at);
      at += n;
    }
    map = next;
  }
}

// Elements each of a channel of its own: y = ((x - mean) - low) * scale/divisor + bias.
template <class T>
void float_each(const Each& elements, const Center& center, double divisor) {
  using Work = typename Element<T>::Work;
  const Tag<T> d;
  const int64_t n = int64_t(hn::Lanes(d));
  const auto mean = hn::Set(d, Work(center.high)), low = hn::Set(d, Work(center.low)), by = hn::Set(d, Work(divisor));
  const T* x = static_cast<const T*>(elements.x);
  T* y = static_cast<T*>(elements.y);
  const auto* scale = static_cast<const Work*>(elements.scale);
  const auto* bias = static_cast<const Work*>(elements.bias);
  auto map = [&](Vector<T> v, Vector<T> s, Vector<T> b) {
    return hn::MulAdd(hn::Sub(hn::Sub(v, mean), low), hn::Div(s, by), b);
  };
  int64_t i = 0;
  for (; i + n <= elements.count; i += n)
    store(map(load(x + i), hn::LoadU(d, scale + i), hn::LoadU(d, bias + i)), y + i);
  if (i == elements.count) return;
  const size_t rest = size_t(elements.count - i);
  store_some(map(load_some(x + i, rest), hn::LoadN(d, scale + i, rest), hn::LoadN(d, bias + i, rest)), y + i, rest);
}

template <class T>
void float_apply(const Rows& rows, const FloatAffine* channels) {
  const int64_t n = int64_t(hn::Lanes(Tag<T>()));
  // No instruction writes less than 16 bytes past the caches.
  const bool streamed = rows.stream && rows.space >= n && n * int64_t(sizeof(T)) >= 16;
  for (int64_t row = 0; row < rows.rows; ++row) {
    const T* x = static_cast<const T*>(rows.x) + row * rows.x_stride;
    T* y = static_cast<T*>(rows.y) + row * rows.y_stride;
    streamed ? apply_stream(x, y, rows, channels) : apply_plain(x, y, rows, channels);
  }
  if (streamed) hwy::FlushStream();
}

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
