#include <algorithm>
#include <functional>

#include "table.h"

namespace nx::cpu {
namespace {

template <class Work>
int64_t keep(Work* values, int64_t count, int64_t k, double* threshold) {
  if (count < k) return count;
  std::nth_element(values, values + (k - 1), values + count, std::greater<Work>());
  const Work kth = values[k - 1];
  *threshold = kth;
  return std::partition(values, values + k, [kth](Work v) { return v > kth; }) - values;
}

}  // namespace

int64_t keep_largest(float* values, int64_t count, int64_t k, double* threshold) {
  return keep(values, count, k, threshold);
}

int64_t keep_largest(double* values, int64_t count, int64_t k, double* threshold) {
  return keep(values, count, k, threshold);
}

}  // namespace nx::cpu
