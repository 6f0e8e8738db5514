// -log of the discretized logistic's mass, 8 bits: vae_kernels/formulas/discretized_logistic.py has the maths.
#pragma once
#include "formula.h"
#include "special.h"

namespace vk {

struct discretized_logistic {
  static constexpr int parameters = 2;  // loc, logscale

  template <class T>
  VK_FN T nll(T x, const T (&p)[2], T (&grad)[2]) {
    constexpr T half = T(1) / T(510);
    // t e^-logscale is t * first * second, so that t = 0 gives 0 however small the scale
    const auto [first, second] = exp_factors(-p[1]);
    const T residual = x - p[0], size = absolute(residual);  // |c| = size e^-s, h = half e^-s, w = 2 h
    const T beyond = (size - half) * first * second, width = 2 * half * first * second;
    // 0 where exp_nonpositive stays above it: they meet large factors
    const T outer = exp_or_zero(-(size + half) * first * second);  // e^-(|c| + h)
    const T inner = exp_or_zero(minus_absolute(beyond));           // e^-||c| - h|
    const T whole = exp_nonpositive(-width);                       // e^-2h
    const bool inside = beyond < 0, narrow = width < 1;
    const T nearer = inside ? inner : T(1), inverse = 1 / ((1 + outer) * (1 + inner));
    const T rest = narrow ? width * truncated_mean(width) : whole / at_least(1 - whole, T(0.5));

    // A bin with two edges: sinh |c| / (cosh c + cosh h), and (1 + cosh c cosh h) / (cosh c + cosh h) h / sinh h over
    // the larger of w and 1
    const T slope = nearer * -expm1_nonpositive(-2 * size * first * second) * inverse;
    const T spread = T(0.5) * (1 + rest) * inverse *
                     (nearer * (1 + outer) * (1 + outer) + (inside ? outer : whole) * (1 + inner) * (1 + inner));

    // One with one edge: sigmoid(-upper) or sigmoid(lower), whose argument is |c| + h or |c| - h, with a sign
    const bool open = absolute(x - T(0.5)) > T(0.5) - half;
    const T side = x < T(0.5) ? T(1) : T(-1), towards = side * residual;
    const bool inward = towards >= 0;
    const T sigmoid = (inward ? outer * (1 + inner) : nearer * (1 + outer)) * inverse;

    grad[0] = (open ? side * sigmoid : residual < 0 ? slope : -slope) * first * second;
    const T steep = open ? (towards + half) * sigmoid : (narrow ? T(0) : 2 * half * spread) - size * slope;
    grad[1] = (!open && narrow ? spread : T(0)) + steep * first * second;
    const T logs = open ? (inward ? outer : inner) : join_log1p(join_log1p(outer, inner), rest);
    const T linear = (open && inward ? T(0) : at_least(beyond, T(0)));
    return linear + (!open && narrow ? p[1] + T(5.541263545158426) : T(0)) + log1p(logs);  // log 255
  }
};

}  // namespace vk
