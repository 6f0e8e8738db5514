// The log-sum-exp of scores that come in runs, as the loops of the mixture and of the decomposition take it. Compiled
// once per instruction set, in namespace vk::VK_ISA.
#pragma once
#include "special.h"

namespace vk::VK_ISA {

constexpr double kMinusInfinity = -__builtin_inf();

// The online log-sum-exp (Milakov and Gimelshein 2018, arXiv:1805.02867): sum = sum of e^(score - peak) so far
template <class T>
static void join(const T* scores, int n, double& peak, double& sum) {
  T top = T(kMinusInfinity);
#pragma omp simd reduction(max : top)
  for (int i = 0; i < n; ++i) top = scores[i] > top ? scores[i] : top;
  if (top > peak) {
    sum *= std::exp(peak - top);
    peak = top;
  }
  const T shift = peak > kMinusInfinity ? T(peak) : T(0);  // a NaN among the scores makes the sum one
  T part = 0;
#pragma omp simd reduction(+ : part)
  for (int i = 0; i < n; ++i) part += exp_or_zero(scores[i] - shift);
  sum += part;
}

}  // namespace vk::VK_ISA
