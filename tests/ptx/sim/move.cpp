// Moves, conversions, comparisons and bits.
#include "step.h"

void Step::move() {
  switch (in.op) {
    case OP_mov: {
      if (in.nd > 1) {  // unpack
        int n = size_of(in.ty) / in.nd;
        const u64* a = S(0);
        lanes(on, [&](int l) {
          u64 v = a[l];
          for (int i = 0; i < in.nd; i++)
            if (in.d[i].kind == 1) {
              u64 x = v >> (8 * n * i);
              D(i)[l] = n == 1 ? u8(x) : n == 2 ? u16(x) : n == 4 ? u32(x) : x;
            }
        });
        return;
      }
      if (in.ns > 1) {
        int n = size_of(in.ty) / in.ns;
        lanes(on, [&](int l) {
          u64 v = 0;
          for (int i = 0; i < in.ns; i++) {
            u64 x = S(i)[l];
            x = n == 1 ? u8(x) : n == 2 ? u16(x) : n == 4 ? u32(x) : x;
            v |= x << (8 * n * i);
          }
          D(0)[l] = v;
        });
        return;
      }
      u64* d = D(0);
      if (in.s[0].kind == 4) {
        lanes(on, [&](int l) { d[l] = W_LPARAM + in.s[0].imm; });
        return;
      }
      const u64* a = S(0);
      bool neg = in.s[0].kind == 3;
      lanes(on, [&](int l) { d[l] = neg ? !(a[l] & 1) : truncate(a[l], in.ty); });
      return;
    }
    case OP_cvta: {
      u64* d = D(0);
      const u64* a = S(0);
      lanes(on, [&](int l) {
        u64 v = in.s[0].kind == 4 ? W_LPARAM + in.s[0].imm : a[l];
        if (in.flags & TOSPACE) {
          int sp = space_of(v);
          if (sp != in.space && !(in.space == PARAM && sp == CONST))
            note("cvta.to-of-another-space", in.line, str("%#lx", v));
          if (in.space == SHARED) v -= W_SHARED;
          if (in.space == LOCAL) v -= W_LOCAL;
        } else {
          if (in.space == SHARED) v += W_SHARED;
          if (in.space == LOCAL) v += W_LOCAL;
        }
        d[l] = v;
      });
      return;
    }
    case OP_cvt: {
      if (in.ty == F16X2 || in.ty == BF16X2) {
        u64* d = D(0);
        const u64 *a = S(0), *b = S(1);
        if (in.ty2 != F32 || in.round != RN || (in.flags & SAT)) throw Fatal("cvt x2");
        lanes(on, [&](int l) {
          u32 hi = in.ty == F16X2 ? f_to_half(f32(a[l])) : f_to_bf(f32(a[l])),
              lo = in.ty == F16X2 ? f_to_half(f32(b[l])) : f_to_bf(f32(b[l]));
          d[l] = hi << 16 | lo;
        });
        return;
      }
      u64* d = D(0);
      const u64* a = S(0);
      lanes(on, [&](int l) { d[l] = convert(in, a[l]); });
      return;
    }
  }
}

void Step::choose() {
  switch (in.op) {
    case OP_setp: {
      bool z = in.flags & FTZ;
      const u64 *a = S(0), *b = S(1);
      if (in.ty == F16X2 || in.ty == BF16X2) {  // d[0]: of the low halves, d[1]: of the high ones
        int t = in.ty == F16X2 ? F16 : BF16;
        if (in.boolop) throw Fatal("setp x2 boolop");
        lanes(on, [&](int l) {
          bool lo = compare(in.cmp, t, a[l] & 0xffff, b[l] & 0xffff, z),
               hi = compare(in.cmp, t, a[l] >> 16 & 0xffff, b[l] >> 16 & 0xffff, z);
          if (in.d[0].kind == 1) D(0)[l] = lo;
          if (in.nd > 1 && in.d[1].kind == 1) D(1)[l] = hi;
        });
        return;
      }
      lanes(on, [&](int l) {
        bool r = compare(in.cmp, in.ty, a[l], b[l], z), q = !r;
        if (in.boolop) {
          bool c = P(2, l);
          if (in.boolop == B_AND)
            r = r && c, q = q && c;
          else if (in.boolop == B_OR)
            r = r || c, q = q || c;
          else
            r = r != c, q = q != c;
        }
        if (in.d[0].kind == 1) D(0)[l] = r;
        if (in.nd > 1 && in.d[1].kind == 1) D(1)[l] = q;
      });
      return;
    }
    case OP_set: {
      const u64 *a = S(0), *b = S(1);
      u64* d = D(0);
      if (in.boolop) throw Fatal("set boolop");
      lanes(on, [&](int l) {
        bool r = compare(in.cmp, in.ty2, a[l], b[l], in.flags & FTZ);
        d[l] = r ? (in.ty == F32 ? 0x3f800000u : 0xffffffffu) : 0;
      });
      return;
    }
    case OP_selp: {
      const u64 *a = S(0), *b = S(1);
      u64* d = D(0);
      lanes(on, [&](int l) { d[l] = truncate(P(2, l) ? a[l] : b[l], in.ty); });
      return;
    }
    case OP_slct: {
      const u64 *a = S(0), *b = S(1), *c = S(2);
      u64* d = D(0);
      lanes(on, [&](int l) {
        bool t = in.ty2 == S32 ? s32(c[l]) >= 0 : f32(c[l]) >= 0;
        d[l] = truncate(t ? a[l] : b[l], in.ty);
      });
      return;
    }
  }
}

void Step::bits() {
  switch (in.op) {
    case OP_lop3: {
      const u64 *a = S(0), *b = S(1), *c = S(2);
      u32 lut = u32(S(3)[0]);
      u64* d = D(0);
      lanes(on, [&](int l) {
        u32 x = u32(a[l]), y = u32(b[l]), z = u32(c[l]), r = 0;
        for (int k = 0; k < 8; k++)
          if (lut >> k & 1) r |= (k & 4 ? x : ~x) & (k & 2 ? y : ~y) & (k & 1 ? z : ~z);
        d[l] = r;
      });
      return;
    }
    case OP_prmt: {
      const u64 *a = S(0), *b = S(1), *c = S(2);
      u64* d = D(0);
      if (in.aux) throw Fatal("prmt mode");
      lanes(on, [&](int l) {
        u64 t = u64(u32(b[l])) << 32 | u32(a[l]);
        u32 sel = u32(c[l]), r = 0;
        for (int i = 0; i < 4; i++) {
          u32 k = sel >> (4 * i) & 15;
          u8 x = u8(t >> (8 * (k & 7)));
          if (k & 8) x = x & 0x80 ? 0xff : 0;
          r |= u32(x) << (8 * i);
        }
        d[l] = r;
      });
      return;
    }
    case OP_shf: {
      const u64 *a = S(0), *b = S(1), *c = S(2);
      u64* d = D(0);
      bool left = in.aux == 0;
      lanes(on, [&](int l) {
        u32 k = u32(c[l]);
        k = in.flags & WRAP ? k & 31 : std::min(k, 32u);
        u64 t = u64(u32(b[l])) << 32 | u32(a[l]);
        d[l] = left ? u32(k == 32 ? u32(a[l]) : u32(t << k >> 32)) : u32(t >> k);
      });
      return;
    }
    case OP_bfi: {
      const u64 *a = S(0), *b = S(1), *c = S(2), *e = S(3);
      u64* d = D(0);
      int n = size_of(in.ty) * 8;
      lanes(on, [&](int l) {
        u64 r = truncate(b[l], in.ty);
        int p = c[l] & 0xff, len = e[l] & 0xff;
        for (int i = 0; i < len && p + i < n; i++) {
          u64 bit = a[l] >> i & 1;
          r = (r & ~(1ull << (p + i))) | bit << (p + i);
        }
        d[l] = r;
      });
      return;
    }
    case OP_testp: {
      const u64* a = S(0);
      u64* d = D(0);
      lanes(on, [&](int l) {
        double x = in.ty == F32 ? double(f32(a[l])) : f64(a[l]);
        bool fin = std::isfinite(x), nan = x != x, inf = std::isinf(x);
        double mn = in.ty == F32 ? 1.17549435e-38 : 2.2250738585072014e-308;
        bool r = in.aux == 0   ? fin
                 : in.aux == 1 ? inf
                 : in.aux == 2 ? !nan
                 : in.aux == 3 ? nan
                 : in.aux == 4 ? fin && std::fabs(x) >= mn
                               : fin && x != 0 && std::fabs(x) < mn;
        d[l] = r;
      });
      return;
    }
    case OP_isspacep: {
      const u64* a = S(0);
      u64* d = D(0);
      lanes(on, [&](int l) { d[l] = space_of(a[l]) == in.space; });
      return;
    }
  }
}
