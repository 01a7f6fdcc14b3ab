// Training's passes of backward: the sums over x and the gradient of y that the gradient of x needs, and that gradient.
// Part of target.cpp.
//
// What a kind's statistic owes to each d is its slope: sign(d) for L1, d for L2, else the sign of the few d that are
// the largest. These are found again by comparison: forward kept the largest |d|, the k-th or the ends of each chunk,
// and d is computed here as there.
#pragma once

#include "normexport/kernels.h"
#include "training_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {

template <class T>
HWY_INLINE Vector<T> sign_of(Vector<T> d) {
  const Tag<T> tag;
  return hn::IfThenElseZero(hn::Ne(d, hn::Zero(tag)), hn::CopySign(hn::Set(tag, T(1)), d));
}

template <class T, int kKind>
class GradientSums {
 public:
  using V = Vector<T>;
  static constexpr bool kGradient = true;

  GradientSums() = default;
  GradientSums(const Known& known, int64_t at, int64_t count)
      : mean_(values_of<T>(known.mean, at, count)),
        top_(values_of<T>(known.top, at, count)),
        bottom_(values_of<T>(known.bottom, at, count)) {}

  HWY_INLINE void step(V x, V g) {
    const V d = hn::Sub(x, mean_);
    sum_.add(g);
    product_.add_product(g, d);
    slope(d, d);
  }

  // d is 0 where there is no element, and equals nothing.
  HWY_INLINE void some(V x, V g, Mask<T> valid) {
    const V d = hn::IfThenElseZero(valid, hn::Sub(x, mean_));
    sum_.add(g);
    product_.add_product(g, d);
    slope(d, hn::IfThenElse(valid, d, hn::NaN(Tag<T>())));
  }

  HWY_INLINE void flush() {
    sum_.flush();
    product_.flush();
    if constexpr (kKind == NX_L1 || kKind == NX_L2) side_.flush();
  }

  HWY_INLINE void absorb(const GradientSums& other) {
    sum_.absorb(other.sum_);
    product_.absorb(other.product_);
    if constexpr (kKind == NX_L1 || kKind == NX_L2) side_.absorb(other.side_);
    for (int i = 0; i < 4; ++i) rare_[i] = hn::Add(rare_[i], other.rare_[i]);
  }

  void reduce(Seen* out) const {
    out->sum = sum_.total();
    out->product = product_.total();
    if constexpr (kKind == NX_L1 || kKind == NX_L2) {
      out->side = side_.total();
    } else {
      for (int i = 0; i < 4; ++i) out->*kRare[i] = total(rare_[i]);
    }
  }

  void store(Seen* out, int64_t count) const {
    store_field(sum_, count, out, &Seen::sum);
    store_field(product_, count, out, &Seen::product);
    if constexpr (kKind == NX_L1 || kKind == NX_L2) {
      store_field(side_, count, out, &Seen::side);
    } else {
      for (int i = 0; i < 4; ++i) store_field<T>(rare_[i], count, out, kRare[i]);
    }
  }

 private:
  static constexpr double Seen::* kRare[4] = {&Seen::count, &Seen::side, &Seen::equal, &Seen::equal_side};

  static double total(V v) {
    T lanes[kMaxLanes];
    hn::StoreU(v, Tag<T>(), lanes);
    double sum = 0;
    for (int64_t i = 0; i < lanes_of<T>(); ++i) sum += double(lanes[i]);
    return sum;
  }

  // d to be summed; what: the same to be compared.
  HWY_INLINE void slope(V d, V what) {
    const Tag<T> tag;
    if constexpr (kKind == NX_L1) {
      side_.add(sign_of<T>(d));
    } else if constexpr (kKind == NX_L2) {
      side_.add(d);
    } else if constexpr (kKind == NX_RANGE) {
      const Mask<T> top = hn::Eq(what, top_), bottom = hn::Eq(what, bottom_);
      if (HWY_LIKELY(hn::AllFalse(tag, hn::Or(top, bottom)))) return;
      count(0, top, hn::Set(tag, T(1)));
      count(2, bottom, hn::Set(tag, T(1)));
    } else {
      const V size = hn::Abs(what);
      if (HWY_LIKELY(hn::AllFalse(tag, hn::Ge(size, top_)))) return;
      const Mask<T> above = kKind == NX_LINF ? hn::Eq(size, top_) : hn::Gt(size, top_), equal = hn::Eq(size, top_);
      count(0, above, sign_of<T>(d));
      if constexpr (kKind == NX_TOPK) count(2, equal, sign_of<T>(d));
    }
  }

  // How many, and the sum of their signs. Exact up to 2^24 a lane: pieces are smaller.
  HWY_INLINE void count(int at, Mask<T> which, V sign) {
    rare_[at] = hn::Add(rare_[at], hn::IfThenElseZero(which, hn::Set(Tag<T>(), T(1))));
    rare_[at + 1] = hn::Add(rare_[at + 1], hn::IfThenElseZero(which, sign));
  }

  V mean_, top_, bottom_;
  Sum<T> sum_, product_, side_;
  V rare_[4] = {hn::Zero(Tag<T>()), hn::Zero(Tag<T>()), hn::Zero(Tag<T>()), hn::Zero(Tag<T>())};
};

// dx = g*slope + (the statistic's slope for d + shift). Each operation is rounded by itself: of one element in a
// channel g*slope and shift then cancel.
template <class T, int kKind>
class Gradient {
 public:
  using V = Vector<T>;
  static constexpr bool kGradient = true;

  Gradient() = default;
  Gradient(const Known& known, const Coefficients& to, int64_t at, int64_t count)
      : mean_(values_of<T>(known.mean, at, count)),
        top_(values_of<T>(known.top, at, count)),
        bottom_(values_of<T>(known.bottom, at, count)),
        slope_(values_of<T>(to.slope, at, count)),
        shift_(values_of<T>(to.shift, at, count)),
        worth_(values_of<T>(to.worth, at, count)),
        equal_(values_of<T>(to.equal, at, count)) {}

  HWY_INLINE V operator()(V x, V g) const {
    return hn::Add(hn::Mul(g, slope_), hn::Add(owed(hn::Sub(x, mean_)), shift_));
  }

 private:
  HWY_INLINE V owed(V d) const {
    if constexpr (kKind == NX_L1) return hn::Mul(sign_of<T>(d), worth_);
    if constexpr (kKind == NX_L2) return hn::Mul(d, worth_);
    if constexpr (kKind == NX_RANGE)
      return hn::Sub(hn::IfThenElseZero(hn::Eq(d, top_), worth_), hn::IfThenElseZero(hn::Eq(d, bottom_), equal_));
    const V size = hn::Abs(d), at = hn::IfThenElseZero(hn::Eq(size, top_), equal_);
    const V share = kKind == NX_LINF ? at : hn::IfThenElse(hn::Gt(size, top_), worth_, at);
    return hn::Mul(share, sign_of<T>(d));
  }

  V mean_, top_, bottom_, slope_, shift_, worth_, equal_;
};

template <class T>
void training_gradient_sums(int32_t kind, const Piece& piece, const Known& known, Seen* out) {
  switch (kind) {
    case NX_L1: return pass<T, GradientSums<T, NX_L1>>(piece, known, out);
    case NX_LINF: return pass<T, GradientSums<T, NX_LINF>>(piece, known, out);
    case NX_TOPK: return pass<T, GradientSums<T, NX_TOPK>>(piece, known, out);
    case NX_RANGE: return pass<T, GradientSums<T, NX_RANGE>>(piece, known, out);
    default: return pass<T, GradientSums<T, NX_L2>>(piece, known, out);
  }
}

template <class T>
void training_gradient(int32_t kind, const Piece& piece, const Known& known, const Coefficients& to) {
  switch (kind) {
    case NX_L1: return write<T, Gradient<T, NX_L1>>(piece, known, to);
    case NX_LINF: return write<T, Gradient<T, NX_LINF>>(piece, known, to);
    case NX_TOPK: return write<T, Gradient<T, NX_TOPK>>(piece, known, to);
    case NX_RANGE: return write<T, Gradient<T, NX_RANGE>>(piece, known, to);
    default: return write<T, Gradient<T, NX_L2>>(piece, known, to);
  }
}

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
