// Elements and vectors: how a vector of W elements is read from memory, widened to float32 and narrowed again.
#pragma once

#include "cuda/memory/device.cuh"

namespace nx {

// A vector of W elements of T as it lies in memory: loaded and stored by one instruction.
template <class T, int W>
using Raw = typename RawBits<int(sizeof(T)) * W>::Type;

template <class To, class From>
__device__ inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(static_cast<void*>(&to), static_cast<const void*>(&from), sizeof(To));
  return to;
}

// The 32-bit words of a vector.
__device__ inline void to_words(uint4 raw, unsigned (&word)[4]) {
  word[0] = raw.x;
  word[1] = raw.y;
  word[2] = raw.z;
  word[3] = raw.w;
}
__device__ inline void to_words(uint2 raw, unsigned (&word)[2]) {
  word[0] = raw.x;
  word[1] = raw.y;
}
__device__ inline void to_words(unsigned raw, unsigned (&word)[1]) { word[0] = raw; }
__device__ inline uint4 from_words(const unsigned (&word)[4]) { return make_uint4(word[0], word[1], word[2], word[3]); }
__device__ inline uint2 from_words(const unsigned (&word)[2]) { return make_uint2(word[0], word[1]); }
__device__ inline unsigned from_words(const unsigned (&word)[1]) { return word[0]; }

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(__half v) { return __half2float(v); }
__device__ inline float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

// Rounds to nearest even; what is too large becomes an infinity.
template <class T>
__device__ inline T from_float(float v);
template <>
__device__ inline float from_float<float>(float v) {
  return v;
}
template <>
__device__ inline __half from_float<__half>(float v) {
  return __float2half_rn(v);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}

// One 32-bit word <-> its elements.
__device__ inline void widen_word(unsigned word, float* f, float) { f[0] = __uint_as_float(word); }
__device__ inline void widen_word(unsigned word, float* f, __half) {
  const float2 pair = __half22float2(bits_as<__half2>(word));
  f[0] = pair.x;
  f[1] = pair.y;
}
__device__ inline void widen_word(unsigned word, float* f, __nv_bfloat16) {
  f[0] = __uint_as_float(word << 16);
  f[1] = __uint_as_float(word & 0xffff0000u);
}
__device__ inline unsigned narrow_word(const float* f, float) { return __float_as_uint(f[0]); }
__device__ inline unsigned narrow_word(const float* f, __half) {
  return bits_as<unsigned>(__floats2half2_rn(f[0], f[1]));
}
__device__ inline unsigned narrow_word(const float* f, __nv_bfloat16) {
  return bits_as<unsigned>(__floats2bfloat162_rn(f[0], f[1]));
}

template <class T, int W>
__device__ inline void widen(Raw<T, W> raw, float (&f)[W]) {
  if constexpr (sizeof(T) * W < 4) {
    f[0] = to_float(bits_as<T>(raw));
  } else {
    constexpr int per_word = 4 / sizeof(T);
    unsigned word[W / per_word];
    to_words(raw, word);
#pragma unroll
    for (int i = 0; i < W / per_word; ++i) widen_word(word[i], f + i * per_word, T());
  }
}

template <class T, int W>
__device__ inline Raw<T, W> narrow(const float (&f)[W]) {
  if constexpr (sizeof(T) * W < 4) {
    return bits_as<Raw<T, W>>(from_float<T>(f[0]));
  } else {
    constexpr int per_word = 4 / sizeof(T);
    unsigned word[W / per_word];
#pragma unroll
    for (int i = 0; i < W / per_word; ++i) word[i] = narrow_word(f + i * per_word, T());
    return from_words(word);
  }
}

}  // namespace nx
