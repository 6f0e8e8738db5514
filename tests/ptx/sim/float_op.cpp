// Arithmetic of floating point numbers.
#include "machine.h"

u64 float_op(const Insn& in, u64 a, u64 b, u64 c) {
  bool z = in.flags & FTZ;
  if (in.ty == F32) {
    float x = f32(a), y = f32(b), w = f32(c);
    if (z) x = ftz(x), y = ftz(y), w = ftz(w);
    float r;
    volatile float vx = x, vy = y, vw = w;
    auto go = [&]() -> float {
      switch (in.op) {
        case OP_add:
          return vx + vy;
        case OP_sub:
          return vx - vy;
        case OP_mul:
          return vx * vy;
        case OP_fma:
        case OP_mad:
          return __builtin_fmaf(vx, vy, vw);
        case OP_div:
          return vx / vy;
        case OP_sqrt:
          return std::sqrt(float(vx));
        case OP_rcp:
          return 1.f / vx;
      }
      throw Fatal(str("float op %s", op_names[in.op]));
    };
    switch (in.op) {
      case OP_add:
      case OP_sub:
      case OP_mul:
      case OP_fma:
      case OP_mad:
        if (in.round == RN || in.round == R_NONE) {
          switch (in.op) {
            case OP_add:
              r = x + y;
              break;
            case OP_sub:
              r = x - y;
              break;
            case OP_mul:
              r = x * y;
              break;
            default:
              r = __builtin_fmaf(x, y, w);
          }
          if (in.round == R_NONE) note("info-float-op-without-rounding", in.line, op_names[in.op]);
        } else {
          RoundGuard g(in.round);
          volatile float t = go();
          r = t;
        }
        break;
      case OP_div:
        if (in.flags & (APPROX | FULL)) {
          // div.full: 2 ulp; div.approx: 0 where |y| is in (2^126, 2^128)
          r = approx(double(x) / double(y), z);
        } else {
          RoundGuard g(in.round);
          volatile float t = go();
          r = t;
        }
        break;
      case OP_sqrt:
        if (in.flags & APPROX)
          r = approx(std::sqrt(double(x)), z);
        else {
          RoundGuard g(in.round);
          volatile float t = go();
          r = t;
        }
        break;
      case OP_rcp:
        if (in.flags & APPROX)
          r = approx(1. / double(x), z);
        else {
          RoundGuard g(in.round);
          volatile float t = go();
          r = t;
        }
        break;
      case OP_rsqrt:
        r = approx(x == 0 ? std::copysign(INFINITY, x) : 1. / std::sqrt(double(x)), z);
        break;
      case OP_ex2:
        r = approx(std::exp2(double(x)), z);
        break;
      case OP_lg2:
        r = approx(std::log2(double(x)), z);
        break;
      case OP_sin:
        r = approx(std::sin(double(x)), z);
        break;
      case OP_cos:
        r = approx(std::cos(double(x)), z);
        break;
      case OP_tanh:
        r = approx(std::tanh(double(x)), z);
        break;
      case OP_min:
        r = fmin_ptx(x, y, in.flags & NANF);
        if (in.ns == 3) r = fmin_ptx(r, w, in.flags & NANF);
        break;
      case OP_max:
        r = fmax_ptx(x, y, in.flags & NANF);
        if (in.ns == 3) r = fmax_ptx(r, w, in.flags & NANF);
        break;
      case OP_neg:
        return z ? bits(-x) : u32(a) ^ 0x80000000u;
      case OP_abs:
        return z ? bits(std::fabs(x)) : u32(a) & 0x7fffffffu;
      case OP_copysign:
        return (u32(b) & 0x7fffffffu) | (u32(a) & 0x80000000u);
      default:
        throw Fatal(str("f32 op %s", op_names[in.op]));
    }
    if (z) r = ftz(r);
    if (in.flags & SAT) r = r != r ? 0 : r < 0 ? 0 : r > 1 ? 1 : r;
    return nan_or(r);
  }
  if (in.ty == F64) {
    double x = f64(a), y = f64(b), w = f64(c), r;
    switch (in.op) {
      case OP_min:
        return nan_or(fmin_ptx(x, y, in.flags & NANF));
      case OP_max:
        return nan_or(fmax_ptx(x, y, in.flags & NANF));
      case OP_neg:
        return a ^ (1ull << 63);
      case OP_abs:
        return a & ~(1ull << 63);
      case OP_copysign:
        return (b & ~(1ull << 63)) | (a & (1ull << 63));
      case OP_rcp:
        if (in.flags & APPROX) {
          if (std::fabs(x) < 2.2250738585072014e-308) x = std::copysign(0., x);
          r = 1 / x;
          if (std::fabs(r) < 2.2250738585072014e-308) r = std::copysign(0., r);
          u64 u = bits(r);
          if (r == r) u &= ~0xffffffffull;
          return u;
        }
        break;
      case OP_rsqrt:
        if (in.flags & APPROX) {
          r = x == 0 ? std::copysign(INFINITY, x) : 1 / std::sqrt(x);
          u64 u = bits(r);
          if (r == r) u &= ~0xffffffffull;
          return u;
        }
        break;
    }
    RoundGuard* g = (in.round == RN || in.round == R_NONE) ? nullptr : new RoundGuard(in.round);
    if (in.round == R_NONE) note("info-float-op-without-rounding", in.line, op_names[in.op]);
    volatile double vx = x, vy = y, vw = w, t;
    switch (in.op) {
      case OP_add:
        t = vx + vy;
        break;
      case OP_sub:
        t = vx - vy;
        break;
      case OP_mul:
        t = vx * vy;
        break;
      case OP_fma:
      case OP_mad:
        t = __builtin_fma(vx, vy, vw);
        break;
      case OP_div:
        t = vx / vy;
        break;
      case OP_sqrt:
        t = std::sqrt(double(vx));
        break;
      case OP_rcp:
        t = 1. / vx;
        break;
      default:
        delete g;
        throw Fatal(str("f64 op %s", op_names[in.op]));
    }
    delete g;
    return nan_or(double(t));
  }
  if (in.ty == F16 || in.ty == BF16) {
    auto up = [&](u64 v) { return in.ty == F16 ? half_to_f(v) : bf_to_f(v); };
    auto down = [&](double v) -> u64 {
      if (in.ty == F16) return d_to_half(v);
      return f_to_bf(float(v));
    };
    double x = up(a), y = up(b), w = up(c);
    switch (in.op) {
      case OP_add:
        return down(x + y);
      case OP_sub:
        return down(x - y);
      case OP_mul:
        return down(x * y);
      case OP_fma:
        if (in.ty == BF16) return f_to_bf(__builtin_fmaf(float(x), float(y), float(w)));
        return down(x * y + w);
      case OP_neg:
        return u16(a) ^ 0x8000;
      case OP_abs:
        return u16(a) & 0x7fff;
      case OP_min:
        return down(fmin_ptx(x, y, in.flags & NANF));
      case OP_max:
        return down(fmax_ptx(x, y, in.flags & NANF));
    }
  }
  throw Fatal(str("float op %s of type %d", op_names[in.op], in.ty));
}
