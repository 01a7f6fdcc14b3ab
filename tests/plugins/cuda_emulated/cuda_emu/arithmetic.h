// CUDA's arithmetic and bit functions on the host; compile with -ffp-contract=off.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace cuda_emu {

template <class To, class From>
To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// cvt.rni: half to even, saturating, NaN to 0 (for 64 bits to the smallest integer, as PTX has it).
template <class I, class F>
I rounded(F value, F whole) {
  if (value != value) return sizeof(I) == 8 ? std::numeric_limits<I>::min() : I(0);
  if (whole >= F(std::numeric_limits<I>::max())) return std::numeric_limits<I>::max();
  if (whole <= F(std::numeric_limits<I>::min())) return std::numeric_limits<I>::min();
  return I(whole);
}

// The four bytes of two words, one by one.
template <class Byte, class F>
unsigned bytes(unsigned a, unsigned b, F f) {
  unsigned result = 0;
  for (int i = 0; i < 32; i += 8) result |= unsigned(uint8_t(f(int(Byte(a >> i)), int(Byte(b >> i))))) << i;
  return result;
}

template <class Byte>
unsigned sum_of_differences(unsigned a, unsigned b) {
  unsigned sum = 0;
  for (int i = 0; i < 32; i += 8) sum += unsigned(abs(int(Byte(a >> i)) - int(Byte(b >> i))));
  return sum;
}

inline int clamp_byte(int value) { return value < -128 ? -128 : value > 127 ? 127 : value; }

}  // namespace cuda_emu

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline double __dsqrt_rn(double a) { return sqrt(a); }

inline int __float2int_rn(float a) { return cuda_emu::rounded<int>(a, nearbyintf(a)); }
inline int __float2int_rz(float a) { return cuda_emu::rounded<int>(a, truncf(a)); }
inline int __double2int_rn(double a) { return cuda_emu::rounded<int>(a, nearbyint(a)); }
inline long long __double2ll_rn(double a) { return cuda_emu::rounded<long long>(a, nearbyint(a)); }
inline long long __float2ll_rn(float a) { return cuda_emu::rounded<long long>(a, nearbyintf(a)); }
inline float __int2float_rn(int a) { return float(a); }
inline float __uint2float_rn(unsigned a) { return float(a); }
inline float __ll2float_rn(long long a) { return float(a); }
inline double __ll2double_rn(long long a) { return double(a); }
inline double __int2double_rn(int a) { return double(a); }
inline float __double2float_rn(double a) { return float(a); }

inline int __float_as_int(float a) { return cuda_emu::bits<int>(a); }
inline unsigned __float_as_uint(float a) { return cuda_emu::bits<unsigned>(a); }
inline float __int_as_float(int a) { return cuda_emu::bits<float>(a); }
inline float __uint_as_float(unsigned a) { return cuda_emu::bits<float>(a); }
inline long long __double_as_longlong(double a) { return cuda_emu::bits<long long>(a); }
inline double __longlong_as_double(long long a) { return cuda_emu::bits<double>(a); }

inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
inline int __clz(int a) { return a ? __builtin_clz(unsigned(a)) : 32; }
inline int __clzll(long long a) { return a ? __builtin_clzll((unsigned long long)a) : 64; }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((((unsigned long long)high << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned(((unsigned long long)high << 32 | low) >> (shift & 31));
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  unsigned long long both = (unsigned long long)b << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    unsigned choice = selector >> 4 * i & 15, byte = unsigned(both >> 8 * (choice & 7)) & 255;
    if (choice & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << 8 * i;
  }
  return result;
}

inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 32; i += 8) c += int(int8_t(a >> i)) * int(int8_t(b >> i));
  return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 32; i += 8) c += unsigned(uint8_t(a >> i)) * unsigned(uint8_t(b >> i));
  return c;
}
inline unsigned __vadd4(unsigned a, unsigned b) {
  return cuda_emu::bytes<uint8_t>(a, b, [](int x, int y) { return x + y; });
}
inline unsigned __vsub4(unsigned a, unsigned b) {
  return cuda_emu::bytes<uint8_t>(a, b, [](int x, int y) { return x - y; });
}
inline unsigned __vaddss4(unsigned a, unsigned b) {
  return cuda_emu::bytes<int8_t>(a, b, [](int x, int y) { return cuda_emu::clamp_byte(x + y); });
}
inline unsigned __vsubss4(unsigned a, unsigned b) {
  return cuda_emu::bytes<int8_t>(a, b, [](int x, int y) { return cuda_emu::clamp_byte(x - y); });
}
inline unsigned __vmaxs4(unsigned a, unsigned b) {
  return cuda_emu::bytes<int8_t>(a, b, [](int x, int y) { return x > y ? x : y; });
}
inline unsigned __vmins4(unsigned a, unsigned b) {
  return cuda_emu::bytes<int8_t>(a, b, [](int x, int y) { return x < y ? x : y; });
}
inline unsigned __vmaxu4(unsigned a, unsigned b) {
  return cuda_emu::bytes<uint8_t>(a, b, [](int x, int y) { return x > y ? x : y; });
}
inline unsigned __vminu4(unsigned a, unsigned b) {
  return cuda_emu::bytes<uint8_t>(a, b, [](int x, int y) { return x < y ? x : y; });
}
inline unsigned __vabsdiffs4(unsigned a, unsigned b) {
  return cuda_emu::bytes<int8_t>(a, b, [](int x, int y) { return abs(x - y); });
}
inline unsigned __vabsdiffu4(unsigned a, unsigned b) {
  return cuda_emu::bytes<uint8_t>(a, b, [](int x, int y) { return abs(x - y); });
}
inline unsigned __vcmpeq4(unsigned a, unsigned b) {
  return cuda_emu::bytes<uint8_t>(a, b, [](int x, int y) { return x == y ? 255 : 0; });
}
inline unsigned __vcmpgts4(unsigned a, unsigned b) {
  return cuda_emu::bytes<int8_t>(a, b, [](int x, int y) { return x > y ? 255 : 0; });
}
inline unsigned __vcmplts4(unsigned a, unsigned b) {
  return cuda_emu::bytes<int8_t>(a, b, [](int x, int y) { return x < y ? 255 : 0; });
}
inline unsigned __vsads4(unsigned a, unsigned b) { return cuda_emu::sum_of_differences<int8_t>(a, b); }
inline unsigned __vsadu4(unsigned a, unsigned b) { return cuda_emu::sum_of_differences<uint8_t>(a, b); }

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
