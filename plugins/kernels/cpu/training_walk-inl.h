// How training's passes go over a piece. A body takes vectors of x and g; four bodies take turns, so that no sum waits
// for the one before it. Where channels stand side by side a lane is a channel, else all lanes are of one. Part of
// target.cpp.
#pragma once

#include "training.h"
#include "vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {

// Steps of a body between two additions of its sums in double: a sum of so few rounds no worse than its terms.
constexpr int kFlush = 16;

// Not std::min, which would be compiled for one instruction set and called in all.
HWY_INLINE int64_t smaller(int64_t a, int64_t b) { return b < a ? b : a; }

template <class T>
int64_t lanes_of() {
  return int64_t(hn::Lanes(Tag<T>()));
}

// The values of the channels of a vector: of `count` channels from `at` on, or of the only one.
template <class T>
HWY_INLINE Vector<T> values_of(const void* values, int64_t at, int64_t count) {
  if (!values) return hn::Zero(Tag<T>());
  const T* of = static_cast<const T*>(values);
  return count ? load_some(of + at, size_t(smaller(count, lanes_of<T>()))) : hn::Set(Tag<T>(), *of);
}

// A sum a lane, in the precision of the elements for kFlush steps, then in double.
template <class T>
class Sum {
 public:
  using V = Vector<T>;

  HWY_INLINE Sum() : part_(hn::Zero(Tag<T>())), low_(hn::Zero(DoubleTag())), high_(hn::Zero(DoubleTag())) {}

  HWY_INLINE void add(V v) { part_ = hn::Add(part_, v); }
  HWY_INLINE void add_product(V a, V b) { part_ = hn::MulAdd(a, b, part_); }

  HWY_INLINE void flush() {
    if constexpr (sizeof(T) == 8) {
      low_ = hn::Add(low_, part_);
    } else {
      low_ = hn::Add(low_, hn::PromoteLowerTo(DoubleTag(), part_));
      high_ = hn::Add(high_, hn::PromoteUpperTo(DoubleTag(), part_));
    }
    part_ = hn::Zero(Tag<T>());
  }

  HWY_INLINE void absorb(const Sum& other) {
    low_ = hn::Add(low_, other.low_);
    high_ = hn::Add(high_, other.high_);
  }

  double total() const { return hn::ReduceSum(DoubleTag(), hn::Add(low_, high_)); }

  void store(double* lanes) const {
    hn::StoreU(low_, DoubleTag(), lanes);
    if constexpr (sizeof(T) == 4) hn::StoreU(high_, DoubleTag(), lanes + hn::Lanes(DoubleTag()));
  }

 private:
  V part_;
  DoubleVector low_, high_;
};

template <class T>
struct Run {
  const T* x;
  const T* g;
  T* out;
  int64_t length;
};

// Calls run(Run) for every contiguous run of a piece of one channel.
template <class T, class Each>
HWY_INLINE void each_run(const Piece& piece, Each each) {
  const T* x = static_cast<const T*>(piece.x);
  const T* g = static_cast<const T*>(piece.g);
  T* out = static_cast<T*>(piece.out);
  int64_t row = piece.begin / piece.length, offset = piece.begin % piece.length;
  for (int64_t at = piece.begin; at < piece.end; ++row, offset = 0) {
    const int64_t place = row * piece.stride + offset, length = smaller(piece.length - offset, piece.end - at);
    each(Run<T>{x + place, g ? g + place : nullptr, out ? out + place : nullptr, length});
    at += length;
  }
}

template <class Body, class T>
HWY_INLINE Vector<T> load_g(const T* g) {
  if constexpr (Body::kGradient) return load(g);
  return hn::Zero(Tag<T>());
}

template <class T, class Body>
HWY_INLINE void along(const Piece& piece, Body* bodies) {
  const int64_t n = lanes_of<T>();
  int steps = 0;
  auto flush = [&] {
    for (int v = 0; v < 4; ++v) bodies[v].flush();
    steps = 0;
  };
  each_run<T>(piece, [&](const Run<T>& run) {
    const T *x = run.x, *g = run.g;
    int64_t i = 0;
    for (; i + 4 * n <= run.length; i += 4 * n) {
      bodies[0].step(load(x + i), load_g<Body>(g + i));
      bodies[1].step(load(x + i + n), load_g<Body>(g + i + n));
      bodies[2].step(load(x + i + 2 * n), load_g<Body>(g + i + 2 * n));
      bodies[3].step(load(x + i + 3 * n), load_g<Body>(g + i + 3 * n));
      if (++steps == kFlush) flush();
    }
    for (; i + n <= run.length; i += n) bodies[i / n % 4].step(load(x + i), load_g<Body>(g + i));
    if (i < run.length) {
      const size_t rest = size_t(run.length - i);
      Vector<T> last = hn::Zero(Tag<T>());
      if constexpr (Body::kGradient) last = load_some(g + i, rest);
      bodies[3].some(load_some(x + i, rest), last, hn::FirstN(Tag<T>(), rest));
    }
    if (steps > kFlush / 2) flush();
    ++steps;  // for what is left of the run
  });
  flush();
}

template <class T, int kVectors, class Body>
HWY_INLINE void across(const Piece& piece, int64_t column, int64_t count, Body* bodies) {
  const int64_t n = lanes_of<T>();
  const size_t rest = size_t(count - (kVectors - 1) * n);
  const T* x = static_cast<const T*>(piece.x) + column;
  const T* g = static_cast<const T*>(piece.g) + (piece.g ? column : 0);
  int steps = 0;
  for (int64_t row = piece.begin; row < piece.end; ++row) {
    const int64_t at = row * piece.stride;
    for (int v = 0; v < kVectors - 1; ++v)
      bodies[v].step(load(x + at + v * n), load_g<Body>(g + at + v * n));
    constexpr int last = kVectors - 1;
    if (rest == size_t(n)) {
      bodies[last].step(load(x + at + last * n), load_g<Body>(g + at + last * n));
    } else {
      Vector<T> some = hn::Zero(Tag<T>());
      if constexpr (Body::kGradient) some = load_some(g + at + last * n, rest);
      bodies[last].step(load_some(x + at + last * n, rest), some);
    }
    if (++steps < kFlush) continue;
    for (int v = 0; v < kVectors; ++v) bodies[v].flush();
    steps = 0;
  }
  for (int v = 0; v < kVectors; ++v) bodies[v].flush();
}

template <class T, int kVectors, class Body>
void columns(const Piece& piece, const Known& known, int64_t column, int64_t count, Seen* out) {
  const int64_t n = lanes_of<T>();
  auto body = [&](int64_t v) { return Body(known, column + v * n, count - v * n); };
  if constexpr (kVectors == 1) {
    Body bodies[1] = {body(0)};
    across<T, 1>(piece, column, count, bodies);
    bodies[0].store(out, count);
  } else if constexpr (kVectors == 2) {
    Body bodies[2] = {body(0), body(1)};
    across<T, 2>(piece, column, count, bodies);
    for (int v = 0; v < 2; ++v) bodies[v].store(out + v * n, smaller(n, count - v * n));
  } else {
    Body bodies[4] = {body(0), body(1), body(2), body(3)};
    across<T, 4>(piece, column, count, bodies);
    for (int v = 0; v < 4; ++v) bodies[v].store(out + v * n, smaller(n, count - v * n));
  }
}

// A body over a piece: what it found, per channel.
template <class T, class Body>
void pass(const Piece& piece, const Known& known, Seen* out) {
  if (!piece.columns) {
    Body bodies[4] = {Body(known, 0, 0), Body(known, 0, 0), Body(known, 0, 0), Body(known, 0, 0)};
    along<T>(piece, bodies);
    bodies[0].absorb(bodies[1]);
    bodies[2].absorb(bodies[3]);
    bodies[0].absorb(bodies[2]);
    bodies[0].reduce(out);
    return;
  }
  const int64_t n = lanes_of<T>();
  for (int64_t column = 0; column < piece.columns;) {
    const int64_t left = piece.columns - column;
    if (left > 3 * n) {
      columns<T, 4, Body>(piece, known, column, smaller(left, 4 * n), out + column);
      column += 4 * n;
    } else if (left > n) {
      columns<T, 2, Body>(piece, known, column, smaller(left, 2 * n), out + column);
      column += 2 * n;
    } else {
      columns<T, 1, Body>(piece, known, column, left, out + column);
      column += n;
    }
  }
}

// One run written by `map`, past the caches where asked for.
template <class T, class Map>
HWY_INLINE void write_run(const Run<T>& run, bool past, const Map& map) {
  const int64_t n = lanes_of<T>(), bytes = n * int64_t(sizeof(T));
  auto some = [&](int64_t i, size_t count) {
    Vector<T> g = hn::Zero(Tag<T>());
    if constexpr (Map::kGradient) g = load_some(run.g + i, count);
    store_some(map(load_some(run.x + i, count), g), run.out + i, count);
  };
  int64_t i = 0;
  if (past) {
    i = smaller(run.length, int64_t(-reinterpret_cast<uintptr_t>(run.out) & uintptr_t(bytes - 1)) / int64_t(sizeof(T)));
    if (i) some(0, size_t(i));
    for (; i + n <= run.length; i += n) stream(map(load(run.x + i), load_g<Map>(run.g + i)), run.out + i);
  } else {
    for (; i + n <= run.length; i += n) store(map(load(run.x + i), load_g<Map>(run.g + i)), run.out + i);
  }
  if (i < run.length) some(i, size_t(run.length - i));
}

// The rows of kVectors vectors of channels, written. Whole vectors may go past the caches.
template <class T, int kVectors, class Map>
void write_columns(const Piece& piece, const Map* maps, int64_t column, int64_t count, bool past) {
  const int64_t n = lanes_of<T>();
  const size_t rest = size_t(count - (kVectors - 1) * n);
  for (int64_t row = piece.begin; row < piece.end; ++row) {
    const int64_t at = row * piece.stride + column;
    const T* x = static_cast<const T*>(piece.x) + at;
    const T* g = piece.g ? static_cast<const T*>(piece.g) + at : nullptr;
    T* out = static_cast<T*>(piece.out) + at;
    for (int v = 0; v < kVectors; ++v) {
      const int64_t i = v * n;
      if (v == kVectors - 1 && rest < size_t(n)) {
        Vector<T> some = hn::Zero(Tag<T>());
        if constexpr (Map::kGradient) some = load_some(g + i, rest);
        store_some(maps[v](load_some(x + i, rest), some), out + i, rest);
      } else if (past) {
        stream(maps[v](load(x + i), load_g<Map>(g + i)), out + i);
      } else {
        store(maps[v](load(x + i), load_g<Map>(g + i)), out + i);
      }
    }
  }
}

// What `map` makes of x and g, written.
template <class T, class Map>
void write(const Piece& piece, const Known& known, const Coefficients& to) {
  if (!piece.columns) {
    const Map map(known, to, 0, 0);
    each_run<T>(piece, [&](const Run<T>& run) { write_run<T>(run, piece.stream, map); });
    return;
  }
  const int64_t n = lanes_of<T>(), bytes = n * int64_t(sizeof(T));
  const bool past = piece.stream && reinterpret_cast<uintptr_t>(piece.out) % uintptr_t(bytes) == 0 && piece.stride % n == 0;
  for (int64_t column = 0; column < piece.columns;) {
    const int64_t left = piece.columns - column;
    auto map = [&](int64_t v) { return Map(known, to, column + v * n, left - v * n); };
    if (left > 3 * n) {
      const Map maps[4] = {map(0), map(1), map(2), map(3)};
      write_columns<T, 4>(piece, maps, column, smaller(left, 4 * n), past);
      column += 4 * n;
    } else {
      const Map maps[1] = {map(0)};
      write_columns<T, 1>(piece, maps, column, smaller(left, n), past);
      column += n;
    }
  }
}

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
