// First pass over floats: the sum, in double from the first addition on, so that an offset costs no accuracy; and the
// ends, where the kind needs them. Part of target.cpp.
#pragma once

#include <limits>

#include "normexport/kernels.h"
#include "vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {

template <class T, bool kEnds>
class Gather {
 public:
  using V = Vector<T>;

  Gather() {
    const DoubleTag wide;
    sum0_ = sum1_ = sum2_ = sum3_ = hn::Zero(wide);
    reset();
  }

  HWY_INLINE void reset() {
    using Work = typename Element<T>::Work;
    high0_ = high1_ = high2_ = high3_ = hn::Set(Tag<T>(), -std::numeric_limits<Work>::infinity());
    low0_ = low1_ = low2_ = low3_ = hn::Set(Tag<T>(), std::numeric_limits<Work>::infinity());
  }

  HWY_INLINE void four(V a, V b, V c, V d) {
    sum0_ = add_wide(sum0_, a);
    sum1_ = add_wide(sum1_, b);
    sum2_ = add_wide(sum2_, c);
    sum3_ = add_wide(sum3_, d);
    if constexpr (kEnds) {
      high0_ = hn::Max(high0_, a);
      low0_ = hn::Min(low0_, a);
      high1_ = hn::Max(high1_, b);
      low1_ = hn::Min(low1_, b);
      high2_ = hn::Max(high2_, c);
      low2_ = hn::Min(low2_, c);
      high3_ = hn::Max(high3_, d);
      low3_ = hn::Min(low3_, d);
    }
  }

  HWY_INLINE void one(V a) {
    sum0_ = add_wide(sum0_, a);
    if constexpr (kEnds) {
      high0_ = hn::Max(high0_, a);
      low0_ = hn::Min(low0_, a);
    }
  }

  // Lanes beyond the mask hold zero.
  HWY_INLINE void some(V a, Mask<T> valid) {
    sum1_ = add_wide(sum1_, a);
    if constexpr (kEnds) {
      high1_ = hn::IfThenElse(valid, hn::Max(high1_, a), high1_);
      low1_ = hn::IfThenElse(valid, hn::Min(low1_, a), low1_);
    }
  }

  double sum() const { return hn::ReduceSum(DoubleTag(), hn::Add(hn::Add(sum0_, sum1_), hn::Add(sum2_, sum3_))); }

  Ends ends() const {
    const Tag<T> d;
    return {hn::ReduceMax(d, hn::Max(hn::Max(high0_, high1_), hn::Max(high2_, high3_))),
            hn::ReduceMin(d, hn::Min(hn::Min(low0_, low1_), hn::Min(low2_, low3_)))};
  }

  // The ends of lanes: they are elements, and no two lanes share one. Lanes are folded together as long as three
  // times k ends remain: enough for a sharp bound, and few to look through.
  int lanes(int64_t k, Ends* out) const {
    const Tag<T> d;
    const int64_t n = int64_t(hn::Lanes(d));
    typename Element<T>::Work high[kFloatLanes], low[kFloatLanes];
    int64_t vectors = 6 * k <= 4 * n ? 1 : 6 * k <= 8 * n ? 2 : 4;
    V highs[4] = {high0_, high1_, high2_, high3_}, lows[4] = {low0_, low1_, low2_, low3_};
    if (vectors < 4) {
      highs[0] = hn::Max(high0_, high2_);
      lows[0] = hn::Min(low0_, low2_);
      highs[1] = hn::Max(high1_, high3_);
      lows[1] = hn::Min(low1_, low3_);
    }
    if (vectors < 2) {
      highs[0] = hn::Max(highs[0], highs[1]);
      lows[0] = hn::Min(lows[0], lows[1]);
    }
    for (int64_t i = 0; i < vectors; ++i) {
      hn::StoreU(highs[i], d, high + i * n);
      hn::StoreU(lows[i], d, low + i * n);
    }
    for (int64_t i = 0; i < vectors * n; ++i) out[i] = {high[i], low[i]};
    return int(vectors * n);
  }

 private:
  DoubleVector sum0_, sum1_, sum2_, sum3_;
  V high0_, high1_, high2_, high3_, low0_, low1_, low2_, low3_;
};

HWY_INLINE void widen(Ends* ends, const Ends& by) {
  ends->high = by.high > ends->high ? by.high : ends->high;
  ends->low = by.low < ends->low ? by.low : ends->low;
}

// Range: the rows are cut where a chunk ends; the vectors live on from row to row.
template <class T>
void first_chunks(const Stretch& part, const Parameters& parameters, FloatFirst* out) {
  Gather<T, true> body;
  int64_t left = parameters.chunk - parameters.passed;
  Ends whole = body.ends();
  out->cut = false;
  out->spans = 0;
  for (int64_t row = 0; row < part.rows; ++row) {
    const T* x = static_cast<const T*>(part.x) + row * part.stride;
    for (int64_t at = 0; at < part.length;) {
      int64_t count = left < part.length - at ? left : part.length - at;
      scan(x + at, count, part.fetch, body);
      at += count;
      left -= count;
      if (left) continue;
      Ends ends = body.ends();
      widen(&whole, ends);
      if (out->cut)
        out->spans += ends.high - ends.low;
      else
        out->head = ends;
      out->cut = true;
      left = parameters.chunk;
      body.reset();
    }
  }
  Ends last = body.ends();
  widen(&whole, last);
  (out->cut ? out->tail : out->head) = last;
  out->sum = body.sum();
  out->lanes = 1;
  out->ends[0] = whole;
}

template <class T>
void float_first(int32_t kind, const Stretch& part, const Parameters& parameters, FloatFirst* out) {
  if (kind == NX_RANGE) return first_chunks<T>(part, parameters, out);
  // A double's sum is rounded: its ends tell a mean that left the values' range.
  constexpr bool ends_always = sizeof(T) == 8;
  if (kind == NX_TOPK) {
    Gather<T, true> body;
    scan_rows<T>(part, body);
    out->sum = body.sum();
    out->lanes = body.lanes(parameters.k, out->ends);
  } else if (kind == NX_LINF || ends_always) {
    Gather<T, true> body;
    scan_rows<T>(part, body);
    out->sum = body.sum();
    out->lanes = 1;
    out->ends[0] = body.ends();
  } else {
    Gather<T, false> body;
    scan_rows<T>(part, body);
    out->sum = body.sum();
    out->lanes = 0;
  }
}

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
