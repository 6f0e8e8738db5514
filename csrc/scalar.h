// What the formulas and special.h are made of, for host and device, float and double: the bits of a number, a fused
// multiplication, bounds, and what each type has of its own. All of it is without a branch, a call or a table, so that
// a plain loop over it is vectorised. The polynomials are minimax fits; "to 0.06" is their error in units of the last
// place.
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
// before a short loop that must be gone before the loop around it is vectorised
#if defined(__CUDACC__) || defined(__clang__)
#define VK_UNROLL _Pragma("unroll")
#else
#define VK_UNROLL _Pragma("GCC unroll 8")
#endif

namespace vk {

VK_FN float bits_to_float(uint32_t u) {
  float f;
  std::memcpy(&f, &u, sizeof f);
  return f;
}
VK_FN double bits_to_float(uint64_t u) {
  double f;
  std::memcpy(&f, &u, sizeof f);
  return f;
}
VK_FN uint32_t float_to_bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, sizeof u);
  return u;
}
VK_FN uint64_t float_to_bits(double f) {
  uint64_t u;
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
VK_FN float minus_absolute(float x) { return bits_to_float(float_to_bits(x) | 0x80000000u); }
VK_FN double minus_absolute(double x) { return bits_to_float(float_to_bits(x) | uint64_t(1) << 63); }
// NaN passes through both: the comparison is false
template <class T>
VK_FN T at_least(T x, T low) {
  return x < low ? low : x;
}
template <class T>
VK_FN T at_most(T x, T high) {
  return x > high ? high : x;
}

// What float and double do not share: how numbers are stored, where e^x leaves their range, and their polynomials.
template <class T>
struct Real;

// Where e^x leaves the range of T: e^low is the last that is not denormal, e^high finite by more than a factor 2, and
// e^infinite is infinite.
template <class T>
struct Bounds {
  T low, high, infinite;
};
#ifdef __CUDACC__
#define VK_BOUNDS(T) static constexpr T kLow = kRange.low, kHigh = kRange.high, kInfinite = kRange.infinite
#else
// GCC may not know the numbers, as a weak definition could be another's: of x < low ? low : x it makes one instruction,
// and of the same with a number that it knows a comparison and a blend.
#define VK_BOUNDS(T)                            \
  [[gnu::weak]] static const Bounds<T> kOpaque; \
  static constexpr const T &kLow = kOpaque.low, &kHigh = kOpaque.high, &kInfinite = kOpaque.infinite
#endif

template <>
struct Real<float> {
  static constexpr int kMantissa = 23;
  static constexpr uint32_t kOne = 0x3f800000u;  // the bits of 1
  static constexpr float kMagic = 12583039.f;  // 1.5 * 2^23 + 127: k + kMagic holds the exponent of 2^k in its low bits
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // the first is short: k times it is exact
  static constexpr float kLargest = 3.4028234663852886e38f;
  static constexpr Bounds<float> kRange = {-87, 88, 89};
  VK_BOUNDS(float);

  // (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2: e^r to 0.06
  VK_FN float exp_tail(float r) {
    float p = 1.3813144760206342e-03f;
    p = fma(p, r, 8.369418792426586e-03f);
    p = fma(p, r, 4.166845604777336e-02f);
    p = fma(p, r, 0.16666515171527863f);
    return fma(p, r, 0.4999999403953552f);
  }

  // log(1 + e) on [0, 1]: to 0.08. The tail is (log(1 + e) - e) / e^2, which is -1/2 at 0.
  VK_FN float log1p_tail(float e) {
    float p = -0.0032440233044326305f;
    p = fma(p, e, 0.019851453602313995f);
    p = fma(p, e, -0.05695951730012894f);
    p = fma(p, e, 0.10603653639554977f);
    p = fma(p, e, -0.15305592119693756f);
    p = fma(p, e, 0.1967593878507614f);
    p = fma(p, e, -0.24954134225845337f);
    p = fma(p, e, 0.3332996368408203f);
    return fma(p, e, -0.4999990165233612f);
  }
  VK_FN float log1p(float e) { return fma(log1p_tail(e), e, 1.f) * e; }

  // (atanh(s) / s - 1) / s^2 in powers of z = s^2 <= 1/9: atanh to 0.02
  VK_FN float atanh_tail(float z) {
    float p = 0.116121646f;
    p = fma(p, z, 0.108532876f);
    p = fma(p, z, 0.14296179f);
    p = fma(p, z, 0.19999853f);
    return fma(p, z, 0.33333334f);
  }
};

template <>
struct Real<double> {
  static constexpr int kMantissa = 52;
  static constexpr uint64_t kOne = 0x3ff0000000000000u;
  static constexpr double kMagic = 6755399441056767.;  // 1.5 * 2^52 + 1023
  static constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kLargest = 1.7976931348623157e308;
  static constexpr Bounds<double> kRange = {-708, 709, 710};
  VK_BOUNDS(double);

  VK_FN double exp_tail(double r) {  // to 0.002
    double p = 2.09147553258932022e-9;
    p = fma(p, r, 2.5105312729622101787e-8);
    p = fma(p, r, 2.7557273478718580474e-7);
    p = fma(p, r, 2.7557255170000887438e-6);
    p = fma(p, r, 2.48015873256774619e-5);
    p = fma(p, r, 1.9841269875002278793e-4);
    p = fma(p, r, 1.3888888888883711167e-3);
    p = fma(p, r, 8.3333333333260831202e-3);
    p = fma(p, r, 4.1666666666666669783e-2);
    p = fma(p, r, 0.1666666666666667103);
    return fma(p, r, 0.5);
  }

  VK_FN double atanh_tail(double z) {
    double p = 0.080820228059717661105;
    p = fma(p, z, 0.044003692430723369411);
    p = fma(p, z, 0.060005364047953562676);
    p = fma(p, z, 0.066570721048274680752);
    p = fma(p, z, 0.076927850324793115517);
    p = fma(p, z, 0.090908947180664290846);
    p = fma(p, z, 0.11111111358713931495);
    p = fma(p, z, 0.14285714283554378581);
    p = fma(p, z, 0.20000000000007291337);
    return fma(p, z, 0.33333333333333329281);
  }
  VK_FN double log1p(double e) {  // 2 atanh(s) with s = e / (2 + e) <= 1/3: to 0.05
    double s = e / (2 + e), z = s * s;
    return 2 * fma(s * z, atanh_tail(z), s);
  }
  VK_FN double log1p_tail(double e) {
    double w = 1 / (2 + e), s = e * w;
    return fma(2 * s * w, atanh_tail(s * s), -1.) * w;
  }
};

#ifndef __CUDACC__
constinit const Bounds<float> Real<float>::kOpaque = kRange;
constinit const Bounds<double> Real<double>::kOpaque = kRange;
#endif

// x / 255, rounded once (Markstein 1990), where a division costs as much as ten multiplications
template <class T>
VK_FN T divided_by_255(T x) {
  constexpr T inverse = T(1) / T(255);
  const T q = x * inverse;
  return fma(fma(q, T(-255), x), inverse, q);
}

}  // namespace vk
