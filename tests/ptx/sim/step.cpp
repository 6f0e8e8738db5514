// Which part of the simulator an instruction is for; arithmetic, lane by lane.
#include "step.h"

Step::Step(Warp& warp, u32 lanes_now)
    : w(warp),
      m(lanes_now),
      on(lanes_now),
      first(__builtin_ctz(lanes_now)),
      pc(w.pc[first]),
      in(module->code[pc]),
      blk(*w.block),
      R(w.regs.data()) {
  module->hits[pc]++;
  op_hits[in.op]++;
  executed += __builtin_popcount(m);
  warp_insns++;
  if (in.guard < 0) return;
  on = 0;
  const u64* guard = R + u64(in.guard) * 32;
  lanes(m, [&](int l) { on |= u32((guard[l] & 1) != u64(in.gneg)) << l; });
}

void step(Warp& w, u32 m) {
  Step s(w, m);
  switch (s.in.op) {
    case OP_bra:
    case OP_brx:
    case OP_ret:
    case OP_exit:
    case OP_call:
    case OP_bar:
    case OP_barrier:
      return s.control();
    case OP_ldmatrix:
    case OP_stmatrix:
    case OP_shfl:
    case OP_vote:
    case OP_redux:
    case OP_barwarp:
    case OP_activemask:
    case OP_match:
      return s.together();
  }
  s.next(m);
  if (!s.on) return;
  switch (s.in.op) {
    case OP_ld:
    case OP_st:
    case OP_atom:
    case OP_red:
    case OP_fence:
    case OP_membar:
      return s.access();
    case OP_mov:
    case OP_cvta:
    case OP_cvt:
      return s.move();
    case OP_setp:
    case OP_set:
    case OP_selp:
    case OP_slct:
      return s.choose();
    case OP_lop3:
    case OP_prmt:
    case OP_shf:
    case OP_bfi:
    case OP_testp:
    case OP_isspacep:
      return s.bits();
    case OP_nop:
      return;
    case OP_trap:
      throw Fatal(str("line %d: trap; %s", s.in.line, where(w, __builtin_ctz(s.on)).c_str()));
  }
  s.in.ty == PRED ? s.predicates() : s.arithmetic();
}

void Step::predicates() {
  u64* d = D(0);
  lanes(on, [&](int l) {
    bool x = P(0, l), y = in.ns > 1 ? P(1, l) : false, r;
    switch (in.op) {
      case OP_and:
        r = x && y;
        break;
      case OP_or:
        r = x || y;
        break;
      case OP_xor:
        r = x != y;
        break;
      case OP_not:
        r = !x;
        break;
      default:
        throw Fatal("pred op");
    }
    d[l] = r;
  });
}

void Step::arithmetic() {
  const u64 *a = S(0), *b = in.ns > 1 ? S(1) : a, *c = in.ns > 2 ? S(2) : a;
  u64* d = D(0);
  // Two numbers of `n` bits in a register: the one and the other.
  auto halves = [&](int ty, int n, u64 (*op)(const Insn&, u64, u64, u64)) {
    Insn half = in;
    half.ty = ty;
    const u64 low = (u64(1) << n) - 1;
    lanes(on, [&](int l) {
      d[l] = op(half, a[l] & low, b[l] & low, c[l] & low) | op(half, a[l] >> n & low, b[l] >> n & low, c[l] >> n & low)
                                                                << n;
    });
  };
  if (in.ty == S16X2 || in.ty == U16X2) return halves(in.ty == S16X2 ? S16 : U16, 16, int_op);
  if (in.ty == F32X2) return halves(F32, 32, float_op);
  if (is_float(in.ty) && in.op != OP_and && in.op != OP_or && in.op != OP_xor) {
    if (in.ty == F32 && in.flags == 0 && in.round == RN) {
      switch (in.op) {  // the usual, without a call
#define FAST(OPN, E)                                     \
  case OPN:                                              \
    lanes(on, [&](int l) {                               \
      float x = f32(a[l]), y = f32(b[l]), z = f32(c[l]); \
      (void)z;                                           \
      (void)y;                                           \
      d[l] = nan_or(float(E));                           \
    });                                                  \
    return;
        FAST(OP_add, x + y) FAST(OP_sub, x - y) FAST(OP_mul, x * y) FAST(OP_fma, __builtin_fmaf(x, y, z))
#undef FAST
      }
    }
    if (in.ty == F16X2 || in.ty == BF16X2) return halves(in.ty == F16X2 ? F16 : BF16, 16, float_op);
    lanes(on, [&](int l) { d[l] = float_op(in, a[l], b[l], c[l]); });
    return;
  }
  lanes(on, [&](int l) { d[l] = int_op(in, a[l], b[l], c[l]); });
}
