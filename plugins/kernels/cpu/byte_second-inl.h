// Second pass over int8: L1 by sums of absolute differences, Top-k by counting the bytes beyond two bounds. Part of
// target.cpp.
#pragma once

#include "byte_first-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {

// sum |q - pivot| and sum |q - other|: their difference counts the elements on either side of the mean, where other
// is the pivot's neighbour.
class Distances {
 public:
  explicit Distances(const ByteCenter& center)
      : pivot_(hn::Set(ByteTag(), uint8_t(center.pivot))), other_(hn::Set(ByteTag(), uint8_t(center.other))) {
    near_ = far_ = hn::Zero(CountTag());
  }

  template <int>
  HWY_INLINE void one(ByteVector u) {
    near_ = hn::Add(near_, hn::SumsOf8(hn::AbsDiff(u, pivot_)));
    far_ = hn::Add(far_, hn::SumsOf8(hn::AbsDiff(u, other_)));
  }

  HWY_INLINE void some(ByteVector u, ByteMask valid) {
    near_ = hn::Add(near_, hn::SumsOf8(hn::IfThenElseZero(valid, hn::AbsDiff(u, pivot_))));
    far_ = hn::Add(far_, hn::SumsOf8(hn::IfThenElseZero(valid, hn::AbsDiff(u, other_))));
  }

  void add_to(ByteSecond* out) const {
    out->distances += int64_t(hn::ReduceSum(CountTag(), near_));
    out->sides += int64_t(hn::ReduceSum(CountTag(), far_));
  }

 private:
  ByteVector pivot_, other_;
  CountVector near_, far_;
};

class Beyond {
 public:
  Beyond(const ByteCenter& center, uint32_t* counts)
      : high_(hn::Set(ByteTag(), uint8_t(center.high))),
        low_(hn::Set(ByteTag(), uint8_t(center.low))),
        counts_(counts) {}

  template <int>
  HWY_INLINE void one(ByteVector u) {
    ByteMask beyond = outside(u);
    if (HWY_UNLIKELY(!hn::AllFalse(ByteTag(), beyond))) count(u, beyond, counts_);
  }

  HWY_INLINE void some(ByteVector u, ByteMask valid) {
    ByteMask beyond = hn::And(valid, outside(u));
    if (!hn::AllFalse(ByteTag(), beyond)) count(u, beyond, counts_);
  }

 private:
  HWY_INLINE ByteMask outside(ByteVector u) const { return hn::Ne(hn::Min(hn::Max(u, low_), high_), u); }

  static HWY_NOINLINE void count(ByteVector u, ByteMask beyond, uint32_t* counts) {
    const ByteTag d;
    uint8_t values[64];
    uint64_t bits = 0;  // a bit per lane, the first lowest
    hn::StoreU(u, d, values);
    hn::StoreMaskBits(d, beyond, reinterpret_cast<uint8_t*>(&bits));
    for (; bits; bits &= bits - 1) ++counts[values[hwy::Num0BitsBelowLS1Bit_Nonzero64(bits)]];
  }

  ByteVector high_, low_;
  uint32_t* counts_;
};

// Every byte, where no bound is known. Four tables, so that equal neighbours need not wait for each other.
inline void count_all(const Stretch& part, uint32_t* counts) {
  uint32_t tables[4][256] = {};
  for (int64_t row = 0; row < part.rows; ++row) {
    const uint8_t* x = static_cast<const uint8_t*>(part.x) + row * part.stride;
    int64_t i = 0;
    for (; i + 4 <= part.length; i += 4) {
      ++tables[0][x[i]];
      ++tables[1][x[i + 1]];
      ++tables[2][x[i + 2]];
      ++tables[3][x[i + 3]];
    }
    for (; i < part.length; ++i) ++tables[0][x[i]];
  }
  for (int i = 0; i < 256; ++i) counts[i ^ 128] += tables[0][i] + tables[1][i] + tables[2][i] + tables[3][i];
}

inline void byte_second(int32_t kind, const Stretch& part, const ByteCenter& center, ByteSecond* out) {
  if (kind == NX_L1) {
    Distances body(center);
    scan_byte_rows(part, body);
    body.add_to(out);
  } else if (center.high < center.low) {
    count_all(part, out->counts);
  } else {
    Beyond body(center, out->counts);
    scan_byte_rows(part, body);
  }
}

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
