#include "reference.h"

#include <algorithm>
#include <cmath>

namespace reference {
namespace {

const double kPi = std::acos(-1.);

double extreme_constant(int64_t n) {
  return (1 + std::sqrt(kPi * std::log(4.))) / std::sqrt(8 * std::log(double(std::max<int64_t>(n, 2))));
}

// Elements of a chunk of Range.
int64_t chunk_length(const NxNorm& norm, int64_t n) {
  return std::max<int64_t>(2, (n + norm.chunks - 1) / norm.chunks);
}

double factor(const NxNorm& norm, int64_t n) {
  if (norm.correction != 0) return double(norm.correction);
  switch (norm.kind) {
    case NX_L1: return std::sqrt(kPi / 2);
    case NX_RANGE: return 0.35 * extreme_constant(chunk_length(norm, n));
    case NX_L2: return 1;
    default: return extreme_constant(n);
  }
}

// Where the elements of the statistic of sample `s` (0 where all samples share it) and channel `c` lie in (N, C,
// space).
std::vector<int64_t> members(const NxNorm& norm, int64_t s, int64_t c) {
  std::vector<int64_t> found;
  const int64_t samples = norm.instance ? 1 : norm.batch;
  for (int64_t n = s; n < s + samples; ++n)
    for (int64_t p = 0; p < norm.space; ++p) found.push_back((n * norm.channels + c) * norm.space + p);
  return found;
}

// Mean over the chunks of f(largest) - f(smallest) of x, and how many chunks there are.
double mean_span(const NxNorm& norm, const std::vector<double>& x) {
  const auto n = int64_t(x.size()), length = chunk_length(norm, n);
  double spans = 0;
  int64_t chunks = 0;
  for (int64_t at = 0; at < n; at += length, ++chunks) {
    const auto ends = std::minmax_element(x.begin() + at, x.begin() + std::min(at + length, n));
    spans += *ends.second - *ends.first;
  }
  return spans / double(chunks);
}

// The plain statistic of the deviations d.
double statistic(const NxNorm& norm, const std::vector<double>& d) {
  const auto n = double(d.size());
  if (norm.kind == NX_RANGE) return mean_span(norm, d);
  long double squares = 0;  // wider than what is judged by it
  std::vector<double> sizes;
  for (const double each : d) {
    squares += static_cast<long double>(each) * each;
    sizes.push_back(std::fabs(each));
  }
  if (norm.kind == NX_L2) return double(std::sqrt(squares / n));
  std::sort(sizes.rbegin(), sizes.rend());
  const int64_t taken = norm.kind == NX_L1 ? int64_t(d.size()) : norm.kind == NX_LINF ? 1 : norm.k;
  long double sum = 0;
  for (int64_t i = 0; i < taken; ++i) sum += sizes[size_t(i)];
  return double(sum / taken);
}

// (A + B/n) / count of kernels.h.
double ratio(int64_t a, int64_t b, int64_t n, int64_t count) {
  return (double(a) + double(b) / double(n)) / double(count);
}

// The statistic of integers q about the pivot p, n*p - sum = e.
double statistic(const NxNorm& norm, const std::vector<int64_t>& q, int64_t p, int64_t e) {
  const auto n = int64_t(q.size());
  if (norm.kind == NX_RANGE) return mean_span(norm, std::vector<double>(q.begin(), q.end()));
  if (norm.kind == NX_L2) {
    int64_t squares = 0;
    for (const int64_t each : q) squares += (each - p) * (each - p);
    return std::sqrt((double(squares) - double(e) * double(e) / double(n)) / double(n));
  }
  std::vector<int64_t> scaled;  // n (q - mean)
  for (const int64_t each : q) scaled.push_back(n * (each - p) + e);
  std::sort(scaled.begin(), scaled.end(), [](int64_t a, int64_t b) { return std::llabs(a) > std::llabs(b); });
  const int64_t taken = norm.kind == NX_L1 ? n : norm.kind == NX_LINF ? 1 : norm.k;
  int64_t whole = 0, part = 0;
  for (int64_t i = 0; i < taken; ++i) {
    const int64_t sign = scaled[size_t(i)] < 0 ? -1 : 1;
    whole += sign * (scaled[size_t(i)] - e) / n;
    part += sign * e;
  }
  return ratio(whole, part, n, taken);
}

// Calls f(members, channel) for every statistic of a norm.
template <class F>
void for_statistics(const NxNorm& norm, F f) {
  for (int64_t s = 0; s < (norm.instance ? norm.batch : 1); ++s)
    for (int64_t c = 0; c < norm.channels; ++c) f(members(norm, s, c), size_t(c));
}

}  // namespace

std::vector<double> floats(const NxNorm& norm, const std::vector<double>& x, const std::vector<float>& scale,
                           const std::vector<float>& bias) {
  std::vector<double> y(x.size());
  for_statistics(norm, [&](const std::vector<int64_t>& members, size_t c) {
    const auto n = int64_t(members.size());
    long double sum = 0;
    for (const int64_t at : members) sum += x[size_t(at)];
    const auto mean = double(sum / n);
    std::vector<double> d;
    for (const int64_t at : members) d.push_back(x[size_t(at)] - mean);
    const double a = double(scale[c]) / (factor(norm, n) * statistic(norm, d) + double(norm.epsilon));
    for (size_t i = 0; i < members.size(); ++i) y[size_t(members[i])] = d[i] * a + double(bias[c]);
  });
  return y;
}

std::vector<double> bytes(const NxNorm& norm, const std::vector<double>& x, const std::vector<float>& scale,
                          const std::vector<float>& bias) {
  std::vector<double> y(x.size());
  for_statistics(norm, [&](const std::vector<int64_t>& members, size_t c) {
    const auto n = int64_t(members.size());
    std::vector<int64_t> q;
    int64_t sum = 0;
    for (const int64_t at : members) {
      q.push_back(int64_t(x[size_t(at)]));
      sum += q.back();
    }
    const auto p = int64_t(std::rint(double(sum) / double(n)));
    const int64_t e = n * p - sum;
    const float product = float(factor(norm, n)) * float(statistic(norm, q, p, e));
    const float divisor = product + norm.epsilon;
    const float a = scale[c] / divisor;
    const auto offset = float(double(e) / double(n));
    for (size_t i = 0; i < members.size(); ++i) {
      const float deviation = float(q[i] - p) + offset;
      const float scaled = deviation * a;
      const float shifted = scaled + bias[c];
      y[size_t(members[i])] = std::isnan(shifted) ? 0 : std::rint(double(std::clamp(shifted, -128.f, 127.f)));
    }
  });
  return y;
}

}  // namespace reference
