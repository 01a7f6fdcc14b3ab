// Training's passes of forward: sums and ends of x, then deviations from the mean or the largest of them, then y. Part
// of target.cpp.
#pragma once

#include "normexport/kernels.h"
#include "training_walk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {

// Stores one vector's lanes as one field of consecutive entries.
template <class T>
void store_field(Vector<T> v, int64_t count, Seen* out, double Seen::* field) {
  T lanes[kMaxLanes];
  hn::StoreU(v, Tag<T>(), lanes);
  for (int64_t i = 0; i < count; ++i) out[i].*field = double(lanes[i]);
}

template <class T>
void store_field(const Sum<T>& sum, int64_t count, Seen* out, double Seen::* field) {
  double lanes[kMaxLanes];
  sum.store(lanes);
  for (int64_t i = 0; i < count; ++i) out[i].*field = lanes[i];
}

// Sum and ends of x.
template <class T>
class SumAndEnds {
 public:
  using V = Vector<T>;
  static constexpr bool kGradient = false;

  SumAndEnds() = default;
  SumAndEnds(const Known&, int64_t, int64_t) : high_(hn::Neg(hn::Inf(Tag<T>()))), low_(hn::Inf(Tag<T>())) {}

  HWY_INLINE void step(V x, V) {
    sum_.add(x);
    high_ = hn::Max(high_, x);
    low_ = hn::Min(low_, x);
  }

  HWY_INLINE void some(V x, V, Mask<T> valid) {
    sum_.add(hn::IfThenElseZero(valid, x));
    high_ = hn::Max(high_, hn::IfThenElse(valid, x, high_));
    low_ = hn::Min(low_, hn::IfThenElse(valid, x, low_));
  }

  HWY_INLINE void flush() { sum_.flush(); }

  HWY_INLINE void absorb(const SumAndEnds& other) {
    sum_.absorb(other.sum_);
    high_ = hn::Max(high_, other.high_);
    low_ = hn::Min(low_, other.low_);
  }

  void reduce(Seen* out) const {
    out->sum = sum_.total();
    out->high = double(hn::ReduceMax(Tag<T>(), high_));
    out->low = double(hn::ReduceMin(Tag<T>(), low_));
  }

  void store(Seen* out, int64_t count) const {
    store_field(sum_, count, out, &Seen::sum);
    store_field<T>(high_, count, out, &Seen::high);
    store_field<T>(low_, count, out, &Seen::low);
  }

 private:
  Sum<T> sum_;
  V high_, low_;
};

// Sum of x, or of |d|, or of d^2.
enum class Of { kValue, kSize, kSquare };

template <class T, Of kOf>
class SumOf {
 public:
  using V = Vector<T>;
  static constexpr bool kGradient = false;

  SumOf() = default;
  SumOf(const Known& known, int64_t at, int64_t count) : mean_(values_of<T>(known.mean, at, count)) {}

  HWY_INLINE void step(V x, V) { add(kOf == Of::kValue ? x : hn::Sub(x, mean_)); }

  HWY_INLINE void some(V x, V, Mask<T> valid) {
    add(hn::IfThenElseZero(valid, kOf == Of::kValue ? x : hn::Sub(x, mean_)));
  }

  HWY_INLINE void flush() { sum_.flush(); }
  HWY_INLINE void absorb(const SumOf& other) { sum_.absorb(other.sum_); }
  void reduce(Seen* out) const { out->sum = sum_.total(); }
  void store(Seen* out, int64_t count) const { store_field(sum_, count, out, &Seen::sum); }

 private:
  HWY_INLINE void add(V v) {
    if constexpr (kOf == Of::kSquare)
      sum_.add_product(v, v);
    else
      sum_.add(kOf == Of::kSize ? hn::Abs(v) : v);
  }

  V mean_;
  Sum<T> sum_;
};

// Collects the |d| above a threshold. Few are: the branch is rarely taken.
template <class T>
class Collector {
 public:
  using V = Vector<T>;
  static constexpr bool kGradient = false;

  Collector() = default;
  Collector(const Known& known, int64_t at, int64_t count)
      : mean_(values_of<T>(known.mean, at, count)), states_(known.collected + at), columns_(count) {
    raise();
  }

  HWY_INLINE void step(V x, V) {
    const V size = hn::Abs(hn::Sub(x, mean_));
    const Mask<T> above = hn::Gt(size, threshold_);
    if (HWY_UNLIKELY(!hn::AllFalse(Tag<T>(), above))) push(size, above);
  }

  HWY_INLINE void some(V x, V, Mask<T> valid) {
    const V size = hn::Abs(hn::Sub(x, mean_));
    const Mask<T> above = hn::And(valid, hn::Gt(size, threshold_));
    if (!hn::AllFalse(Tag<T>(), above)) push(size, above);
  }

  HWY_INLINE void flush() {}
  HWY_INLINE void absorb(const Collector&) {}
  void reduce(Seen*) const {}
  void store(Seen*, int64_t) const {}

 private:
  Collected* state(size_t lane) const { return columns_ ? states_ + lane : states_; }

  HWY_NOINLINE void push(V size, Mask<T> above) {
    T lanes[kMaxLanes];
    uint64_t bits = 0;  // a bit per lane, the first lowest
    hn::StoreMaskBits(Tag<T>(), above, reinterpret_cast<uint8_t*>(&bits));
    hn::StoreU(size, Tag<T>(), lanes);
    bool raised = !columns_;  // another body may have raised the threshold of the only state
    for (; bits; bits &= bits - 1) {
      const size_t lane = hwy::Num0BitsBelowLS1Bit_Nonzero64(bits);
      Collected* to = state(lane);
      if (double(lanes[lane]) <= to->threshold) continue;
      static_cast<T*>(to->values)[to->count++] = lanes[lane];
      if (to->count < to->capacity) continue;
      to->count = keep_largest(static_cast<T*>(to->values), to->count, to->k, &to->threshold);
      raised = true;
    }
    if (raised) raise();
  }

  void raise() {
    T lanes[kMaxLanes];
    hn::StoreU(hn::Inf(Tag<T>()), Tag<T>(), lanes);  // where there is no channel nothing is above
    const int64_t count = columns_ ? smaller(columns_, lanes_of<T>()) : lanes_of<T>();
    for (int64_t i = 0; i < count; ++i) lanes[i] = T(state(size_t(i))->threshold);
    threshold_ = hn::LoadU(Tag<T>(), lanes);
  }

  V mean_, threshold_;
  Collected* states_;
  int64_t columns_;
};

// y = (x - mean)*slope + shift
template <class T>
class Normed {
 public:
  using V = Vector<T>;
  static constexpr bool kGradient = false;

  Normed() = default;
  Normed(const Known& known, const Coefficients& to, int64_t at, int64_t count)
      : mean_(values_of<T>(known.mean, at, count)),
        slope_(values_of<T>(to.slope, at, count)),
        shift_(values_of<T>(to.shift, at, count)) {}

  HWY_INLINE V operator()(V x, V) const { return hn::MulAdd(hn::Sub(x, mean_), slope_, shift_); }

 private:
  V mean_, slope_, shift_;
};

template <class T>
void training_first(int32_t kind, const Piece& piece, Seen* out) {
  if (kind == NX_L1 || kind == NX_L2) return pass<T, SumOf<T, Of::kValue>>(piece, {}, out);
  pass<T, SumAndEnds<T>>(piece, {}, out);
}

template <class T>
void training_second(int32_t kind, const Piece& piece, const Known& known, Seen* out) {
  if (kind == NX_L1) return pass<T, SumOf<T, Of::kSize>>(piece, known, out);
  if (kind == NX_L2) return pass<T, SumOf<T, Of::kSquare>>(piece, known, out);
  pass<T, Collector<T>>(piece, known, out);
}

template <class T>
void training_apply(const Piece& piece, const Known& known, const Coefficients& to) {
  write<T, Normed<T>>(piece, known, to);
}

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
