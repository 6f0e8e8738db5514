// -log Poisson(x; exp(log_rate)): vae_kernels/formulas/poisson.py has the maths.
#pragma once
#include "counts.h"

namespace vk {

struct poisson {
  static constexpr int parameters = 1;  // log_rate
  static constexpr bool counts = true, log_total = true;
  static constexpr bool sum_alike = true;

  template <class T>
  VK_FN T nll(T x, const T (&p)[1], T (&grad)[1]) {
    return x == 0 ? at_zero(p, grad) : above_zero(x, p, grad);
  }

  template <class T>
  VK_FN T at_zero(const T (&p)[1], T (&grad)[1]) {  // x = 0
    return grad[0] = exp(p[0]);
  }

  template <class T>
  VK_FN T above_zero(T x, const T (&p)[1], T (&grad)[1]) {  // x > 0
    // below e^-60 the rate is nothing beside x, and the value is linear
    const T a = at_least(p[0], T(-60)), rate = exp(a), inverse = 1 / x, slope = rate - x;
    grad[0] = slope;
    const T deviance = fma(-x, p[0] - a, x * log1p_rest(slope * inverse, rate * inverse));
    return deviance + stirling(at_most(inverse, T(1))).error + fma(T(0.5), log(x), T(0.9189385332046727));
  }
};

}  // namespace vk
