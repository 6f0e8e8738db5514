// e^x - 1, for host and device, float and double: like scalar.h, a plain loop over it vectorises.
#pragma once
#include "scalar.h"

namespace vk {

// e^x - 1 and e^x - 1 - x, each to full relative accuracy, however small x is
template <class T>
struct Expm1 {
  T value, minus_x;
};
template <class T>
VK_FN Expm1<T> expm1_pair(T x) {
  using R = Real<T>;
  Reduced<T> a = reduce_ln2(at_most(at_least(x, R::kLow), R::kInfinite));
  T half = exp2_integer(a.magic - 1);     // 2^(k-1)
  T tail = a.r * a.r * R::exp_tail(a.r);  // e^r - 1 - r
  T power_minus_1 = half * 2 - 1;
  // e^x - 1 = 2^k (r + tail) + (2^k - 1). At k = 0, where r = x exactly, nothing is added to r + tail.
  T value = fma(half, 2 * (a.r + tail), power_minus_1);
  T minus_x = fma(half, 2 * tail, fma(half, 2 * a.r, power_minus_1 - x));
  // 2^k is infinite before e^x is
  T large = half * (2 * (a.r + tail + 1));
  return {x > R::kHigh ? large : value, x > R::kHigh ? large : minus_x};
}

// e^x - 1 for x <= 0, to full relative accuracy: the value of expm1_pair, where nothing overflows
template <class T>
VK_FN T expm1_nonpositive(T x) {
  Reduced<T> a = reduce_ln2(at_least(x, Real<T>::kLow));
  T half = exp2_integer(a.magic - 1);
  return fma(half, 2 * fma(a.r * a.r, Real<T>::exp_tail(a.r), a.r), half * 2 - 1);
}

}  // namespace vk
