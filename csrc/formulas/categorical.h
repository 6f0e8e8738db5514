// Categorical likelihood over levels: vae_kernels/formulas/categorical.py has the maths.
#pragma once
#include "scalar.h"

namespace vk {

// What is known of some of a position's logits: the largest one, and the sum of e^{logit - top}. NaN passes by `top`,
// as every comparison with it is false, and is caught by `total`.
template <class T>
struct LogSumExp {
  T top, total;
};

struct categorical {
  // of no logit; -inf would make a NaN of logits that are -inf themselves
  template <class T>
  VK_FN LogSumExp<T> none() {
    return {sizeof(T) == 4 ? T(-3.4028234663852886e38) : T(-1.7976931348623157e308), 0};
  }
  // e^x for x <= 0: 0 where it is too small for a number, -inf above all
  template <class T>
  VK_FN T exp_or_zero(T x) {
    const T e = exp_nonpositive(x);
    return x < Real<T>::kLow ? T(0) : e;
  }

  template <int N, class T>
  VK_FN LogSumExp<T> add(LogSumExp<T> s, const T (&logits)[N]) {
    T top = s.top, total = 0;
    VK_UNROLL
    for (int k = 0; k < N; ++k) top = logits[k] > top ? logits[k] : top;
    VK_UNROLL
    for (int k = 0; k < N; ++k) total += exp_or_zero(logits[k] - top);
    return {top, fma(s.total, exp_or_zero(s.top - top), total)};
  }
  template <class T>
  VK_FN LogSumExp<T> join(LogSumExp<T> a, LogSumExp<T> b) {
    const T top = a.top > b.top ? a.top : b.top;
    return {top, fma(a.total, exp_or_zero(a.top - top), b.total * exp_or_zero(b.top - top))};
  }

  // -log p of the level that has this logit; total >= 1
  template <class T>
  VK_FN T nll(LogSumExp<T> s, T logit) {
    return (s.top - logit) + log1p(s.total - 1);
  }
  // softmax times total
  template <class T>
  VK_FN T weight(T logit, T top) {
    return exp_or_zero(logit - top);
  }
};

}  // namespace vk
