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

// Of rows of channels side by side that are gone over at once, about: they stay in the second-level cache. 32 and
// 64 KiB took 2 to 8 % longer.
constexpr int64_t kBlockBytes = 128 << 10;

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

template <class Body, class T>
HWY_INLINE Vector<T> load_some_g(const T* g, size_t count) {
  if constexpr (Body::kGradient) return load_some(g, count);
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
      bodies[3].some(load_some(x + i, rest), load_some_g<Body>(g + i, rest), hn::FirstN(Tag<T>(), rest));
    }
    if (steps > kFlush / 2) flush();
    ++steps;  // for what is left of the run
  });
  flush();
}

// What is fetched while rows are gone over: `bytes` a row, one after the other, from `ahead` bytes before the first row
// on.
class Fetched {
 public:
  HWY_INLINE Fetched(ptrdiff_t ahead, ptrdiff_t between, int64_t bytes)
      : ahead_(ahead), between_(between), bytes_(bytes) {}

  HWY_INLINE void fetch(const void* row) const {
    if (!ahead_) return;
    const char* at = static_cast<const char*>(row) + ahead_;
    for (int64_t i = 0; i < bytes_; i += 64) __builtin_prefetch(at + i, 0, 2);
  }

  // To the next row, which itself lies further on.
  HWY_INLINE void go() { ahead_ -= ahead_ ? between_ : 0; }

 private:
  ptrdiff_t ahead_, between_;
  int64_t bytes_;
};

// The rows from `begin` to `end` of four whole vectors of channels. The bodies are named, so that they stay in
// registers. Each row fetches as much of the next block, in the order of memory: of rows of more than four vectors
// every step is to a line far from the last, which took twice as long.
template <class T, class Body>
void across_four(const Piece& piece, int64_t begin, int64_t end, int64_t column, Body* kept) {
  const int64_t n = lanes_of<T>(), bytes = 4 * n * int64_t(sizeof(T));
  const ptrdiff_t ahead = (end * piece.stride - begin * piece.stride - column) * int64_t(sizeof(T)) +
                          column / (4 * n) * (end - begin) * bytes;
  Fetched next(piece.columns > 4 * n && end < piece.end ? ahead : 0, piece.stride * int64_t(sizeof(T)) - bytes, bytes);
  const T* x = static_cast<const T*>(piece.x) + column + begin * piece.stride;
  const T* g = Body::kGradient ? static_cast<const T*>(piece.g) + column + begin * piece.stride : x;
  Body first = kept[0], second = kept[1], third = kept[2], fourth = kept[3];
  while (begin < end) {
    const int64_t rows = smaller(kFlush, end - begin);
    for (int64_t i = 0; i < rows; ++i, x += piece.stride, g += piece.stride) {
      first.step(load(x), load_g<Body>(g));
      second.step(load(x + n), load_g<Body>(g + n));
      third.step(load(x + 2 * n), load_g<Body>(g + 2 * n));
      fourth.step(load(x + 3 * n), load_g<Body>(g + 3 * n));
      next.fetch(x);
      if constexpr (Body::kGradient) next.fetch(g);
      next.go();
    }
    first.flush();
    second.flush();
    third.flush();
    fourth.flush();
    begin += rows;
  }
  kept[0] = first;
  kept[1] = second;
  kept[2] = third;
  kept[3] = fourth;
}

// The same of one vector, of `count` channels.
template <class T, class Body>
void across_one(const Piece& piece, int64_t begin, int64_t end, int64_t column, int64_t count, Body* kept) {
  const bool whole = count >= lanes_of<T>();
  const T* x = static_cast<const T*>(piece.x) + column + begin * piece.stride;
  const T* g = Body::kGradient ? static_cast<const T*>(piece.g) + column + begin * piece.stride : x;
  Body body = *kept;
  while (begin < end) {
    const int64_t rows = smaller(kFlush, end - begin);
    for (int64_t i = 0; i < rows; ++i, x += piece.stride, g += piece.stride) {
      if (whole)
        body.step(load(x), load_g<Body>(g));
      else
        body.step(load_some(x, size_t(count)), load_some_g<Body>(g, size_t(count)));
    }
    body.flush();
    begin += rows;
  }
  *kept = body;
}

// A body over channels side by side: block after block of rows, so that memory is read in its order.
template <class T, class Body>
void pass_columns(const Piece& piece, const Known& known, Seen* out) {
  const int64_t n = lanes_of<T>(), vectors = (piece.columns + n - 1) / n;
  Body bodies[kColumnBytes / 16];
  for (int64_t v = 0; v < vectors; ++v) bodies[v] = Body(known, v * n, piece.columns - v * n);
  const int64_t rows = kBlockBytes / int64_t(sizeof(T)) / piece.columns / kFlush * kFlush + kFlush;
  for (int64_t begin = piece.begin; begin < piece.end; begin += rows) {
    const int64_t end = smaller(begin + rows, piece.end);
    int64_t v = 0;
    for (; (v + 4) * n <= piece.columns; v += 4) across_four<T>(piece, begin, end, v * n, bodies + v);
    for (; v < vectors; ++v) across_one<T>(piece, begin, end, v * n, piece.columns - v * n, bodies + v);
  }
  for (int64_t v = 0; v < vectors; ++v) bodies[v].store(out + v * n, smaller(n, piece.columns - v * n));
}

// A body over a piece: what it found, per channel.
template <class T, class Body>
void pass(const Piece& piece, const Known& known, Seen* out) {
  if (piece.columns) return pass_columns<T, Body>(piece, known, out);
  Body bodies[4];
  for (Body& body : bodies) body = Body(known, 0, 0);
  along<T>(piece, bodies);
  bodies[0].absorb(bodies[1]);
  bodies[2].absorb(bodies[3]);
  bodies[0].absorb(bodies[2]);
  bodies[0].reduce(out);
}

// One run written by `map`, past the caches where asked for.
template <class T, class Map>
HWY_INLINE void write_run(const Run<T>& run, bool past, const Map& map) {
  const int64_t n = lanes_of<T>(), bytes = n * int64_t(sizeof(T));
  auto some = [&](int64_t i, size_t count) {
    store_some(map(load_some(run.x + i, count), load_some_g<Map>(run.g + i, count)), run.out + i, count);
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

// One row of channels side by side, written. Whole vectors may go past the caches.
template <class T, class Map>
HWY_INLINE void write_row(const Piece& piece, int64_t row, const Map* maps, bool past) {
  const int64_t n = lanes_of<T>(), at = row * piece.stride;
  const T* x = static_cast<const T*>(piece.x) + at;
  const T* g = Map::kGradient ? static_cast<const T*>(piece.g) + at : x;
  T* out = static_cast<T*>(piece.out) + at;
  int64_t i = 0;
  if (past) {
    for (; i + n <= piece.columns; i += n) stream((*maps++)(load(x + i), load_g<Map>(g + i)), out + i);
  } else {
    for (; i + n <= piece.columns; i += n) store((*maps++)(load(x + i), load_g<Map>(g + i)), out + i);
  }
  const size_t rest = size_t(piece.columns - i);
  if (rest) store_some((*maps)(load_some(x + i, rest), load_some_g<Map>(g + i, rest)), out + i, rest);
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
  const bool past =
      piece.stream && reinterpret_cast<uintptr_t>(piece.out) % uintptr_t(bytes) == 0 && piece.stride % n == 0;
  const int64_t vectors = (piece.columns + n - 1) / n;
  Map maps[kColumnBytes / 16];
  for (int64_t v = 0; v < vectors; ++v) maps[v] = Map(known, to, v * n, piece.columns - v * n);
  for (int64_t row = piece.begin; row < piece.end; ++row) write_row<T>(piece, row, maps, past);
}

}  // namespace
}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
