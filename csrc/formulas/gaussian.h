// -log N(x; loc, exp(logvar)): vae_kernels/formulas/gaussian.py has the maths.
#pragma once
#include "special.h"

namespace vk {

struct gaussian {
  static constexpr int parameters = 2;  // loc, logvar

  template <class T>
  VK_FN T nll(T x, const T (&p)[2], T (&grad)[2]) {
    T root = exp_saturated(T(-0.25) * p[1]);  // saturated: x = loc is finite however small the variance
    T u = (p[0] - x) * root * root, half = T(0.5) * u;
    grad[0] = u * root * root;
    grad[1] = fma(-half, u, T(0.5));
    return fma(half, u, fma(T(0.5), p[1], T(0.9189385332046727)));  // 1/2 log 2 pi
  }
};

}  // namespace vk
