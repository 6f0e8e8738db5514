// -log Laplace(x; loc, exp(logscale)): vae_kernels/formulas/laplace.py has the maths.
#pragma once
#include "special.h"

namespace vk {

struct laplace {
  static constexpr int parameters = 2;  // loc, logscale

  template <class T>
  VK_FN T nll(T x, const T (&p)[2], T (&grad)[2]) {
    const T root = exp_saturated(T(-0.5) * p[1]);  // saturated: x = loc is finite however small the scale
    const T residual = p[0] - x, scaled = absolute(residual) * root * root;
    const T sign = residual > 0 ? T(1) : residual < 0 ? T(-1) : residual;  // 0 at 0, NaN at NaN
    grad[0] = sign * root * root;
    grad[1] = 1 - scaled;
    return scaled + (p[1] + T(0.6931471805599453));
  }
};

}  // namespace vk
