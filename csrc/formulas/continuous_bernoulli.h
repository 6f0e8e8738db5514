// -log ContinuousBernoulli(x; sigmoid(logits)): vae_kernels/formulas/continuous_bernoulli.py has the maths.
#pragma once
#include "special.h"

namespace vk {

struct continuous_bernoulli {
  static constexpr int parameters = 1;  // logits

  template <class T>
  VK_FN T nll(T x, const T (&p)[1], T (&grad)[1]) {
    const T l = p[0], size = absolute(l), against = l > 0 ? 1 - x : x;
    const T large = at_least(size, T(1)), e = exp_nonpositive(-large);
    const T rest = size < 1 ? truncated_mean(-size) : 1 / large - e / (1 - e);  // 1 - r(size) is r(-size)
    grad[0] = l > 0 ? against - rest : rest - against;
    return fma(against, size, -log1p(size * (1 - rest)));
  }
};

}  // namespace vk
