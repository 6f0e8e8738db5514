// KL( N(mu, e^logvar) || N(prior_mu, e^prior_logvar) ): vae_kernels/formulas/kl.py has the maths.
#pragma once
#include "scalar.h"

namespace vk {

struct gaussian_kl {
  static constexpr int parameters = 4;  // mu, logvar, prior_mu, prior_logvar

  template <class T>
  VK_FN T value(const T (&p)[4], T (&grad)[4]) {
    T inverse_sd = exp_saturated(T(-0.5) * p[3]);
    T u = (p[0] - p[2]) * inverse_sd, ratio = p[1] - p[3];
    Expm1<T> e = expm1_pair(ratio);
    grad[0] = u * inverse_sd;
    grad[1] = T(0.5) * e.value;
    grad[2] = -grad[0];
    grad[3] = T(-0.5) * fma(u, u, e.value);
    return T(0.5) * fma(u, u, e.minus_x);
  }
};

}  // namespace vk
