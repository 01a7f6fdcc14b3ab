// Second pass over floats, out of the cache: sums of |d| or d^2, or the elements that may be among the k largest |d|.
// d = (x - center.high) - center.low: the first difference is exact where an offset dwarfs the spread. Part of
// target.cpp.
#pragma once

#include "normexport/kernels.h"
#include "vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {

template <class T>
class Deviation {
 public:
  explicit Deviation(const Center& center)
      : high_(hn::Set(Tag<T>(), typename Element<T>::Work(center.high))),
        low_(hn::Set(Tag<T>(), typename Element<T>::Work(center.low))),
        one_(hn::Set(Tag<T>(), typename Element<T>::Work(center.one))) {}

  // The first difference as a multiply-subtract, which rounds the same: the units that multiply have nothing to do
  // here, while those that only add are the bottleneck. Where the instruction set has no such instruction, `one_` is
  // an exact factor.
  HWY_INLINE Vector<T> operator()(Vector<T> x) const { return hn::Sub(hn::MulSub(x, one_, high_), low_); }

 private:
  Vector<T> high_, low_, one_;
};

// Four vectors are added in the working precision, then their sum in double.
template <class T, bool kSquare>
class Total {
 public:
  using V = Vector<T>;

  explicit Total(const Center& center) : deviation_(center) { sum0_ = sum1_ = hn::Zero(DoubleTag()); }

  HWY_INLINE void four(V a, V b, V c, V d) {
    if constexpr (kSquare) {
      a = deviation_(a);
      b = deviation_(b);
      c = deviation_(c);
      d = deviation_(d);
      V left = hn::MulAdd(a, a, hn::Mul(b, b)), right = hn::MulAdd(c, c, hn::Mul(d, d));
      sum0_ = add_wide(sum0_, hn::Add(left, right));
    } else {
      V left = hn::Add(size(a), size(b)), right = hn::Add(size(c), size(d));
      sum0_ = add_wide(sum0_, hn::Add(left, right));
    }
  }

  HWY_INLINE void one(V a) { sum1_ = add_wide(sum1_, size(a)); }

  HWY_INLINE void some(V a, Mask<T> valid) { sum1_ = add_wide(sum1_, hn::IfThenElseZero(valid, size(a))); }

  double sum() const { return hn::ReduceSum(DoubleTag(), hn::Add(sum0_, sum1_)); }

 private:
  HWY_INLINE V size(V x) const {
    V d = deviation_(x);
    return kSquare ? hn::Mul(d, d) : hn::Abs(d);
  }

  Deviation<T> deviation_;
  DoubleVector sum0_, sum1_;
};

// Collects the |d| above a threshold. Few are: the branch is rarely taken.
template <class T>
class Largest {
 public:
  using V = Vector<T>;
  using Work = typename Element<T>::Work;

  Largest(const Center& center, FloatSecond* state) : deviation_(center), state_(state) { raise(); }

  HWY_INLINE void four(V a, V b, V c, V d) {
    a = hn::Abs(deviation_(a));
    b = hn::Abs(deviation_(b));
    c = hn::Abs(deviation_(c));
    d = hn::Abs(deviation_(d));
    V largest = hn::Max(hn::Max(a, b), hn::Max(c, d));
    if (HWY_LIKELY(hn::AllFalse(Tag<T>(), hn::Gt(largest, threshold_)))) return;
    push(a, hn::Gt(a, threshold_), state_);
    push(b, hn::Gt(b, threshold_), state_);
    push(c, hn::Gt(c, threshold_), state_);
    push(d, hn::Gt(d, threshold_), state_);
    raise();
  }

  HWY_INLINE void one(V a) {
    a = hn::Abs(deviation_(a));
    auto above = hn::Gt(a, threshold_);
    if (hn::AllFalse(Tag<T>(), above)) return;
    push(a, above, state_);
    raise();
  }

  HWY_INLINE void some(V a, Mask<T> valid) {
    a = hn::Abs(deviation_(a));
    auto above = hn::And(valid, hn::Gt(a, threshold_));
    if (hn::AllFalse(Tag<T>(), above)) return;
    push(a, above, state_);
    raise();
  }

 private:
  void raise() { threshold_ = hn::Set(Tag<T>(), Work(state_->threshold)); }

  // Static and apart, so that the loop's own vectors stay in registers.
  static HWY_NOINLINE void push(V values, Mask<T> above, FloatSecond* state) {
    const Tag<T> d;
    Work lanes[kFloatLanes];
    uint64_t bits = 0;  // a bit per lane, the first lowest
    hn::StoreMaskBits(d, above, reinterpret_cast<uint8_t*>(&bits));
    if (!bits) return;
    hn::StoreU(values, d, lanes);
    auto* buffer = static_cast<Work*>(state->buffer);
    for (; bits; bits &= bits - 1) buffer[state->count++] = lanes[hwy::Num0BitsBelowLS1Bit_Nonzero64(bits)];
    if (state->count >= state->capacity) state->count = keep_largest(buffer, state->count, state->k, &state->threshold);
  }

  Deviation<T> deviation_;
  V threshold_;
  FloatSecond* state_;
};

template <class T>
void float_second(int32_t kind, const Stretch& part, const Center& center, FloatSecond* out) {
  if (kind == NX_TOPK) {
    Largest<T> body(center, out);
    scan_rows<T>(part, body);
  } else if (kind == NX_L2) {
    Total<T, true> body(center);
    scan_rows<T>(part, body);
    out->sum += body.sum();
  } else {
    Total<T, false> body(center);
    scan_rows<T>(part, body);
    out->sum += body.sum();
  }
}

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
