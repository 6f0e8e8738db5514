// Categorical likelihood over levels: vae_kernels/formulas/categorical.py has the maths.
#pragma once
#include "log_sum_exp.h"

namespace vk {

struct categorical {
  // -log p of the level that has this logit; total >= 1
  template <class T>
  VK_FN T nll(LogSumExp<T> s, T logit) {
    return (s.top - logit) + log1p(s.total - 1);
  }
  // softmax times total
  template <class T>
  VK_FN T weight(T logit, T top) {
    return exp_or_zero(logit - top);
  }
};

}  // namespace vk
