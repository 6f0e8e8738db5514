// log p(z) of a mixture of diagonal Gaussians: vae_kernels/formulas/mixture.py has the maths.
#pragma once
#include "log_sum_exp.h"

namespace vk {

struct gaussian_mixture {
  // e^{-logvar/4}: what a difference is multiplied by, twice, to be a number of standard deviations. It is in the range
  // of a float where the precision, and even its root, is not.
  template <class T>
  VK_FN T root(T logvar) {
    return exp_saturated(T(-0.25) * logvar);
  }
  template <class T>
  VK_FN T deviations(T z, T loc, T root) {
    return (z - loc) * root * root;
  }
  // log w_k + log N(z; k) where z = loc
  VK_FN double constant(double log_weight, double sum_of_logvar, double dims) {
    return log_weight - 0.5 * (sum_of_logvar + dims * 1.8378770664093454836);  // log 2 pi
  }
  template <class T>
  VK_FN T score(T constant, T squares) {
    return fma(T(-0.5), squares, constant);
  }
  // The log of LogSumExp::total, which is 0 where no number is more than -inf, and else at least 1
  template <class T>
  VK_FN T log_total(T total) {
    return total == 0 ? T(-INFINITY) : log1p(total - 1);
  }
  // The difference to the top is exact where it matters; that to the rounded log p is not: far from all components log
  // p has no digits after the point.
  template <class T>
  VK_FN T responsibility(T score, T top, T log_total) {
    return exp_or_zero((score - top) - log_total);
  }
  // Deviations whose square is infinite have no responsibility, and that 0 times infinity would be NaN: they stop where
  // the square is finite. (A NaN may get lost here: the responsibility is one.)
  template <class T>
  VK_FN T within(T deviations) {
    constexpr T most = sizeof(T) == 4 ? T(1.8446742e19) : T(1.3407807929942596e154);
    const T least = deviations > -most ? deviations : -most;
    return least < most ? least : most;
  }
};

}  // namespace vk
