// First pass over int8: the exact sum, and the ends or the squares where the kind needs them. Bytes are taken as
// q + 128, unsigned: every instruction set adds, compares and subtracts those. Part of target.cpp.
#pragma once

#include "normexport/kernels.h"
#include "vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {

using ByteTag = hn::ScalableTag<uint8_t>;
using ByteVector = hn::Vec<ByteTag>;
using ByteMask = hn::Mask<ByteTag>;
using CountTag = hn::Repartition<uint64_t, ByteTag>;
using CountVector = hn::Vec<CountTag>;

HWY_INLINE ByteVector load_bytes(const uint8_t* x) {
  const ByteTag d;
  return hn::Xor(hn::LoadU(d, x), hn::Set(d, 128));
}

// Hands a row to the body: whole vectors, then the rest with its lanes.
template <class Body>
HWY_INLINE void scan_bytes(const uint8_t* x, int64_t length, const Fetch& next, Body& body) {
  const ByteTag d;
  const int64_t n = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + 4 * n <= length; i += 4 * n) {
    fetch(x + i, next, 4 * n);
    body.template one<0>(load_bytes(x + i));
    body.template one<1>(load_bytes(x + i + n));
    body.template one<2>(load_bytes(x + i + 2 * n));
    body.template one<3>(load_bytes(x + i + 3 * n));
  }
  fetch(x + i, next, length - i);
  for (; i + n <= length; i += n) body.template one<0>(load_bytes(x + i));
  if (i == length) return;
  ByteMask valid = hn::FirstN(d, size_t(length - i));
  body.some(hn::Xor(hn::LoadN(d, x + i, size_t(length - i)), hn::Set(d, 128)), valid);
}

template <class Body>
HWY_INLINE void scan_byte_rows(const Stretch& part, Body& body) {
  for (int64_t row = 0; row < part.rows; ++row)
    scan_bytes(static_cast<const uint8_t*>(part.x) + row * part.stride, part.length, part.fetch, body);
}

template <bool kEnds, bool kSquares>
class GatherBytes {
 public:
  GatherBytes() {
    sum0_ = sum1_ = hn::Zero(CountTag());
    even_ = odd_ = hn::Zero(SquareTag());
    reset();
  }

  HWY_INLINE void reset() {
    high0_ = high1_ = high2_ = high3_ = hn::Zero(ByteTag());
    low0_ = low1_ = low2_ = low3_ = hn::Set(ByteTag(), 255);
  }

  template <int kWhich>
  HWY_INLINE void one(ByteVector u) {
    add(u);
    if constexpr (kEnds) {
      if constexpr (kWhich == 0) {
        high0_ = hn::Max(high0_, u);
        low0_ = hn::Min(low0_, u);
      }
      if constexpr (kWhich == 1) {
        high1_ = hn::Max(high1_, u);
        low1_ = hn::Min(low1_, u);
      }
      if constexpr (kWhich == 2) {
        high2_ = hn::Max(high2_, u);
        low2_ = hn::Min(low2_, u);
      }
      if constexpr (kWhich == 3) {
        high3_ = hn::Max(high3_, u);
        low3_ = hn::Min(low3_, u);
      }
    }
    if constexpr (kSquares) square(hn::BitCast(SignedTag(), hn::Xor(u, hn::Set(ByteTag(), 128))));
  }

  HWY_INLINE void some(ByteVector u, ByteMask valid) {
    add(hn::IfThenElseZero(valid, u));
    if constexpr (kEnds) {
      high1_ = hn::Max(high1_, hn::IfThenElseZero(valid, u));
      low1_ = hn::Min(low1_, hn::IfThenElse(valid, u, hn::Set(ByteTag(), 255)));
    }
    if constexpr (kSquares)
      square(hn::BitCast(SignedTag(), hn::IfThenElseZero(valid, hn::Xor(u, hn::Set(ByteTag(), 128)))));
  }

  // Of q + 128.
  int64_t sum() const { return int64_t(hn::ReduceSum(CountTag(), hn::Add(sum0_, sum1_))); }

  // Lanes of 32 bits hold the squares of a part: at most 2^14 each, of 65,536 elements over all lanes.
  int64_t squares() const {
    const hn::Repartition<int64_t, ByteTag> wide;
    auto all = hn::Add(even_, odd_);
    return hn::ReduceSum(wide, hn::Add(hn::PromoteLowerTo(wide, all), hn::PromoteUpperTo(wide, all)));
  }

  int high() const { return hn::ReduceMax(ByteTag(), hn::Max(hn::Max(high0_, high1_), hn::Max(high2_, high3_))); }
  int low() const { return hn::ReduceMin(ByteTag(), hn::Min(hn::Min(low0_, low1_), hn::Min(low2_, low3_))); }

  // The ends of lanes, no two of which share an element; folded as those of floats are.
  int lanes(int64_t k, uint8_t* high, uint8_t* low) const {
    const ByteTag d;
    const int64_t n = int64_t(hn::Lanes(d));
    if (6 * k <= 4 * n) {
      hn::StoreU(hn::Max(hn::Max(high0_, high1_), hn::Max(high2_, high3_)), d, high);
      hn::StoreU(hn::Min(hn::Min(low0_, low1_), hn::Min(low2_, low3_)), d, low);
      if (6 * k > 2 * n) return int(n);
      for (int64_t i = 0; i < n / 2; ++i) {
        high[i] = high[i] > high[i + n / 2] ? high[i] : high[i + n / 2];
        low[i] = low[i] < low[i + n / 2] ? low[i] : low[i + n / 2];
      }
      return int(n / 2);
    }
    hn::StoreU(high0_, d, high);
    hn::StoreU(low0_, d, low);
    hn::StoreU(high1_, d, high + n);
    hn::StoreU(low1_, d, low + n);
    hn::StoreU(high2_, d, high + 2 * n);
    hn::StoreU(low2_, d, low + 2 * n);
    hn::StoreU(high3_, d, high + 3 * n);
    hn::StoreU(low3_, d, low + 3 * n);
    return int(4 * n);
  }

 private:
  using SignedTag = hn::RebindToSigned<ByteTag>;
  using ProductTag = hn::Repartition<int16_t, ByteTag>;
  using SquareTag = hn::Repartition<int32_t, ByteTag>;

  HWY_INLINE void add(ByteVector u) { sum0_ = hn::Add(sum0_, hn::SumsOf8(u)); }

  HWY_INLINE void square(hn::Vec<SignedTag> q) {
    const ProductTag d;
    auto lower = hn::PromoteLowerTo(d, q), upper = hn::PromoteUpperTo(d, q);
    even_ = hn::Add(even_, hn::WidenMulPairwiseAdd(SquareTag(), lower, lower));
    odd_ = hn::Add(odd_, hn::WidenMulPairwiseAdd(SquareTag(), upper, upper));
  }

  CountVector sum0_, sum1_;
  hn::Vec<SquareTag> even_, odd_;
  ByteVector high0_, high1_, high2_, high3_, low0_, low1_, low2_, low3_;
};

inline int64_t signed_sum(int64_t biased, int64_t elements) { return biased - 128 * elements; }

inline void first_byte_chunks(const Stretch& part, const Parameters& parameters, ByteFirst* out) {
  GatherBytes<true, false> body;
  int64_t left = parameters.chunk - parameters.passed;
  out->cut = false;
  out->spans = 0;
  for (int64_t row = 0; row < part.rows; ++row) {
    const uint8_t* x = static_cast<const uint8_t*>(part.x) + row * part.stride;
    for (int64_t at = 0; at < part.length;) {
      int64_t count = left < part.length - at ? left : part.length - at;
      scan_bytes(x + at, count, part.fetch, body);
      at += count;
      left -= count;
      if (left) continue;
      if (out->cut) {
        out->spans += body.high() - body.low();
      } else {
        out->head_high = body.high();
        out->head_low = body.low();
      }
      out->cut = true;
      left = parameters.chunk;
      body.reset();
    }
  }
  (out->cut ? out->tail_high : out->head_high) = body.high();
  (out->cut ? out->tail_low : out->head_low) = body.low();
  out->sum = signed_sum(body.sum(), part.rows * part.length);
}

inline void byte_first(int32_t kind, const Stretch& part, const Parameters& parameters, ByteFirst* out) {
  if (kind == NX_RANGE) return first_byte_chunks(part, parameters, out);
  const int64_t elements = part.rows * part.length;
  if (kind == NX_L1) {
    GatherBytes<false, false> body;
    scan_byte_rows(part, body);
    out->sum = signed_sum(body.sum(), elements);
    out->lanes = 0;
  } else if (kind == NX_L2) {
    GatherBytes<false, true> body;
    scan_byte_rows(part, body);
    out->sum = signed_sum(body.sum(), elements);
    out->squares = body.squares();
    out->lanes = 0;
  } else {
    GatherBytes<true, false> body;
    scan_byte_rows(part, body);
    out->sum = signed_sum(body.sum(), elements);
    if (kind == NX_TOPK) {
      out->lanes = body.lanes(parameters.k, out->high, out->low);
    } else {
      out->lanes = 1;
      out->high[0] = uint8_t(body.high());
      out->low[0] = uint8_t(body.low());
    }
  }
}

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
