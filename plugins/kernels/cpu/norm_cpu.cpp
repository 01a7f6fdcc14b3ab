// The norms on the CPU, plainly: one group after the other in float64. A first version.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "norm.h"

namespace nx {
namespace {

float half_to_float(uint16_t h) {
  int exponent = h >> 10 & 31, mantissa = h & 1023;
  float magnitude = exponent == 31 ? (mantissa ? std::numeric_limits<float>::quiet_NaN() : INFINITY)
                    : exponent     ? std::ldexp(float(mantissa + 1024), exponent - 25)
                                   : std::ldexp(float(mantissa), -24);
  return h >> 15 ? -magnitude : magnitude;
}

uint16_t half_of(double v) {
  if (v != v) return 0x7E00;
  uint16_t sign = std::signbit(v) ? 0x8000 : 0;
  v = std::fabs(v);
  if (v >= 65520) return sign | 0x7C00;
  if (v < std::ldexp(1.0, -14)) return sign | uint16_t(std::nearbyint(std::ldexp(v, 24)));
  int exponent;
  std::frexp(v, &exponent);
  double scaled = std::nearbyint(std::ldexp(v, 11 - exponent));  // 1024 .. 2048
  return sign | uint16_t(((exponent + 13) << 10) + int(scaled));
}

double load(const void* x, int32_t type, int64_t i) {
  switch (type) {
    case NX_FLOAT32: return static_cast<const float*>(x)[i];
    case NX_FLOAT64: return static_cast<const double*>(x)[i];
    case NX_INT8: return static_cast<const int8_t*>(x)[i];
    case NX_FLOAT16: return half_to_float(static_cast<const uint16_t*>(x)[i]);
    default: {
      uint32_t bits = uint32_t(static_cast<const uint16_t*>(x)[i]) << 16;
      float v;
      std::memcpy(&v, &bits, 4);
      return v;
    }
  }
}

void store(void* y, int32_t type, int64_t i, double v) {
  switch (type) {
    case NX_FLOAT32: static_cast<float*>(y)[i] = float(v); return;
    case NX_FLOAT64: static_cast<double*>(y)[i] = v; return;
    case NX_INT8: static_cast<int8_t*>(y)[i] = int8_t(v); return;
    case NX_FLOAT16: static_cast<uint16_t*>(y)[i] = half_of(v); return;
    default: {
      float f = float(v);
      uint32_t bits;
      std::memcpy(&bits, &f, 4);
      static_cast<uint16_t*>(y)[i] = v != v ? 0x7FC0 : uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    }
  }
}

double statistic(const NxNorm& norm, std::vector<double> d) {
  int64_t n = int64_t(d.size());
  double sum = 0;
  if (norm.kind == NX_RANGE) {
    Chunks c = chunk_layout(n, norm.chunks);
    for (int64_t i = 0; i < n; i += c.length) {
      auto ends = std::minmax_element(d.begin() + i, d.begin() + std::min(n, i + c.length));
      sum += *ends.second - *ends.first;
    }
    return sum / double(c.count);
  }
  for (double& v : d) v = std::fabs(v);
  int64_t k = norm.kind == NX_TOPK ? norm.k : norm.kind == NX_LINF ? 1 : n;
  std::nth_element(d.begin(), d.begin() + (k - 1), d.end(), std::greater<double>());
  for (int64_t i = 0; i < k; ++i) sum += norm.kind == NX_L2 ? d[i] * d[i] : d[i];
  return norm.kind == NX_L2 ? std::sqrt(sum / double(n)) : sum / double(k);
}

// kernels.h, int8.
void integers(const NxNorm& norm, std::vector<double>& q, float scale, float bias) {
  int64_t n = int64_t(q.size()), total = 0;
  for (double v : q) total += int64_t(v);
  int64_t p = int64_t(std::nearbyint(double(total) / double(n))), e = n * p - total;
  int64_t a = 0, b = 0, count = n;
  std::vector<int64_t> r(q.size());
  for (size_t i = 0; i < q.size(); ++i) r[i] = int64_t(q[i]) - p;
  double statistic;
  if (norm.kind == NX_RANGE) {
    Chunks c = chunk_layout(n, norm.chunks);
    for (int64_t i = 0; i < n; i += c.length) {
      auto ends = std::minmax_element(r.begin() + i, r.begin() + std::min(n, i + c.length));
      a += *ends.second - *ends.first;
    }
    count = c.count;
  } else if (norm.kind == NX_L2) {
    for (int64_t v : r) a += v * v;
  } else {
    std::vector<int64_t> far(r);
    for (int64_t& v : far) v = n * v + e;
    count = norm.kind == NX_L1 ? n : norm.kind == NX_TOPK ? norm.k : 1;
    std::nth_element(far.begin(), far.begin() + (count - 1), far.end(),
                     [](int64_t s, int64_t t) { return std::llabs(s) > std::llabs(t); });
    for (int64_t i = 0; i < count; ++i) {
      int64_t whole = (far[i] - e) / n, side = far[i] >= 0 ? 1 : -1;
      a += side * whole, b += side * e;
    }
  }
  if (norm.kind == NX_L2)
    statistic = std::sqrt((double(a) - double(e) * double(e) / double(n)) / double(n));
  else
    statistic = (double(a) + double(b) / double(n)) / double(count);
  float slope = scale / (float(factor(norm)) * float(statistic) + norm.epsilon), shift = float(double(e) / double(n));
  for (size_t i = 0; i < q.size(); ++i) {
    float y = (float(r[i]) + shift) * slope + bias;
    q[i] = y != y ? 0 : std::nearbyint(std::min(std::max(y, -128.0f), 127.0f));
  }
}

void floats(const NxNorm& norm, std::vector<double>& x, double scale, double bias) {
  double mean = 0;
  for (double v : x) mean += v;
  mean /= double(x.size());
  std::vector<double> d(x);
  for (double& v : d) v -= mean;
  double stat = statistic(norm, d), a = scale / (factor(norm) * stat + norm.epsilon);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::isfinite(mean) ? d[i] * a + bias : mean - mean;
}

}  // namespace
}  // namespace nx

extern "C" {

size_t nx_cpu_workspace(const NxNorm*) { return 0; }

const char* nx_cpu_target(void) { return "SSE2"; }

int32_t nx_cpu_norm(const NxNorm* norm, const void* x, const void* scale, const void* bias, void* y, void*, size_t,
                    const void*) {
  using namespace nx;
  if (int32_t status = nx_check(norm)) return status;
  if (norm->layout != NX_LINEAR) return NX_UNSUPPORTED;
  if (empty(*norm)) return NX_OK;
  if (!x || !scale || !bias || !y) return NX_BAD_ARGUMENT;
  int64_t sample = norm->channels * norm->space, count = groups(*norm), runs = norm->instance ? 1 : norm->batch;
  int64_t x_stride = norm->x_stride ? norm->x_stride : sample, y_stride = norm->y_stride ? norm->y_stride : sample;
  for (int64_t g = 0; g < count; ++g) {
    int64_t c = g % norm->channels, first = norm->instance ? g / norm->channels : 0;
    std::vector<double> values;
    for (int64_t r = 0; r < runs; ++r)
      for (int64_t i = 0; i < norm->space; ++i)
        values.push_back(load(x, norm->type, (first + r) * x_stride + c * norm->space + i));
    int32_t vectors = norm->type == NX_FLOAT64 ? NX_FLOAT64 : NX_FLOAT32;
    double s = load(scale, vectors, c), b = load(bias, vectors, c);
    norm->type == NX_INT8 ? integers(*norm, values, float(s), float(b)) : floats(*norm, values, s, b);
    for (int64_t r = 0, at = 0; r < runs; ++r)
      for (int64_t i = 0; i < norm->space; ++i)
        store(y, norm->type, (first + r) * y_stride + c * norm->space + i, values[at++]);
  }
  return NX_OK;
}

}  // extern "C"
