// -log Bernoulli(x; a product of three sigmoids): vae_kernels/formulas/bernoulli_product.py has the maths.
#pragma once
#include "special.h"

namespace vk {

struct bernoulli_product {
  static constexpr int parameters = 3;               // logits, sample_logits, feature_logits
  static constexpr unsigned numbers[] = {0b010, 0};  // formula.h: a sample has one number of sample_logits

  template <class T>
  VK_FN T nll(T x, const T (&l)[3], T (&grad)[3]) {
    const T m = at_least(at_most(at_most(l[0], l[1]), l[2]), T(0)), scale = exp_or_zero(-m);
    T odds = 0, power = 1, value = 0, e[3];  // odds and e are those of the maths, divided by e^-m
    VK_UNROLL
    for (int k = 0; k < 3; ++k) {
      e[k] = exp_or_zero(m - absolute(l[k]));
      odds = fma(scale * odds, e[k], odds + e[k]);
      power *= l[k] > 0 ? T(1) : e[k];
      value = fma(x, l[k] > 0 ? T(0) : -l[k], value);
    }
    const T ratio = power / (odds + (1 - power));
    const T by_logit = fma(-x, ratio, ratio) - x * scale;
    VK_UNROLL
    for (int k = 0; k < 3; ++k) grad[k] = by_logit * ((l[k] > 0 ? e[k] : T(1)) / fma(scale, e[k], T(1)));
    return value + fma(x, log1p(scale * odds), (1 - x) * (m + log1p(ratio + (scale - 1))));
  }
};

}  // namespace vk
