// -log ZINB(x; log_mean, log_inverse_dispersion, dropout_logits): vae_kernels/formulas/zinb.py has the maths.
#pragma once
#include "formula.h"
#include "formulas/negative_binomial.h"

namespace vk {

struct zinb {
  static constexpr int parameters = 3;  // log_mean, log_inverse_dispersion, dropout_logits
  static constexpr bool counts = true;

  template <class T>
  VK_FN PlusLog1p<T> nll(T x, const T (&p)[3], T (&grad)[3]) {
    return x == 0 ? none(p, grad) : some(x, p, grad);
  }

  using not_dropped = negative_binomial;

  template <class T>
  VK_FN PlusLog1p<T> none(const T (&p)[3], T (&grad)[3]) {  // x = 0
    T by[2];
    const T q[2] = {p[0], p[1]}, n = negative_binomial::none(q, by);
    return none(n, by, p[2], grad);
  }

  // n is the negative binomial's, with its gradient
  template <class T>
  VK_FN PlusLog1p<T> none(T n, const T (&by)[2], T d, T (&grad)[3]) {
    const T far = at_least(at_most(-d, n) - 60, T(0));  // p(0) is about e^-(60 + far): both of its terms times e^far
    const T e = exp_nonpositive(minus_absolute(d) + far);
    const ExpPair<T> zero = exp_pair(far - n);
    const bool over = d > 0;
    const T mine = over ? e : T(1), sum = over ? fma(zero.power, e, T(1)) : e + zero.power;
    const T of_both = 1 / (sum * (1 + e)), inverse = of_both * (1 + e) * mine;
    const T share = zero.power * inverse;  // of the negative binomial in p(0)
    grad[0] = share * by[0];
    grad[1] = share * by[1];
    grad[2] = zero.minus_1 * (e * of_both);
    PlusLog1p<T> value = plus_log1p(-zero.minus_1 * inverse);
    value.value += far;
    return value;
  }

  template <class T>
  VK_FN PlusLog1p<T> some(T x, const T (&p)[3], T (&grad)[3]) {  // x > 0
    T by[2];
    const T q[2] = {p[0], p[1]}, d = p[2], n = negative_binomial::some(x, q, by);
    const T e = exp_nonpositive(minus_absolute(d));
    grad[0] = by[0];
    grad[1] = by[1];
    grad[2] = (d > 0 ? T(1) : e) / (1 + e);
    return {n + (d > 0 ? d : T(0)), e};
  }
};

}  // namespace vk
