// Floating point numbers in registers, rounding, and the error of approximate instructions.
#pragma once
#include <cfenv>
#include <cmath>
#include <cstring>

#include "types.h"

enum Round { R_NONE, RN, RZ, RM, RP, RNI, RZI, RMI, RPI, RNA };
inline float f32(u64 v) {
  u32 u = u32(v);
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline double f64(u64 v) {
  double f;
  memcpy(&f, &v, 8);
  return f;
}
inline u64 bits(float f) {
  u32 u;
  memcpy(&u, &f, 4);
  return u;
}
inline u64 bits(double f) {
  u64 u;
  memcpy(&u, &f, 8);
  return u;
}
// All NaN are one, as a GPU makes them.
inline u64 nan_or(float f) { return f != f ? 0x7fffffffu : bits(f); }
inline u64 nan_or(double f) { return f != f ? 0x7fffffffffffffffull : bits(f); }
inline float ftz(float f) { return std::fabs(f) < 1.17549435e-38f ? std::copysign(0.f, f) : f; }
inline float half_to_f(u64 v) {
  u16 u = u16(v);
  _Float16 h;
  memcpy(&h, &u, 2);
  return float(h);
}
inline u16 f_to_half(float f) {
  if (f != f) return 0x7fff;
  _Float16 h = _Float16(f);
  u16 u;
  memcpy(&u, &h, 2);
  return u;
}
inline u16 d_to_half(double f) {
  if (f != f) return 0x7fff;
  _Float16 h = _Float16(f);
  u16 u;
  memcpy(&u, &h, 2);
  return u;
}
inline float bf_to_f(u64 v) { return f32(u64(u16(v)) << 16); }
inline u16 f_to_bf(float f, int round = RN) {
  if (f != f) return 0x7fff;
  u32 u = u32(bits(f));
  if (round == RZ) return u16(u >> 16);
  return u16((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
// Rounds in this way as long as it lives.
struct RoundGuard {
  int old;
  RoundGuard(int r) {
    old = fegetround();
    fesetround(r == RZ ? FE_TOWARDZERO : r == RM ? FE_DOWNWARD : r == RP ? FE_UPWARD : FE_TONEAREST);
  }
  ~RoundGuard() { fesetround(old); }
};

inline int ulp_mode = 0;  // the error of approximate instructions: SIM_ULP of README.md
inline u64 rng_state = 1;
inline u64 rnd() {
  rng_state ^= rng_state << 13;
  rng_state ^= rng_state >> 7;
  rng_state ^= rng_state << 17;
  return rng_state;
}
inline float approx(double exact, bool z) {
  float f = float(exact);
  if (ulp_mode && f == f && std::isfinite(f) && f != 0 && std::fabs(f) > 2e-38f) {
    int k = ulp_mode == 1   ? int(rnd() % 3) - 1
            : ulp_mode == 2 ? 1
            : ulp_mode == 3 ? -1
            : ulp_mode == 4 ? int(rnd() % 5) - 2
            : ulp_mode == 5 ? 2
                            : -2;

    u32 u = u32(bits(f));
    u += k;
    f = f32(u);
  }
  return z ? ftz(f) : f;
}

template <class T>
T fmin_ptx(T a, T b, bool n) {
  if (a != a || b != b) {
    if (n || (a != a && b != b)) return T(NAN);
    return a != a ? b : a;
  }
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
template <class T>
T fmax_ptx(T a, T b, bool n) {
  if (a != a || b != b) {
    if (n || (a != a && b != b)) return T(NAN);
    return a != a ? b : a;
  }
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
