// -log ZINB(x; log_mean, log_inverse_dispersion, dropout_logits): vae_kernels/formulas/zinb.py has the maths.
#pragma once
#include "formula.h"
#include "formulas/negative_binomial.h"

namespace vk {

struct zinb {
  static constexpr int parameters = 3;  // log_mean, log_inverse_dispersion, dropout_logits
  static constexpr bool counts = true, log_total = true;

  template <class T>
  VK_FN PlusLog1p<T> nll(T x, const T (&p)[3], T (&grad)[3]) {
    return x == 0 ? at_zero(p, grad) : above_zero(x, p, grad);
  }

  using not_dropped = negative_binomial;

  template <class T>
  VK_FN PlusLog1p<T> at_zero(const T (&p)[3], T (&grad)[3]) {  // x = 0
    T by[2];
    const T q[2] = {p[0], p[1]}, d = p[2], n = negative_binomial::at_zero(q, by);
    // p(0) is about e^-(kFar + far): both of its terms times e^far
    const T far = at_least(at_most(-d, n) - kFar, T(0));
    PlusLog1p<T> value = at_zero(powers(far - n, minus_absolute(d) + far), by, d, grad);
    value.value += far;
    return value;
  }

  // The same in two steps, of the negative binomial's n and its gradient, where the powers add up to kNear or more.
  static constexpr int kFar = 60;
  static constexpr double kNear = 1e-26;  // about e^-kFar
  template <class T>
  struct Powers {
    T n, n_minus_1, d;
  };
  template <class T>
  VK_FN Powers<T> powers(T minus_n, T minus_d) {
    const ExpPair<T> n = exp_pair(minus_n);
    return {n.power, n.minus_1, exp_nonpositive(minus_d)};
  }
  template <class T>
  VK_FN PlusLog1p<T> at_zero(const Powers<T>& q, const T (&by)[2], T d, T (&grad)[3]) {
    const bool over = d > 0;
    const T e = q.d, mine = over ? e : T(1), sum = over ? fma(q.n, e, T(1)) : e + q.n;
    const T of_both = 1 / (sum * (1 + e)), inverse = of_both * (1 + e) * mine;
    const T share = q.n * inverse;  // of the negative binomial in p(0)
    grad[0] = share * by[0];
    grad[1] = share * by[1];
    grad[2] = q.n_minus_1 * (e * of_both);
    return plus_log1p(-q.n_minus_1 * inverse);
  }

  template <class T>
  VK_FN PlusLog1p<T> above_zero(T x, const T (&p)[3], T (&grad)[3]) {  // x > 0
    T by[2];
    const T q[2] = {p[0], p[1]}, d = p[2], n = negative_binomial::above_zero(x, q, by);
    const T e = exp_nonpositive(minus_absolute(d));
    grad[0] = by[0];
    grad[1] = by[1];
    grad[2] = (d > 0 ? T(1) : e) / (1 + e);
    return {n + (d > 0 ? d : T(0)), e};
  }
};

}  // namespace vk
