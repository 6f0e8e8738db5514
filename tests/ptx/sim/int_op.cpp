// Arithmetic of integers and bits.
#include "machine.h"

u64 int_op(const Insn& in, u64 a, u64 b, u64 c) {
  int ty = in.ty, n = size_of(ty) * 8;
  bool s = is_signed(ty);
  switch (in.op) {
    case OP_add:
    case OP_sub:
    case OP_min:
    case OP_max:
    case OP_div:
    case OP_rem:
    case OP_abs:
    case OP_neg: {
      u64 x = extend(a, ty), y = extend(b, ty);
      switch (in.op) {
        case OP_add:
          if (in.flags & SAT) throw Fatal("add.sat");
          return truncate(x + y, ty);
        case OP_sub:
          if (in.flags & SAT) throw Fatal("sub.sat");
          return truncate(x - y, ty);
        case OP_min:
          return truncate(s ? u64(std::min(s64(x), s64(y))) : std::min(x, y), ty);
        case OP_max:
          return truncate(s ? u64(std::max(s64(x), s64(y))) : std::max(x, y), ty);
        case OP_div:
        case OP_rem:
          if (!truncate(y, ty)) {
            note("integer-division-by-zero", in.line, "");
            return truncate(in.op == OP_div ? ~0ull : x, ty);
          }
          if (s) {
            if (s64(y) == -1) return in.op == OP_div ? truncate(0 - x, ty) : 0;
            return truncate(in.op == OP_div ? u64(s64(x) / s64(y)) : u64(s64(x) % s64(y)), ty);
          }
          return truncate(in.op == OP_div ? x / y : x % y, ty);
        case OP_abs:
          return truncate(s64(x) < 0 ? 0 - x : x, ty);
        case OP_neg:
          return truncate(0 - x, ty);
      }
    }
    case OP_mul:
    case OP_mad: {
      u64 x = extend(a, ty), y = extend(b, ty);
      u64 r;
      if (in.flags & WIDE) {
        r = x * y;
        if (in.op == OP_mad) r += c;
        return n == 32 ? r : n == 16 ? u32(r) : throw Fatal("wide");
      }
      if (in.flags & HI) {
        r = n == 64 ? (s ? u64(s128(s64(x)) * s64(y) >> 64) : u64(u128(x) * y >> 64))
                    : (s ? u64(s64(x) * s64(y) >> n) : x * y >> n);
      } else
        r = x * y;
      if (in.op == OP_mad) r += c;
      return truncate(r, ty);
    }
    case OP_and:
      return truncate(a & b, ty);
    case OP_or:
      return truncate(a | b, ty);
    case OP_xor:
      return truncate(a ^ b, ty);
    case OP_not:
      return truncate(~a, ty);
    case OP_cnot:
      return truncate(a, ty) == 0;
    case OP_shl: {
      u64 k = u32(b);
      return k >= u64(n) ? 0 : truncate(truncate(a, ty) << k, ty);
    }
    case OP_shr: {
      u64 k = u32(b), x = extend(a, ty);
      if (s) return truncate(u64(s64(x) >> (k >= u64(n) ? n - 1 : k)), ty);
      return k >= u64(n) ? 0 : x >> k;
    }
    case OP_popc:
      return __builtin_popcountll(truncate(a, ty));
    case OP_clz: {
      u64 x = truncate(a, ty);
      return x ? __builtin_clzll(x) - (64 - n) : n;
    }
    case OP_brev: {
      u64 x = truncate(a, ty), r = 0;
      for (int i = 0; i < n; i++) r |= (x >> i & 1) << (n - 1 - i);
      return r;
    }
    case OP_bfind: {
      u64 x = extend(a, ty);
      if (s && s64(x) < 0) x = ~x;
      x = truncate(x, ty);
      if (in.flags & CLAMP) throw Fatal("bfind.shiftamt");
      return x ? 63 - __builtin_clzll(x) : 0xffffffffu;
    }
    case OP_bfe: {
      int p = b & 0xff, len = c & 0xff;
      u64 x = truncate(a, ty);
      int msb = n - 1;
      bool sb = s && len ? (x >> std::min(p + len - 1, msb)) & 1 : false;
      u64 r = 0;
      for (int i = 0; i <= msb; i++) r |= u64(i < len && p + i <= msb ? (x >> (p + i)) & 1 : sb) << i;
      return r;
    }
    case OP_sad: {
      u64 x = extend(a, ty), y = extend(b, ty);
      u64 dd = s ? (s64(x) < s64(y) ? y - x : x - y) : x < y ? y - x : x - y;
      return truncate(c + dd, ty);
    }
  }
  throw Fatal(str("int op %s", op_names[in.op]));
}
