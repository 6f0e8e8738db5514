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
    return of_mixed(mixed(n, d), by, grad);
  }

  // -log(sigmoid(d) + sigmoid(-d) e^-n), n >= 0: the shares of the two terms, and the derivative by d
  template <class T>
  struct Mixed {
    PlusLog1p<T> value;
    T first, second, by_d;
  };
  template <class T>
  VK_FN Mixed<T> mixed(T n, T d) {
    // both terms are about e^-(kFar + far) or less: both times e^far
    const T far = at_least(at_most(-d, n) - kFar, T(0));
    Mixed<T> m = mixed(powers(far - n, minus_absolute(d) + far), d);
    m.value.value += far;
    return m;
  }

  // The same in two steps, where the powers add up to kNear or more.
  static constexpr int kFar = 60;
  static constexpr double kNear = 1e-26;  // about e^-kFar
  template <class T>
  struct Powers {
    T n, n_minus_1, d;
  };
  template <class T>
  VK_FN Powers<T> powers(T minus_n, T minus_d) {
    const ExpPair<T> n = exp_pair(minus_n);
    return {n.power, n.minus_1, exp_or_zero(minus_d)};
  }
  template <class T>
  VK_FN Mixed<T> mixed(const Powers<T>& q, T d) {
    const bool over = d > 0;
    const T e = q.d, mine = over ? e : T(1), sum = over ? fma(q.n, e, T(1)) : e + q.n;
    const T of_both = 1 / (sum * (1 + e)), inverse_sum = of_both * (1 + e), inverse = inverse_sum * mine;
    return {plus_log1p(-q.n_minus_1 * inverse), (over ? T(1) : e) * inverse_sum, q.n * inverse,
            q.n_minus_1 * (e * of_both)};
  }

  // -log p(0), of the negative binomial's gradient
  template <class T>
  VK_FN PlusLog1p<T> at_zero(const Powers<T>& q, const T (&by)[2], T d, T (&grad)[3]) {
    return of_mixed(mixed(q, d), by, grad);
  }
  template <class T>
  VK_FN PlusLog1p<T> of_mixed(const Mixed<T>& m, const T (&by)[2], T (&grad)[3]) {
    grad[0] = m.second * by[0];
    grad[1] = m.second * by[1];
    grad[2] = m.by_d;
    return m.value;
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
