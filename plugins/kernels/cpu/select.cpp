// Selection of the largest of some values. Up to kFew of them are ranked by counting, without a branch: std::sort and
// std::nth_element of a dozen values cost 0.2 us each in mispredicted branches, as much as a pass over 3,000 elements.
#include <algorithm>
#include <functional>

#include "table.h"

namespace nx::cpu {
namespace {

constexpr int64_t kFew = 40;

// How many values come before the one at `at` in descending order, equal ones in the order they have.
template <class W>
int32_t rank(const W* values, int64_t count, int64_t at) {
  const W value = values[at];
  int32_t before = 0;
  for (int64_t i = 0; i < count; ++i) before += values[i] > value;
  for (int64_t i = 0; i < at; ++i) before += values[i] == value;
  return before;
}

template <class W>
int64_t keep(W* values, int64_t count, int64_t k, double* threshold) {
  if (count < k) return count;
  std::nth_element(values, values + (k - 1), values + count, std::greater<W>());
  const W kth = values[k - 1];
  *threshold = kth;
  return std::partition(values, values + k, [kth](W v) { return v > kth; }) - values;
}

template <class W>
W kth(W* values, int64_t count, int64_t k) {
  if (count <= kFew)
    for (int64_t i = 0; i < count; ++i)
      if (rank(values, count, i) == k - 1) return values[i];
  std::nth_element(values, values + (k - 1), values + count, std::greater<W>());
  return values[k - 1];
}

template <class W>
double sum_of_few(const W* values, int64_t count, int64_t k) {
  W sorted[kFew];
  for (int64_t i = 0; i < count; ++i) sorted[rank(values, count, i)] = values[i];
  double sum = 0;
  for (int64_t i = 0; i < std::min(count, k); ++i) sum += double(sorted[i]);
  return sum;
}

// Carries what each addition rounds away (Kahan): thousands of doubles may be summed here.
template <class W>
double sum(W* values, int64_t count, int64_t k) {
  if (count <= kFew) return sum_of_few(values, count, k);
  if (count > k) std::nth_element(values, values + (k - 1), values + count, std::greater<W>());
  std::sort(values, values + std::min(count, k), std::greater<W>());
  double sum = 0, carry = 0;
  for (int64_t i = 0; i < std::min(count, k); ++i) {
    const double term = double(values[i]) - carry, next = sum + term;
    carry = (next - sum) - term;
    sum = next;
  }
  return sum;
}

}  // namespace

int64_t keep_largest(float* v, int64_t count, int64_t k, double* threshold) { return keep(v, count, k, threshold); }
int64_t keep_largest(double* v, int64_t count, int64_t k, double* threshold) { return keep(v, count, k, threshold); }
float kth_largest(float* v, int64_t count, int64_t k) { return kth(v, count, k); }
double kth_largest(double* v, int64_t count, int64_t k) { return kth(v, count, k); }
double sum_of_largest(float* v, int64_t count, int64_t k) { return sum(v, count, k); }
double sum_of_largest(double* v, int64_t count, int64_t k) { return sum(v, count, k); }

}  // namespace nx::cpu
