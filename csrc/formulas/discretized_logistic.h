// -log of the discretized logistic's mass, 8 bits: vae_kernels/formulas/discretized_logistic.py has the maths.
#pragma once
#include "truncated_mean.h"

namespace vk {

struct discretized_logistic {
  static constexpr int parameters = 2;  // loc, logscale

  // e^x for x <= 0, and 0 where exp_nonpositive stays above it: for a factor that meets large ones
  template <class T>
  VK_FN T vanishing_exp(T x) {
    return x < Real<T>::kLow ? T(0) : exp_nonpositive(x);
  }

  template <class T>
  VK_FN T nll(T x, const T (&p)[2], T (&grad)[2]) {
    constexpr T half = T(1) / T(510);
    // t e^-logscale: in two steps, so that t = 0 gives 0 however small the scale
    const T root = exp_saturated(T(-0.5) * p[1]);
    const T residual = x - p[0], size = absolute(residual);  // |c| = size e^-s, h = half e^-s, w = 2 h
    const T beyond = (size - half) * root * root, width = 2 * half * root * root;
    const T outer = vanishing_exp(-(size + half) * root * root);  // e^-(|c| + h)
    const T inner = vanishing_exp(minus_absolute(beyond));        // e^-||c| - h|
    const T whole = exp_nonpositive(-width);                      // e^-2h
    const bool inside = beyond < 0, narrow = width < 1;
    const T inverse = 1 / ((1 + outer) * (1 + inner));
    const T rest = narrow ? width * truncated_mean(width) : whole / at_least(1 - whole, T(0.5));

    // A bin with two edges: sinh |c| / (cosh c + cosh h), and (1 + cosh h cosh c) / (cosh c + cosh h) over 2 e^-h
    const T nearer = inside ? inner : T(1);
    const T slope = nearer * -expm1_pair(-2 * size * root * root).value * inverse;
    const T spread = (1 + rest) * inverse *
                     (nearer * (1 + outer) * (1 + outer) + (inside ? outer : whole) * (1 + inner) * (1 + inner));
    const T of_loc = (residual < 0 ? slope : -slope) * root * root;
    const T of_scale =
        (narrow ? T(0.5) * spread : T(0)) + ((narrow ? T(0) : half * spread) - size * slope) * root * root;
    const T closed = at_least(beyond, T(0)) + (narrow ? p[1] + T(5.541263545158426) : T(0));  // log 255

    // An open bin has one edge: softplus(-logit), whose e^-|logit| is there already
    const bool open = absolute(x - T(0.5)) > T(0.5) - half;
    const T side = x < T(0.5) ? T(1) : T(-1), towards = side * residual;
    const bool first = towards >= 0;
    const T logit = first ? (size + half) * root * root : -beyond, e = first ? outer : inner;
    const T sigmoid = (logit < 0 ? T(1) : e) * (1 + (first ? inner : outer)) * inverse;  // of -logit

    grad[0] = open ? side * sigmoid * root * root : of_loc;
    grad[1] = open ? (towards + half) * sigmoid * root * root : of_scale;
    const T log_of = open ? e : join_log1p(join_log1p(outer, inner), rest);
    return (open ? at_least(-logit, T(0)) : closed) + log1p(log_of);
  }
};

}  // namespace vk
