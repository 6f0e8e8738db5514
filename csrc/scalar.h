// Element-wise functions for host and device, float and double, written so that a plain loop over them vectorises:
// no branch, no call, no table. The float polynomials are minimax fits (Lawson's algorithm); their errors stand beside
// them in units of 2^-24. The double versions are the C library's: right first, and the reference does the same.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

// VK_INLINE: never emitted as a symbol of its own: the linker must not hand an AVX-512 body to an older processor
#ifdef __CUDACC__
#define VK_INLINE __host__ __device__ inline
#else
#define VK_INLINE [[gnu::always_inline]] inline
#endif
#define VK_FN VK_INLINE static

namespace vk {

VK_FN float bits_to_float(uint32_t u) {
  float f;
  std::memcpy(&f, &u, sizeof f);
  return f;
}

VK_FN uint32_t float_to_bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, sizeof u);
  return u;
}

// a * b + c, fused where the hardware does it; the formulas do not depend on it, the noise does (see fma_exact)
VK_FN float fma(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__) || defined(__CUDA_ARCH__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
VK_FN double fma(double a, double b, double c) {
#if defined(__FMA__) || defined(__aarch64__) || defined(__CUDA_ARCH__)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// a * b + c rounded once, on every machine: what the bits of the noise rest on
VK_FN float fma_exact(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

VK_FN float absolute(float x) { return __builtin_fabsf(x); }
VK_FN double absolute(double x) { return __builtin_fabs(x); }
// NaN passes through both: the comparison is false
template <class T>
VK_FN T at_least(T x, T low) {
  return x < low ? low : x;
}
template <class T>
VK_FN T at_most(T x, T high) {
  return x > high ? high : x;
}

// x = k ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite, 1980); k is kept as k + 1.5 * 2^23 in `magic`,
// whose low bits are k as an integer
struct Reduced {
  float magic, k, r;
};
VK_FN Reduced reduce_ln2(float x) {
  float magic = fma(x, 1.44269504f, 12582912.f);
  float k = magic - 12582912.f;
  float r = fma(k, -0.693359375f, x);  // ln 2 in two parts; the first has 9 bits, so the product is exact
  return {magic, k, fma(k, 2.12194440e-4f, r)};
}

// (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2: e^r to 0.06
VK_FN float exp_tail(float r) {
  float p = 1.3813144760206342e-03f;
  p = fma(p, r, 8.369418792426586e-03f);
  p = fma(p, r, 4.166845604777336e-02f);
  p = fma(p, r, 0.16666515171527863f);
  return fma(p, r, 0.4999999403953552f);
}

// 2^k for -126 <= k <= 127, from the low bits of `magic`. A multiplication by it (not an addition to the exponent
// bits of the other factor) keeps NaN a NaN.
VK_FN float exp2_integer(float magic) { return bits_to_float((float_to_bits(magic) << 23) + 0x3f800000u); }

// e^x for x <= 0. Below -87 it stays at e^-87 = 1.6e-38, the smallest that is not denormal.
VK_FN float exp_nonpositive(float x) {
  Reduced a = reduce_ln2(at_least(x, -87.f));
  return exp2_integer(a.magic) * (fma(a.r * a.r, exp_tail(a.r), a.r) + 1.f);
}
VK_FN double exp_nonpositive(double x) { return std::exp(x); }

// e^x - 1 and e^x - 1 - x, each to full relative accuracy, however small x is
template <class T>
struct Expm1 {
  T value, minus_x;
};
VK_FN Expm1<float> expm1_pair(float x) {
  Reduced a = reduce_ln2(at_most(at_least(x, -87.f), 89.f));  // e^89 is infinite, e^-87 - 1 is -1
  float half = exp2_integer(a.magic - 1.f);                   // 2^(k-1): k = 128 still has finite results
  float tail = a.r * a.r * exp_tail(a.r);                     // e^r - 1 - r
  float power = half * 2.f;
  float power_minus_1 = power - 1.f;
  // e^x - 1 = 2^k (r + tail) + (2^k - 1). At k = 0, where r = x exactly, nothing is added to r + tail.
  float value = fma(half, 2.f * (a.r + tail), power_minus_1);
  float minus_x = fma(half, 2.f * tail, fma(half, 2.f * a.r, power_minus_1 - x));
  // 2^128 overflows before e^x does
  bool large = x > 88.f;
  float big = half * (2.f * ((a.r + tail) + 1.f));
  return {large ? big : value, large ? big : minus_x};
}
VK_FN Expm1<double> expm1_pair(double x) {
  double value = std::expm1(x);
  // below 0.02 the series x^2/2! + ... + x^9/9! is exact to rounding; above, the subtraction costs 2 digits at most
  double p = 1. / 362880;
  p = p * x + 1. / 40320;
  p = p * x + 1. / 5040;
  p = p * x + 1. / 720;
  p = p * x + 1. / 120;
  p = p * x + 1. / 24;
  p = p * x + 1. / 6;
  p = p * x + 1. / 2;
  return {value, absolute(x) < 0.02 ? x * x * p : value - x};
}

// e^x where 2^k is taken in two steps, so that k = 128, whose results are in part finite, is none too many
VK_FN float exp_of(Reduced a) {
  return exp2_integer(a.magic - 1.f) * (2.f * (fma(a.r * a.r, exp_tail(a.r), a.r) + 1.f));
}

// e^x over the whole range: 0 and infinity where float has no such number
VK_FN float exp(float x) { return exp_of(reduce_ln2(at_most(at_least(x, -87.f), 89.f))); }
VK_FN double exp(double x) { return std::exp(x); }

// e^x that stops at e^88 instead of becoming infinite: for a factor that meets an exact zero, where infinity would make
// a NaN of a finite result
VK_FN float exp_saturated(float x) { return exp_of(reduce_ln2(at_most(at_least(x, -87.f), 88.f))); }
VK_FN double exp_saturated(double x) { return std::exp(at_most(x, 709.)); }

// log(1 + e) for 0 <= e <= 1: to 0.08
VK_FN float log1p_unit(float e) {
  float p = -0.0032440233044326305f;
  p = fma(p, e, 0.019851453602313995f);
  p = fma(p, e, -0.05695951730012894f);
  p = fma(p, e, 0.10603653639554977f);
  p = fma(p, e, -0.15305592119693756f);
  p = fma(p, e, 0.1967593878507614f);
  p = fma(p, e, -0.24954134225845337f);
  p = fma(p, e, 0.3332996368408203f);
  p = fma(p, e, -0.4999990165233612f);
  p = fma(p, e, 1.f);
  return p * e;
}
VK_FN double log1p_unit(double e) { return std::log1p(e); }

}  // namespace vk
