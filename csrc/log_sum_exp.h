// The log-sum-exp of numbers that come by and by (Milakov and Gimelshein 2018, arXiv:1805.02867).
#pragma once
#include "special.h"

namespace vk {

// What is known of some numbers: the largest one, and the sum of e^{number - top}. NaN passes by `top`, as every
// comparison with it is false, and is caught by `total`.
template <class T>
struct LogSumExp {
  T top, total;
};

// of no number; a top of -inf would make a NaN of numbers that are -inf themselves
template <class T>
VK_FN LogSumExp<T> lse_none() {
  return {-Real<T>::kLargest, 0};
}
template <int N, class T>
VK_FN LogSumExp<T> lse_add(LogSumExp<T> s, const T (&numbers)[N]) {
  T top = s.top, total = 0;
  VK_UNROLL
  for (int k = 0; k < N; ++k) top = numbers[k] > top ? numbers[k] : top;
  VK_UNROLL
  for (int k = 0; k < N; ++k) total += exp_or_zero(numbers[k] - top);
  return {top, fma(s.total, exp_or_zero(s.top - top), total)};
}
template <class T>
VK_FN LogSumExp<T> lse_join(LogSumExp<T> a, LogSumExp<T> b) {
  const T top = a.top > b.top ? a.top : b.top;
  return {top, fma(a.total, exp_or_zero(a.top - top), b.total * exp_or_zero(b.top - top))};
}

}  // namespace vk
