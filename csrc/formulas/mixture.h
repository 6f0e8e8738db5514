// log p(z) of a mixture of diagonal Gaussians: vae_kernels/formulas/mixture.py has the maths.
//
// The score of a component is log w_k + log N(z; m_k, e^v_k), which needs the sum over dimensions of (z - m)^2 e^-v.
// The two devices have a way of their own to a term of that sum:
//   CPU  (z - m)^2 times precision(v): one multiplication less, but float32 has room for fewer numbers: beyond_float()
//   GPU  the square of deviations(z, m, root(v)): in the range of a float wherever the score is
#pragma once
#include <type_traits>

#include "log_sum_exp.h"

namespace vk {

struct gaussian_mixture {
  // ---- the way of the CPU

  // e^-logvar; it stops before its product with the square of any float would be infinite
  template <class T>
  VK_FN T precision(T logvar) {
    return exp_within(at_most(at_least(-logvar, Real<T>::kLow), Real<T>::kHigh * T(0.75)));
  }
  // Whether the square of a difference, or its product with a precision, may leave the range of float32. Then the loops
  // of float64 are taken, which have room for all that float32 can hold. farthest: the largest |z - loc|
  VK_FN bool beyond_float(double farthest, double least_logvar, double largest_logvar) {
    return least_logvar < -40 || largest_logvar > 80 || farthest > 1e15 ||
           2 * std::log(farthest) - least_logvar > std::log(1e34);
  }

  // ---- the way of the GPU

  // e^{-logvar/4}: it is in the range of a float where the precision, and even its root, is not.
  template <class T>
  VK_FN T root(T logvar) {
    return exp_saturated(T(-0.25) * logvar);
  }
  // How many standard deviations a difference is
  template <class T>
  VK_FN T in_deviations(T difference, T root) {
    return difference * root * root;
  }
  // Deviations whose square is infinite have no responsibility, and that 0 times infinity would be NaN: they stop where
  // the square is finite. (A NaN may get lost here: the responsibility is one.)
  template <class T>
  VK_FN T within(T deviations) {
    constexpr T most = sizeof(T) == 4 ? T(1.8446742e19) : T(1.3407807929942596e154);
    const T least = deviations > -most ? deviations : -most;
    return least < most ? least : most;
  }

  // ---- both

  // log w_k + log N(z; k) where z = loc
  VK_FN double constant(double log_weight, double sum_of_logvar, double dims) {
    return log_weight - 0.5 * (sum_of_logvar + dims * 1.8378770664093454836);  // log 2 pi
  }
  // V: a number, or a vector of numbers (cpu/kernels/lanes.h). Both ways give the same bits: half of a number is exact.
  template <class V>
  VK_FN V score(V constant, V squares) {
    if constexpr (std::is_floating_point_v<V>)
      return fma(V(-0.5), squares, constant);
    else
      return constant - 0.5f * squares;
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
  // The gradient by a log-variance. squares: the sum over samples of responsibility times squared deviations; total:
  // the sum of the responsibilities
  VK_FN double by_logvar(double squares, double total) { return 0.5 * (squares - total); }
};

}  // namespace vk
