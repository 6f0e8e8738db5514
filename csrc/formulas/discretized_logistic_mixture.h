// One component of a mixture of discretized logistics: vae_kernels/formulas/discretized_logistic_mixture.py has the
// maths.
#pragma once
#include "logistic_bin.h"

namespace vk {

struct discretized_logistic_mixture {
  // C: the channels of a pixel. A component has a location, a log-scale and, with three channels, a coefficient for
  // each
  template <int C>
  static constexpr int parameters = C * (C == 1 ? 2 : 3);

  // The options: numbers() of the formula in Python
  template <class T>
  struct Options {
    BinWidth<T> width;
    T low, range, steps, first, last, least;  // x < first is in the first bin, x > last in the last one
  };
  template <class T>
  VK_FN Options<T> options(const double* numbers) {
    const T steps = T(numbers[0] - 1), low = T(numbers[1]), range = T(numbers[2] - numbers[1]);
    const T half = T(0.5) * range / steps, high = T(numbers[2]);
    return {{half, log(steps / range)}, low, range, steps, low + half, high - half, T(numbers[3])};
  }
  // x of a level
  template <class T>
  VK_FN T value_of(T level, const Options<T>& o) {
    return fma(level / o.steps, o.range, o.low);
  }

  // The channel that the derivative by number j belongs to: a coefficient belongs to the channel whose location it
  // moves
  template <int C>
  static constexpr int channel_of(int j) {
    return C == 1 ? 0 : j % 3 < 2 ? j / 3 : j == 2 ? 1 : 2;
  }

  // -log p of channel I of a pixel under a component with the numbers p = {location, log-scale, coefficient, ...},
  // given the channels before it: linear + log(1 + e), e < 16; and the derivatives by the numbers that belong to it
  template <int C, int I, class T>
  VK_FN PlusLog1p<T> nll(const T (&x)[C], const T (&p)[parameters<C>], const Options<T>& o, T (&grad)[parameters<C>]) {
    constexpr int own = I * parameters<C> / C;
    T loc = p[own];
    Tanh<T> a, b;
    if constexpr (I == 1) {
      a = tanh_of(p[2]);
      loc = fma(a.value, x[0], loc);
    }
    if constexpr (I == 2) {
      a = tanh_of(p[5]);
      b = tanh_of(p[8]);
      loc = fma(b.value, x[1], fma(a.value, x[0], loc));
    }
    const bool first = x[I]<o.first, last = x[I]> o.last, below = p[own + 1] < o.least;
    const T logscale = below ? o.least : p[own + 1];
    const LogisticBin<T> bin = logistic_bin(x[I] - loc, logscale, o.width, first || last, first ? T(1) : T(-1));
    grad[own] = bin.by_loc;
    grad[own + 1] = below ? T(0) : bin.by_logscale;
    if constexpr (I == 1) grad[2] = bin.by_loc * x[0] * a.slope;
    if constexpr (I == 2) {
      grad[5] = bin.by_loc * x[0] * a.slope;
      grad[8] = bin.by_loc * x[1] * b.slope;
    }
    return {bin.linear, bin.logs};
  }

 private:
  template <class T>
  struct Tanh {
    T value, slope;  // slope: 1 - value^2
  };
  template <class T>
  VK_FN Tanh<T> tanh_of(T r) {
    const ExpPair<T> e = exp_pair(2 * minus_absolute(r));
    const T inverse = 1 / (1 + e.power), size = -e.minus_1 * inverse;
    return {r < 0 ? -size : size, 4 * e.power * inverse * inverse};
  }
};

}  // namespace vk
