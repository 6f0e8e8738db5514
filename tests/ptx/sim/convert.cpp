// setp and cvt.
#include "machine.h"

bool compare(int cmp, int ty, u64 a, u64 b, bool z) {
  if (is_float(ty)) {
    double x, y;
    if (ty == F32) {
      float p = f32(a), q = f32(b);
      if (z) p = ftz(p), q = ftz(q);
      x = p, y = q;
    } else if (ty == F64)
      x = f64(a), y = f64(b);
    else if (ty == F16)
      x = half_to_f(a), y = half_to_f(b);
    else if (ty == BF16)
      x = bf_to_f(a), y = bf_to_f(b);
    else
      throw Fatal("setp type");
    bool un = x != x || y != y;
    switch (cmp) {
      case C_EQ:
        return !un && x == y;
      case C_NE:
        return !un && x != y;
      case C_LT:
        return !un && x < y;
      case C_LE:
        return !un && x <= y;
      case C_GT:
        return !un && x > y;
      case C_GE:
        return !un && x >= y;
      case C_EQU:
        return un || x == y;
      case C_NEU:
        return un || x != y;
      case C_LTU:
        return un || x < y;
      case C_LEU:
        return un || x <= y;
      case C_GTU:
        return un || x > y;
      case C_GEU:
        return un || x >= y;
      case C_NUM:
        return !un;
      case C_NAN:
        return un;
    }
    throw Fatal("cmp");
  }
  a = extend(a, ty), b = extend(b, ty);
  bool s = is_signed(ty);
  switch (cmp) {
    case C_EQ:
      return a == b;
    case C_NE:
      return a != b;
    case C_LT:
      return s ? s64(a) < s64(b) : a < b;
    case C_LE:
      return s ? s64(a) <= s64(b) : a <= b;
    case C_GT:
      return s ? s64(a) > s64(b) : a > b;
    case C_GE:
      return s ? s64(a) >= s64(b) : a >= b;
    case C_LO:
      return a < b;
    case C_LS:
      return a <= b;
    case C_HI:
      return a > b;
    case C_HS:
      return a >= b;
  }
  throw Fatal("cmp");
}

u64 convert(const Insn& in, u64 v) {
  int to = in.ty, from = in.ty2;
  bool z = in.flags & FTZ, sat = in.flags & SAT;
  if (!is_float(from) && !is_float(to)) {
    u64 x = extend(v, from);
    if (sat) {  // clamp to the range of `to`
      s128 y = is_signed(from) ? s128(s64(x)) : s128(x);
      int n = size_of(to) * 8;
      s128 lo = is_signed(to) ? -(s128(1) << (n - 1)) : 0,
           hi = is_signed(to) ? (s128(1) << (n - 1)) - 1 : (s128(1) << n) - 1;
      y = y < lo ? lo : y > hi ? hi : y;
      return truncate(u64(y), to);
    }
    u64 r = truncate(x, to);
    // a narrow result is extended into its register
    return is_signed(to) ? (size_of(to) < 4 ? u64(extend(r, to)) & 0xffffffff : r) : r;
  }
  if (is_float(from) && !is_float(to)) {
    double x = from == F32   ? double(z ? ftz(f32(v)) : f32(v))
               : from == F64 ? f64(v)
               : from == F16 ? half_to_f(v)
                             : bf_to_f(v);
    int n = size_of(to) * 8;
    if (x != x) {
      if (from == F64 || to == S64 || to == U64) return u64(1) << (n - 1);
      return 0;
    }
    switch (in.round) {
      case RNI:
        x = std::nearbyint(x);
        break;
      case RZI:
        x = std::trunc(x);
        break;
      case RMI:
        x = std::floor(x);
        break;
      case RPI:
        x = std::ceil(x);
        break;
      default:
        throw Fatal("cvt to integer without rounding");
    }
    double lo = is_signed(to) ? -std::ldexp(1., n - 1) : 0,
           hi = is_signed(to) ? std::ldexp(1., n - 1) : std::ldexp(1., n);
    if (x < lo) x = lo;
    if (x >= hi) return is_signed(to) ? (u64(1) << (n - 1)) - 1 : n == 64 ? ~0ull : (u64(1) << n) - 1;
    return truncate(is_signed(to)               ? u64(s64(x))
                    : x >= 9223372036854775808. ? u64(s64(x - 9223372036854775808.)) + (1ull << 63)
                                                : u64(s64(x)),
                    to);
  }
  if (!is_float(from)) {
    u64 x = extend(v, from);
    RoundGuard g(in.round);
    volatile double d = 0;
    volatile float f = 0;
    if (to == F32) {
      if (is_signed(from))
        f = float(s64(x));
      else
        f = float(x);
      return bits(float(f));
    }
    if (to == F64) {
      if (is_signed(from))
        d = double(s64(x));
      else
        d = double(x);
      return bits(double(d));
    }
    if (in.round != RN) throw Fatal("cvt int to half rounding");
    double y = is_signed(from) ? double(s64(x)) : double(x);  // exact for 32 bits
    if (size_of(from) > 4) throw Fatal("cvt 64 to half");
    return to == F16 ? d_to_half(y) : to == BF16 ? f_to_bf(float(y)) : throw Fatal("cvt");
  }
  if (to == F64) {
    double x = from == F32   ? double(z ? ftz(f32(v)) : f32(v))
               : from == F64 ? f64(v)
               : from == F16 ? half_to_f(v)
                             : bf_to_f(v);
    switch (in.round) {
      case RNI:
        x = std::nearbyint(x);
        break;
      case RZI:
        x = std::trunc(x);
        break;
      case RMI:
        x = std::floor(x);
        break;
      case RPI:
        x = std::ceil(x);
        break;
    }
    if (sat) throw Fatal("cvt.sat.f64");
    return from == F64 ? nan_or(x) : nan_or(x);
  }
  if (to == F32) {
    if (from == F64) {
      RoundGuard g(in.round);
      volatile double x = f64(v);
      volatile float f = float(x);
      float r = f;
      if (z) r = ftz(r);
      if (sat) r = r != r ? 0 : r < 0 ? 0 : r > 1 ? 1 : r;
      return nan_or(r);
    }
    float x = from == F32 ? f32(v) : from == F16 ? half_to_f(v) : bf_to_f(v);
    if (z) x = ftz(x);
    switch (in.round) {
      case RNI:
        x = std::nearbyint(x);
        break;
      case RZI:
        x = std::trunc(x);
        break;
      case RMI:
        x = std::floor(x);
        break;
      case RPI:
        x = std::ceil(x);
        break;
    }
    if (sat) x = x != x ? 0 : x < 0 ? 0 : x > 1 ? 1 : x;
    return nan_or(x);
  }
  if (to == F16) {
    if (in.round != RN || sat) throw Fatal("cvt to f16");
    return from == F64 ? d_to_half(f64(v)) : from == BF16 ? f_to_half(bf_to_f(v)) : f_to_half(f32(v));
  }
  if (to == BF16) {
    if ((in.round != RN && in.round != RZ) || sat) throw Fatal("cvt to bf16");
    if (from == F16) return f_to_bf(half_to_f(v));
    if (from == F64) {
      if (in.round != RN) throw Fatal("cvt f64 to bf16 rounding");
      double x = f64(v);
      if (x != x) return 0x7fff;
      float y;
      {
        RoundGuard g(RZ);
        volatile double vx = x;
        volatile float t = float(vx);
        y = t;
      }
      if (std::isfinite(x) && double(y) != x) y = f32(bits(y) | 1); /* to odd */
      return f_to_bf(y);
    }
    if (from != F32) throw Fatal("cvt to bf16 from");
    return f_to_bf(f32(v), in.round);
  }
  throw Fatal(str("cvt %d from %d", to, from));
}
