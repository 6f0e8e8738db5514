// -log N(x; loc, exp(logvar)): vae_kernels/formulas/gaussian.py has the maths.
#pragma once
#include "scalar.h"

namespace vk {

struct gaussian {
  static constexpr int parameters = 2;  // loc, logvar

  template <class T>
  VK_FN T nll(T x, const T (&p)[2], T (&grad)[2]) {
    T inverse_sd = exp_saturated(T(-0.5) * p[1]);  // saturated: x = loc is finite however small the variance
    T u = (p[0] - x) * inverse_sd;
    grad[0] = u * inverse_sd;
    grad[1] = fma(T(-0.5) * u, u, T(0.5));
    return T(0.5) * fma(u, u, p[1] + T(1.8378770664093453));  // log 2 pi
  }
};

}  // namespace vk
