// KL( N(mu, e^logvar) || N(prior_mu, e^prior_logvar) ): vae_kernels/formulas/kl.py has the maths.
#pragma once
#include "special.h"

namespace vk {

struct gaussian_kl {
  static constexpr int parameters = 4;  // mu, logvar, prior_mu, prior_logvar

  template <class T>
  VK_FN T value(const T (&p)[4], T (&grad)[4]) {
    T root = exp_saturated(T(-0.25) * p[3]);
    T u = (p[0] - p[2]) * root * root, half = T(0.5) * u, ratio = p[1] - p[3];
    Expm1<T> e = expm1_pair(ratio);
    grad[0] = u * root * root;
    grad[1] = T(0.5) * e.value;
    grad[2] = -grad[0];
    grad[3] = -fma(half, u, grad[1]);
    return fma(half, u, T(0.5) * e.minus_x);
  }
};

}  // namespace vk
