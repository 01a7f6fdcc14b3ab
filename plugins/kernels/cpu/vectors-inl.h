// Vectors of any element type as vectors of the working precision: float, or double for double. Part of target.cpp,
// like every -inl.h: all of it lies in an unnamed namespace, so that nothing compiled for one instruction set can be
// merged with the same function compiled for another.
#pragma once

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "table.h"

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
struct Element {
  using Work = float;
  using Tag = hn::ScalableTag<float>;
};
template <>
struct Element<double> {
  using Work = double;
  using Tag = hn::ScalableTag<double>;
};

template <class T>
using Tag = typename Element<T>::Tag;
template <class T>
using Vector = hn::Vec<Tag<T>>;
template <class T>
using Mask = hn::Mask<Tag<T>>;
using DoubleTag = hn::ScalableTag<double>;
using DoubleVector = hn::Vec<DoubleTag>;

template <class T>
constexpr bool kWhole = sizeof(T) >= 4;  // stored in its working precision

template <class T>
HWY_INLINE Vector<T> load(const T* x) {
  const Tag<T> d;
  if constexpr (kWhole<T>) {
    return hn::LoadU(d, x);
  } else {
    const hn::Rebind<T, Tag<T>> narrow;
    const hn::Rebind<uint16_t, Tag<T>> bits;
    return hn::PromoteTo(d, hn::BitCast(narrow, hn::LoadU(bits, reinterpret_cast<const uint16_t*>(x))));
  }
}

// The first `count` elements, then zeros.
template <class T>
HWY_INLINE Vector<T> load_some(const T* x, size_t count) {
  const Tag<T> d;
  if constexpr (kWhole<T>) {
    return hn::LoadN(d, x, count);
  } else {
    const hn::Rebind<T, Tag<T>> narrow;
    const hn::Rebind<uint16_t, Tag<T>> bits;
    return hn::PromoteTo(d, hn::BitCast(narrow, hn::LoadN(bits, reinterpret_cast<const uint16_t*>(x), count)));
  }
}

// To nearest, ties to even; too large becomes infinite.
template <class T>
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, Tag<T>>> narrowed(Vector<T> v) {
  const hn::Rebind<T, Tag<T>> narrow;
  const hn::Rebind<uint16_t, Tag<T>> bits;
  return hn::BitCast(bits, hn::DemoteTo(narrow, v));
}

template <class T>
HWY_INLINE void store(Vector<T> v, T* y) {
  if constexpr (kWhole<T>) {
    hn::StoreU(v, Tag<T>(), y);
  } else {
    hn::StoreU(narrowed<T>(v), hn::Rebind<uint16_t, Tag<T>>(), reinterpret_cast<uint16_t*>(y));
  }
}

template <class T>
HWY_INLINE void store_some(Vector<T> v, T* y, size_t count) {
  if constexpr (kWhole<T>) {
    hn::StoreN(v, Tag<T>(), y, count);
  } else {
    hn::StoreN(narrowed<T>(v), hn::Rebind<uint16_t, Tag<T>>(), reinterpret_cast<uint16_t*>(y), count);
  }
}

// y aligned to the bytes that are written.
template <class T>
HWY_INLINE void stream(Vector<T> v, T* y) {
  if constexpr (kWhole<T>) {
    hn::Stream(v, Tag<T>(), y);
  } else {
    hn::Stream(narrowed<T>(v), hn::Rebind<uint16_t, Tag<T>>(), reinterpret_cast<uint16_t*>(y));
  }
}

// Both halves of v in double, added to each other and to sum.
template <class V>
HWY_INLINE DoubleVector add_wide(DoubleVector sum, V v) {
  if constexpr (sizeof(hn::TFromV<V>) == 8) {
    return hn::Add(sum, v);
  } else {
    const DoubleTag d;
    return hn::Add(sum, hn::Add(hn::PromoteLowerTo(d, v), hn::PromoteUpperTo(d, v)));
  }
}

// Fetches this pass's share of what lies ahead of x into the second-level cache.
HWY_INLINE void fetch(const void* x, const Fetch& what, int64_t bytes) {
  if (!what.ahead) return;
  const char* next = static_cast<const char*>(x) + what.ahead;
  const int64_t half = bytes / 128 * 64;
  const int64_t end = what.share == Fetch::kFirstHalf ? half : bytes;
  for (int64_t i = what.share == Fetch::kSecondHalf ? half : 0; i < end; i += 64) __builtin_prefetch(next + i, 0, 2);
}

// Hands a row to the body: four vectors at a time, then one, then the rest with its number of lanes.
template <class T, class Body>
HWY_INLINE void scan(const T* x, int64_t length, const Fetch& next, Body& body) {
  const int64_t n = int64_t(hn::Lanes(Tag<T>()));
  int64_t i = 0;
  for (; i + 4 * n <= length; i += 4 * n) {
    fetch(x + i, next, 4 * n * int64_t(sizeof(T)));
    body.four(load(x + i), load(x + i + n), load(x + i + 2 * n), load(x + i + 3 * n));
  }
  fetch(x + i, next, (length - i) * int64_t(sizeof(T)));
  for (; i + n <= length; i += n) body.one(load(x + i));
  if (i < length) body.some(load_some(x + i, size_t(length - i)), hn::FirstN(Tag<T>(), size_t(length - i)));
}

template <class T, class Body>
HWY_INLINE void scan_rows(const Stretch& part, Body& body) {
  for (int64_t row = 0; row < part.rows; ++row)
    scan(static_cast<const T*>(part.x) + row * part.stride, part.length, part.fetch, body);
}

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
