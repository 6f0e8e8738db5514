// The columns of a table: vae_kernels/formulas/mixed.py has the maths. A column with one number has the formula of an
// element; a categorical column has the formula of a position.
#pragma once
#include "bernoulli.h"
#include "categorical.h"
#include "gaussian.h"
#include "laplace.h"
#include "negative_binomial.h"
#include "poisson.h"

namespace vk {

// The kinds of columns with one number, in the order of KINDS in vae_kernels/formulas/columns.py: the formula; by what
// logscale is multiplied to be the formula's second parameter, or 0 if the formula has only one; whether the location
// is a tanh. One more kind follows: VK_CATEGORIES.
#define VK_COLUMNS(X)            \
  X(gaussian, 2, false)          \
  X(laplace, 1, false)           \
  X(poisson, 0, false)           \
  X(negative_binomial, 1, false) \
  X(bernoulli, 0, false)         \
  X(gaussian, 2, true)           \
  X(laplace, 1, true)
#define VK_CATEGORIES categorical

// tanh(x) and its derivative, each to full relative accuracy
template <class T>
struct Tanh {
  T value, slope;
};
template <class T>
VK_FN Tanh<T> tanh_pair(T x) {
  const ExpPair<T> e = exp_pair(2 * minus_absolute(x));
  const T inverse = 1 / (1 + e.power);
  // Far from 0 what 1 lacks is small, so nearly nothing is rounded but the difference.
  const T size = e.power < T(0.25) ? fma(-2 * e.power, inverse, T(1)) : -e.minus_1 * inverse;
  return {x < 0 ? -size : size, 4 * e.power * inverse * inverse};
}

template <class F, int SCALE, bool TANH>
struct Column {
  // -log p, and its derivatives by the number of the decoder and by logscale
  template <class T>
  VK_FN PlusLog1p<T> nll(T x, T number, T logscale, T (&grad)[2]) {
    constexpr int N = F::parameters;
    const Tanh<T> location = TANH ? tanh_pair(number) : Tanh<T>{number, 1};
    T p[N], d[N];
    p[0] = location.value;
    if constexpr (N == 2) p[1] = SCALE * logscale;
    PlusLog1p<T> value;
    if constexpr (is_counts<F>) {  // both formulas, and the choice behind them: without a branch
      T of_none[N];
      const T none = F::at_zero(p, of_none), some = F::above_zero(x == 0 ? T(1) : x, p, d);
      d[0] = x == 0 ? of_none[0] : d[0];
      if constexpr (N == 2) d[1] = x == 0 ? of_none[1] : d[1];
      value = parts(x == 0 ? none : some);
    } else {
      value = parts(F::nll(x, p, d));
    }
    grad[0] = location.slope * d[0];
    if constexpr (N == 2)
      grad[1] = SCALE * d[1];
    else
      grad[1] = 0;
    return value;
  }
};

}  // namespace vk
