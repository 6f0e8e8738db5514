// -log of the mass of a bin under a logistic distribution: vae_kernels/formulas/discretized_logistic.py has the maths.
#pragma once
#include "formula.h"

namespace vk {

// What the number of levels says of a bin, in the unit of x: half of its width, and log(1 / width)
template <class T>
struct BinWidth {
  T half, log_count;
};

// -log mass = linear + log(1 + logs), 0 <= logs < 16, and its derivatives
template <class T>
struct LogisticBin {
  T linear, logs, by_loc, by_logscale;
};

// residual: x - loc. open: whether the bin is the first one, with side 1, or the last one, with side -1.
template <class T>
VK_FN LogisticBin<T> logistic_bin(T residual, T logscale, BinWidth<T> width_of, bool open, T side) {
  const T half = width_of.half;
  // t e^-logscale is t * first * second, so that t = 0 gives 0 however small the scale
  const auto [first, second] = exp_factors(-logscale);
  const T size = absolute(residual);  // |c| = size e^-s, h = half e^-s, w = 2 h
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
  const T towards = side * residual;
  const bool inward = towards >= 0;
  const T sigmoid = (inward ? outer * (1 + inner) : nearer * (1 + outer)) * inverse;

  LogisticBin<T> bin;
  bin.by_loc = (open ? side * sigmoid : residual < 0 ? slope : -slope) * first * second;
  const T steep = open ? (towards + half) * sigmoid : (narrow ? T(0) : 2 * half * spread) - size * slope;
  bin.by_logscale = (!open && narrow ? spread : T(0)) + steep * first * second;
  bin.logs = open ? (inward ? outer : inner) : join_log1p(join_log1p(outer, inner), rest);
  bin.linear =
      (open && inward ? T(0) : at_least(beyond, T(0))) + (!open && narrow ? logscale + width_of.log_count : T(0));
  return bin;
}

}  // namespace vk
