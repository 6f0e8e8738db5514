// What the likelihoods of counts share: vae_kernels/formulas/counts.py has the maths.
#pragma once
#include "scalar.h"

#define VK_COUNTS  // for cpu/kernels/likelihood.cpp: <immintrin.h> takes long to compile, and nothing else needs it

namespace vk {

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

}  // namespace vk
