// The special functions of the formulas, for host and device, float and double. Like scalar.h, they have no branch, no
// call and no table, so that a plain loop over them is vectorised. scalar.h has the polynomials.
#pragma once
#include "scalar.h"

namespace vk {

// ---------------------------------------------------------------- e^x

// x = k ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite, 1980)
template <class T>
struct Reduced {
  T magic, r;  // k + kMagic, r
};
template <class T>
VK_FN Reduced<T> reduce_ln2(T x) {
  using R = Real<T>;
  T magic = fma(x, T(1.4426950408889634), R::kMagic), k = magic - R::kMagic;
  return {magic, fma(k, -R::kLn2Low, fma(k, -R::kLn2High, x))};
}

// 2^k from the low bits of `magic`, where it is a normal number. A multiplication by it (not an addition to the
// exponent bits of the other factor) keeps NaN a NaN.
template <class T>
VK_FN T exp2_integer(T magic) {
  return bits_to_float(float_to_bits(magic) << Real<T>::kMantissa);
}

// e^x for a reduced x, where 2^k is a normal number or 0
template <class T>
VK_FN T exp_reduced(Reduced<T> a) {
  return exp2_integer(a.magic) * (fma(a.r * a.r, Real<T>::exp_tail(a.r), a.r) + 1);
}

// e^x for x <= 0; below kLow it stays at e^kLow
template <class T>
VK_FN T exp_nonpositive(T x) {
  return exp_reduced(reduce_ln2(at_least(x, Real<T>::kLow)));
}

// e^x for x <= 0, and 0 where that is no normal number: at -kHigh, 2^k is 0
template <class T>
VK_FN T exp_or_zero(T x) {
  return exp_reduced(reduce_ln2(at_least(x, -Real<T>::kHigh)));
}

// e^x for kLow <= x <= kInfinite. 2^k is taken in two steps: where it is too large itself, e^x need not be.
template <class T>
VK_FN T exp_within(T x) {
  Reduced<T> a = reduce_ln2(x);
  return exp2_integer(a.magic - 1) * (2 * (fma(a.r * a.r, Real<T>::exp_tail(a.r), a.r) + 1));
}

// e^x over the whole range: 0 and infinity where there is no such number
template <class T>
VK_FN T exp(T x) {
  return exp_within(at_most(at_least(x, Real<T>::kLow), Real<T>::kInfinite));
}

// e^x that stops at e^kHigh instead of becoming infinite: for a factor that meets an exact zero, where infinity would
// make a NaN of a finite result
template <class T>
VK_FN T exp_saturated(T x) {
  return exp_within(at_most(at_least(x, Real<T>::kLow), Real<T>::kHigh));
}

// e^x as a product, first * second, for x up to 2 kHigh: second is a power of two, and 1 where first need not be
// infinite
template <class T>
struct Factors {
  T first, second;
};
template <class T>
VK_FN Factors<T> exp_factors(T x) {
  using R = Real<T>;
  Reduced<T> a = reduce_ln2(at_most(at_least(x, R::kLow), 2 * R::kHigh));
  T low = at_most(a.magic, R::kMagic + (sizeof(T) == 4 ? 127 : 1023));
  return {exp2_integer(low) * (fma(a.r * a.r, R::exp_tail(a.r), a.r) + 1), exp2_integer(a.magic - low + R::kMagic)};
}

// ---------------------------------------------------------------- e^x - 1

// e^x - 1 and e^x - 1 - x, each to full relative accuracy, however small x is
template <class T>
struct Expm1 {
  T value, minus_x;
};
template <class T>
VK_FN Expm1<T> expm1_pair(T x) {
  using R = Real<T>;
  Reduced<T> a = reduce_ln2(at_most(at_least(x, R::kLow), R::kInfinite));
  T half = exp2_integer(a.magic - 1);     // 2^(k-1)
  T tail = a.r * a.r * R::exp_tail(a.r);  // e^r - 1 - r
  T power_minus_1 = half * 2 - 1;
  // e^x - 1 = 2^k (r + tail) + (2^k - 1). At k = 0, where r = x exactly, nothing is added to r + tail.
  T value = fma(half, 2 * (a.r + tail), power_minus_1);
  T minus_x = fma(half, 2 * tail, fma(half, 2 * a.r, power_minus_1 - x));
  // 2^k is infinite before e^x is
  T large = half * (2 * (a.r + tail + 1));
  return {x > R::kHigh ? large : value, x > R::kHigh ? large : minus_x};
}

// e^x - 1 for x <= 0, to full relative accuracy: the value of expm1_pair, where nothing overflows
template <class T>
VK_FN T expm1_nonpositive(T x) {
  Reduced<T> a = reduce_ln2(at_least(x, Real<T>::kLow));
  T half = exp2_integer(a.magic - 1);
  return fma(half, 2 * fma(a.r * a.r, Real<T>::exp_tail(a.r), a.r), half * 2 - 1);
}

// e^x and e^x - 1 for x <= 0, each to full relative accuracy; e^x is 0 where it is no normal number, so that it takes a
// large factor along
template <class T>
struct ExpPair {
  T power, minus_1;
};
template <class T>
VK_FN ExpPair<T> exp_pair(T x) {
  const Reduced<T> a = reduce_ln2(at_least(x, -Real<T>::kHigh));
  const T two = exp2_integer(a.magic), sum = fma(a.r * a.r, Real<T>::exp_tail(a.r), a.r);
  return {two * (sum + 1), fma(two, sum, two - 1)};
}

// ---------------------------------------------------------------- log(1 + x) and log(x)

// log(1 + e) for 0 <= e <= 1
template <class T>
VK_FN T log1p_unit(T e) {
  return Real<T>::log1p(e);
}

// 1 + x = 2^k (1 + e), 0 <= e < 1, for -1 < x < 2^100
template <class T>
struct OnePlus {
  T k, e;
};
template <class T>
VK_FN OnePlus<T> one_plus(T x) {
  constexpr auto bias = Real<T>::kOne >> Real<T>::kMantissa;
  const auto exponent = float_to_bits(1 + x) >> Real<T>::kMantissa;
  const T inverse = bits_to_float((2 * bias - exponent) << Real<T>::kMantissa);  // 2^-k
  return {T(int(exponent) - int(bias)), fma(x, inverse, inverse - 1)};
}

// log(1 + x), for the same x: k ln 2 + log(1 + e), a sum of what is not negative
template <class T>
VK_FN T log1p(T x) {
  const OnePlus<T> a = one_plus(x);
  return fma(a.k, T(0.6931471805599453), log1p_unit(a.e));
}

// x = 2^k m with m in [sqrt(1/2), sqrt(2)), for a normal x
template <class T>
struct Split {
  T k, m;
};
template <class T>
VK_FN Split<T> split(T x) {
  const auto root_half = float_to_bits(T(0.7071067811865476)), shifted = float_to_bits(x) + (Real<T>::kOne - root_half);
  constexpr auto mantissa = (decltype(shifted + 0)(1) << Real<T>::kMantissa) - 1;
  const int k = int(shifted >> Real<T>::kMantissa) - int(Real<T>::kOne >> Real<T>::kMantissa);
  return {T(k), bits_to_float((shifted & mantissa) + root_half)};
}

// log(x), for a normal x > 0; finite for infinity and NaN
template <class T>
VK_FN T log(T x) {
  const Split<T> a = split(x);
  const T s = (a.m - 1) / (a.m + 1), z = s * s;
  return fma(a.k, T(0.6931471805599453), 2 * fma(s * z, Real<T>::atanh_tail(z), s));
}

// e - log(1 + e) >= 0, to full relative accuracy however small e is; `ratio` is 1 + e, which e may not tell near -1
template <class T>
VK_FN T log1p_rest(T e, T ratio) {
  const bool near = (ratio > T(0.5)) & (ratio < 2);
  const Split<T> a = split(ratio);
  const T f = near ? e : a.m - 1, s = f / (2 + f), z = s * s, tail = Real<T>::atanh_tail(z);
  return near ? s * fma(-2 * z, tail, f) : e - fma(a.k, T(0.6931471805599453), 2 * fma(s * z, tail, s));
}

// ---------------------------------------------------------------- the others

// What Stirling's formula for log Gamma(y + 1) lacks, and -y times its derivative, at y = 1 / v >= 1
template <class T>
struct Stirling {
  T error, slope;
};
template <class T, class... C>
VK_FN Stirling<T> stirling_series(T v, C... c) {  // v (c[n-1] + c[n-2] v + ...), a polynomial and its derivative
  T p = 0, d = 0;
  ((d = fma(d, v, p), p = fma(p, v, T(c))), ...);
  return {v * p, v * fma(d, v, p)};
}
VK_FN Stirling<float> stirling(float v) {  // to 2e-9 and 1e-7
  return stirling_series(v, -1.8315919e-05f, 0.00020257701f, -0.0007222823f, 0.0011102485f, -7.473104e-05f,
                         -0.0027689587f, -4.0628998e-07f, 0.083333336f);
}
VK_FN Stirling<double> stirling(double v) {  // to 5e-17 and 2e-15
  return stirling_series(v, 0.00021332507059039434, -0.0025056509953055375, 0.013760307115920217, -0.04688918100874011,
                         0.11088665527955452, -0.19265682980619173, 0.2535010476781426, -0.25586002906491917,
                         0.1972596145582884, -0.11285533047069607, 0.04407433811935882, -0.008833793707392448,
                         -0.000497299799458, -0.00013339298553912822, 0.0008419692541680424, 2.056877464820991e-06,
                         -0.0005955732468191205, 2.903440378923773e-08, 0.0007936492928927653, 4.472406975482246e-11,
                         -0.002777777778457091, 3.983543603761793e-15, 0.08333333333333333);
}

// 1 / (1 - e^-a) - 1 / a for |a| <= 1, by its series (vae_kernels/formulas/series.py has the maths). What is left out
// is 0.02 of a unit in the last place in float, and 0.09 in double.
template <class T>
VK_FN T truncated_mean(T a) {
  const T z = a * a;
  T p;
  if constexpr (sizeof(T) == 4) {
    p = 2.0876756987868098979e-08f;
  } else {
    p = -2.174868698558061873e-16;
    p = fma(p, z, 8.5860620562778445641e-15);
    p = fma(p, z, -3.3896802963225828668e-13);
    p = fma(p, z, 1.3382536530684678833e-11);
    p = fma(p, z, -5.2841901386874931848e-10);
    p = fma(p, z, 2.0876756987868098979e-08);
  }
  p = fma(p, z, T(-8.2671957671957671958e-07));
  p = fma(p, z, T(3.3068783068783068783e-05));
  p = fma(p, z, T(-1.0 / 720));
  p = fma(p, z, T(1.0 / 12));
  return fma(p, a, T(0.5));
}

}  // namespace vk
