// -log Bernoulli(x; sigmoid(logits)): vae_kernels/formulas/bernoulli.py has the maths.
#pragma once
#include "formula.h"

namespace vk {

struct bernoulli {
  static constexpr int parameters = 1;  // logits

  template <class T>
  VK_FN PlusLog1p<T> nll(T x, const T (&p)[1], T (&grad)[1]) {
    T l = p[0], e = exp_nonpositive(minus_absolute(l)), r = 1 / (1 + e), er = e * r;
    // sigmoid(l) - x, without the cancellation of 1 - x at large l
    grad[0] = l < 0 ? er - x : (1 - x) - er;
    return {fma(-l, x, l > 0 ? l : T(0)), e};
  }
};

}  // namespace vk
