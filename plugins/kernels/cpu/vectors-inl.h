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

#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX2  // no instruction for float16, and Highway's stand-in knows no infinity

using WordTag = hn::RebindToUnsigned<hn::ScalableTag<float>>;
using Words = hn::Vec<WordTag>;

HWY_INLINE Vector<float> promoted(hn::Vec<hn::Rebind<uint16_t, WordTag>> half) {
  const WordTag d;
  const hn::ScalableTag<float> f;
  Words bits = hn::PromoteTo(d, half);
  Words size = hn::ShiftLeft<13>(hn::And(bits, hn::Set(d, 0x7FFF)));
  // As a float, `size` is the value times 2^-112, denormals included; all ones in the exponent are to stay all ones.
  Words value = hn::BitCast(d, hn::Mul(hn::BitCast(f, size), hn::Set(f, 0x1p112f)));
  Words top = hn::And(hn::VecFromMask(d, hn::Ge(size, hn::Set(d, 0x7C00u << 13))), hn::Set(d, 0x7F800000));
  return hn::BitCast(f, hn::Or(hn::Or(value, top), hn::ShiftLeft<16>(hn::And(bits, hn::Set(d, 0x8000)))));
}

HWY_INLINE hn::Vec<hn::Rebind<uint16_t, WordTag>> demoted(Vector<float> v) {
  const WordTag d;
  const hn::ScalableTag<float> f;
  Words bits = hn::BitCast(d, v), sign = hn::And(bits, hn::Set(d, 0x80000000)), size = hn::Xor(bits, sign);
  // Normal: the exponent moved, and the 13 bits that go rounded to even. Denormal: adding 0.5 rounds there.
  Words odd = hn::And(hn::ShiftRight<13>(size), hn::Set(d, 1));
  Words normal = hn::ShiftRight<13>(hn::Add(hn::Add(size, hn::Set(d, 0xC8000FFF)), odd));
  Vector<float> sum = hn::Add(hn::BitCast(f, size), hn::Set(f, 0.5f));
  Words small = hn::Sub(hn::BitCast(d, sum), hn::Set(d, 0x3F000000));
  Words large = hn::IfThenElse(hn::Gt(size, hn::Set(d, 0x7F800000)), hn::Set(d, 0x7E00), hn::Set(d, 0x7C00));
  Words result = hn::IfThenElse(hn::Lt(size, hn::Set(d, 0x38800000)), small, normal);
  result = hn::IfThenElse(hn::Ge(size, hn::Set(d, 0x47800000)), large, result);
  return hn::TruncateTo(hn::Rebind<uint16_t, WordTag>(), hn::Or(result, hn::ShiftRight<16>(sign)));
}

#else

template <class V>
HWY_INLINE Vector<float> promoted(V half) {
  const hn::ScalableTag<float> f;
  return hn::PromoteTo(f, hn::BitCast(hn::Rebind<hwy::float16_t, decltype(f)>(), half));
}

template <class V>
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, hn::ScalableTag<float>>> demoted(V v) {
  const hn::ScalableTag<float> f;
  return hn::BitCast(hn::Rebind<uint16_t, decltype(f)>(), hn::DemoteTo(hn::Rebind<hwy::float16_t, decltype(f)>(), v));
}

#endif

// From 16 bits and to them: to nearest, ties to even; too large becomes infinite.
template <class T>
HWY_INLINE Vector<T> widened(hn::Vec<hn::Rebind<uint16_t, Tag<T>>> bits) {
  if constexpr (hwy::IsSame<T, hwy::float16_t>()) {
    return promoted(bits);
  } else {
    return hn::PromoteTo(Tag<T>(), hn::BitCast(hn::Rebind<T, Tag<T>>(), bits));
  }
}

template <class T>
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, Tag<T>>> narrowed(Vector<T> v) {
  if constexpr (hwy::IsSame<T, hwy::float16_t>()) {
    return demoted(v);
  } else {
    return hn::BitCast(hn::Rebind<uint16_t, Tag<T>>(), hn::DemoteTo(hn::Rebind<T, Tag<T>>(), v));
  }
}

template <class T>
HWY_INLINE Vector<T> load(const T* x) {
  if constexpr (kWhole<T>) {
    return hn::LoadU(Tag<T>(), x);
  } else {
    return widened<T>(hn::LoadU(hn::Rebind<uint16_t, Tag<T>>(), reinterpret_cast<const uint16_t*>(x)));
  }
}

// The first `count` elements, then zeros.
template <class T>
HWY_INLINE Vector<T> load_some(const T* x, size_t count) {
  if constexpr (kWhole<T>) {
    return hn::LoadN(Tag<T>(), x, count);
  } else {
    return widened<T>(hn::LoadN(hn::Rebind<uint16_t, Tag<T>>(), reinterpret_cast<const uint16_t*>(x), count));
  }
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
