// Last pass over int8: ((q - pivot) + shift) * slope + bias in float32, every operation rounded, then to nearest even.
// A channel has at most 256 results: where the instruction set looks up 256 bytes at once, they are computed once.
// Part of target.cpp.
#pragma once

#include "byte_first-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {

using FloatTag = hn::ScalableTag<float>;
using QuarterTag = hn::Rebind<int8_t, FloatTag>;

class ByteMap {
 public:
  explicit ByteMap(const ByteAffine& to)
      : pivot_(hn::Set(FloatTag(), to.pivot)),
        shift_(hn::Set(FloatTag(), to.shift)),
        slope_(hn::Set(FloatTag(), to.slope)),
        bias_(hn::Set(FloatTag(), to.bias)) {}

  // The mean of `to`, and a slope and a bias for each lane.
  ByteMap(const ByteAffine& to, Vector<float> slope, Vector<float> bias) : ByteMap(to) {
    slope_ = slope;
    bias_ = bias;
  }

  HWY_INLINE hn::Vec<QuarterTag> operator()(hn::Vec<QuarterTag> q) const {
    const FloatTag d;
    const hn::RebindToSigned<FloatTag> whole;
    auto x = hn::Sub(hn::ConvertTo(d, hn::PromoteTo(whole, q)), pivot_);
    auto y = hn::Add(hn::Mul(hn::Add(x, shift_), slope_), bias_);
    y = hn::IfThenZeroElse(hn::IsNaN(y), y);
    y = hn::Min(hn::Max(y, hn::Set(d, -128.0f)), hn::Set(d, 127.0f));
    return hn::DemoteTo(QuarterTag(), hn::NearestInt(y));
  }

 private:
  hn::Vec<FloatTag> pivot_, shift_, slope_, bias_;
};

inline void map_bytes(const ByteAffine& to, const int8_t* x, int8_t* y, int64_t count) {
  const QuarterTag d;
  const ByteMap map(to);
  const int64_t n = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + n <= count; i += n) hn::StoreU(map(hn::LoadU(d, x + i)), d, y + i);
  if (i < count) hn::StoreN(map(hn::LoadN(d, x + i, size_t(count - i))), d, y + i, size_t(count - i));
}

// Elements each of a channel of its own.
inline void byte_each(const Each& elements, const ByteAffine& mean, float divisor) {
  const QuarterTag d;
  const FloatTag f;
  const int64_t n = int64_t(hn::Lanes(d));
  const auto by = hn::Set(f, divisor);
  const auto* x = static_cast<const int8_t*>(elements.x);
  auto* y = static_cast<int8_t*>(elements.y);
  const auto* scale = static_cast<const float*>(elements.scale);
  const auto* bias = static_cast<const float*>(elements.bias);
  int64_t i = 0;
  for (; i + n <= elements.count; i += n) {
    const ByteMap map(mean, hn::Div(hn::LoadU(f, scale + i), by), hn::LoadU(f, bias + i));
    hn::StoreU(map(hn::LoadU(d, x + i)), d, y + i);
  }
  if (i == elements.count) return;
  const size_t rest = size_t(elements.count - i);
  const ByteMap map(mean, hn::Div(hn::LoadN(f, scale + i, rest), by), hn::LoadN(f, bias + i, rest));
  hn::StoreN(map(hn::LoadN(d, x + i, rest)), d, y + i, rest);
}

inline void apply_bytes_plain(const int8_t* x, int8_t* y, const Rows& rows, const ByteAffine* channels) {
  for (int64_t c = 0; c < rows.channels; ++c)
    map_bytes(channels[c], x + c * rows.space, y + c * rows.space, rows.space);
}

#if HWY_TARGET <= HWY_AVX3_DL

struct alignas(64) AllBytes {
  int8_t of[256] = {};

  constexpr AllBytes() {
    for (int i = 0; i < 256; ++i) of[i] = int8_t(i);
  }
};
constexpr AllBytes kAllBytes;

// The results of all bytes, in the order of the byte read as unsigned.
struct alignas(64) Results {
  uint8_t of[256];

  explicit Results(const ByteAffine& to) { map_bytes(to, kAllBytes.of, reinterpret_cast<int8_t*>(of), 256); }
  Results() = default;
};

class Lookup {
 public:
  explicit Lookup(const Results& from) {
    const ByteTag d;
    first_ = hn::Load(d, from.of);
    second_ = hn::Load(d, from.of + 64);
    third_ = hn::Load(d, from.of + 128);
    fourth_ = hn::Load(d, from.of + 192);
  }

  HWY_INLINE ByteVector operator()(ByteVector q) const {
    const ByteTag d;
    auto index = hn::IndicesFromVec(d, hn::And(q, hn::Set(d, 127)));
    return hn::IfThenElse(hn::MaskFromVec(q), hn::TwoTablesLookupLanes(d, third_, fourth_, index),
                          hn::TwoTablesLookupLanes(d, first_, second_, index));
  }

 private:
  ByteVector first_, second_, third_, fourth_;
};

// As apply_stream of floats: whole vectors, those that straddle two channels by the results of both.
inline void apply_table(const uint8_t* x, uint8_t* y, const Rows& rows, const Results* results) {
  const ByteTag d;
  const int64_t n = int64_t(hn::Lanes(d));
  Lookup now(results[0]);
  int64_t at = int64_t(-reinterpret_cast<uintptr_t>(y) & uintptr_t(n - 1));
  if (at) hn::StoreN(now(hn::LoadN(d, x, size_t(at))), d, y, size_t(at));
  for (int64_t c = 0, end = rows.space;; ++c, end += rows.space) {
    for (; at + n <= end; at += n) {
      auto v = now(hn::LoadU(d, x + at));
      rows.stream ? hn::Stream(v, d, y + at) : hn::Store(v, d, y + at);
    }
    const size_t rest = size_t(end - at);
    if (c + 1 == rows.channels) {
      if (rest) hn::StoreN(now(hn::LoadN(d, x + at, rest)), d, y + at, rest);
      return;
    }
    const Lookup next(results[c + 1]);
    if (rest) {
      auto q = hn::LoadU(d, x + at);
      auto v = hn::IfThenElse(hn::FirstN(d, rest), now(q), next(q));
      rows.stream ? hn::Stream(v, d, y + at) : hn::Store(v, d, y + at);
      at += n;
    }
    now = next;
  }
}

// Filling the table costs as much as computing 256 elements.
inline void byte_apply(const Rows& rows, const ByteAffine* channels) {
  const auto* x = static_cast<const uint8_t*>(rows.x);
  auto* y = static_cast<uint8_t*>(rows.y);
  if (rows.space < int64_t(hn::Lanes(ByteTag())) || rows.rows * rows.space < 1024) {
    for (int64_t row = 0; row < rows.rows; ++row)
      apply_bytes_plain(reinterpret_cast<const int8_t*>(x + row * rows.x_stride),
                        reinterpret_cast<int8_t*>(y + row * rows.y_stride), rows, channels);
    return;
  }
  Results results[kMaxByteChannels];
  for (int64_t c = 0; c < rows.channels; ++c) results[c] = Results(channels[c]);
  for (int64_t row = 0; row < rows.rows; ++row)
    apply_table(x + row * rows.x_stride, y + row * rows.y_stride, rows, results);
  if (rows.stream) hwy::FlushStream();
}

#else

inline void byte_apply(const Rows& rows, const ByteAffine* channels) {
  for (int64_t row = 0; row < rows.rows; ++row)
    apply_bytes_plain(static_cast<const int8_t*>(rows.x) + row * rows.x_stride,
                      static_cast<int8_t*>(rows.y) + row * rows.y_stride, rows, channels);
}

#endif

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
