"""The arithmetic of core.cpp, instruction by instruction, on random and special numbers against numpy and exact fractions."""
import ctypes, struct, sys, random
from fractions import Fraction
import numpy as np
from . import ptxsim
N = 4096
def module(ops, regs):
    body = "\n".join(ops)
    return f""".version 8.7
.target sm_90
.address_size 64
.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 po)
{{
 .reg .pred %p<9>; .reg .b16 %h<20>; .reg .b32 %r<40>; .reg .f32 %f<40>; .reg .f64 %d<40>; .reg .b64 %rd<40>;
 ld.param.u64 %rd1, [pa]; ld.param.u64 %rd2, [pb]; ld.param.u64 %rd3, [pc]; ld.param.u64 %rd4, [po];
 mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mad.lo.s32 %r3, %r2, 128, %r1; mul.wide.s32 %rd5, %r3, 8;
 add.s64 %rd1, %rd1, %rd5; add.s64 %rd2, %rd2, %rd5; add.s64 %rd3, %rd3, %rd5; add.s64 %rd4, %rd4, %rd5;
 ld.global.b64 %rd11, [%rd1]; ld.global.b64 %rd12, [%rd2]; ld.global.b64 %rd13, [%rd3];
 {body}
 st.global.b64 [%rd4], %rd20;
 ret;
}}"""
def run(ops, a, b, c):
    m = ptxsim.Module(module(ops, None)); out = np.zeros(N, np.uint64); mem = ptxsim.Memory(); mem.clear()
    for x in (a, b, c, out): mem.raw(x.ctypes.data, x.nbytes, "x", True)
    e, r = m.launch("k", (N // 128,), 128, struct.pack("<4Q", *(x.ctypes.data for x in (a, b, c, out))))
    assert not e and not [q for q in r if not q[0].startswith("info")], (e, r); return out
g = np.random.default_rng(0)
def pick(bits):
    x = g.integers(0, 1 << 64, N, dtype=np.uint64) if bits == 64 else g.integers(0, 1 << 32, N, dtype=np.uint64)
    sp32 = [0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 1, 0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0x42b00000]
    sp64 = [0, 1 << 63, 0x3ff0 << 48, 0x7ff0 << 48, 0xfff0 << 48, 0x7ff8 << 48, 1, 0x7fefffffffffffff, 0x0010000000000000]
    sp = sp64 if bits == 64 else sp32
    i = g.random(N) < 0.25; x[i] = np.array(sp, np.uint64)[g.integers(0, len(sp), i.sum())]
    j = g.random(N) < 0.4  # of like size
    if bits == 32: x[j] = (g.normal(size=j.sum()) * 2.0 ** g.integers(-6, 6, j.sum())).astype(np.float32).view(np.uint32)
    else: x[j] = (g.normal(size=j.sum()) * 2.0 ** g.integers(-6, 6, j.sum())).view(np.uint64)
    return x
f = lambda x: x.astype(np.uint32).view(np.float32); d = lambda x: x.view(np.float64)
def same32(o, want):
    w = want.astype(np.float32).view(np.uint32); nan = np.isnan(want); o = o.astype(np.uint32); assert ((o == w) | (nan & (o == 0x7fffffff))).all(), np.nonzero(~((o == w) | nan))[0][:3]
def same64(o, want): nan = np.isnan(want); assert ((o == want.view(np.uint64)) | (nan & np.isnan(o.view(np.float64)))).all()
libm = ctypes.CDLL("libm.so.6"); libm.fmaf.restype = ctypes.c_float; libm.fmaf.argtypes = [ctypes.c_float] * 3; libm.fma.restype = ctypes.c_double; libm.fma.argtypes = [ctypes.c_double] * 3
np.seterr(all="ignore"); n = 0
U = "mov.b64 {%r11, _}, %rd11; mov.b64 {%r12, _}, %rd12; mov.b64 {%r13, _}, %rd13; mov.b32 %f1, %r11; mov.b32 %f2, %r12; mov.b32 %f3, %r13;"
O = "mov.b32 %r20, %f4; cvt.u64.u32 %rd20, %r20;"
for _ in range(3):
    a, b, c = (pick(32) for _ in range(3)); A, B, C = f(a), f(b), f(c)
    for op, want in {"add.rn.f32 %f4, %f1, %f2": A + B, "sub.rn.f32 %f4, %f1, %f2": A - B, "mul.rn.f32 %f4, %f1, %f2": A * B, "div.rn.f32 %f4, %f1, %f2": A / B, "sqrt.rn.f32 %f4, %f1": np.sqrt(A), "rcp.rn.f32 %f4, %f1": np.float32(1) / A,
                     "fma.rn.f32 %f4, %f1, %f2, %f3": np.array([libm.fmaf(x, y, z) for x, y, z in zip(A, B, C)], np.float32)}.items():
        same32(run([U, op + ";", O], a, b, c), want); n += N
    o = run([U, "min.f32 %f4, %f1, %f2;", O], a, b, c); w = np.fmin(A, B); z = (A == 0) & (B == 0); w = np.where(z & (np.signbit(A) | np.signbit(B)), np.float32(-0.0), w); same32(o, w)
    o = run([U, "max.f32 %f4, %f1, %f2;", O], a, b, c); w = np.fmax(A, B); w = np.where(z & ~(np.signbit(A) & np.signbit(B)), np.float32(0), w); same32(o, w); n += 2 * N
    ftz = lambda v: np.where(np.abs(v) < np.float32(1.17549435e-38), np.copysign(np.float32(0), v), v)
    same32(run([U, "add.rn.ftz.f32 %f4, %f1, %f2;", O], a, b, c), ftz(ftz(A) + ftz(B))); same32(run([U, "mul.rn.ftz.f32 %f4, %f1, %f2;", O], a, b, c), ftz(ftz(A) * ftz(B)))
    o = f(run([U, "ex2.approx.ftz.f32 %f4, %f1;", O], a, b, c)); w = ftz(np.exp2(ftz(A).astype(np.float64)).astype(np.float32)); assert ((o == w) | np.isnan(w)).all(); n += 3 * N
    for cmp, want in {"lt": A < B, "le": A <= B, "gt": A > B, "ge": A >= B, "eq": A == B, "ne": (A != B) & ~np.isnan(A) & ~np.isnan(B), "neu": A != B, "geu": ~(A < B), "ltu": ~(A >= B), "num": ~np.isnan(A) & ~np.isnan(B)}.items():
        assert (run([U, f"setp.{cmp}.f32 %p1, %f1, %f2; selp.u64 %rd20, 1, 0, %p1;"], a, b, c) == want).all(); n += N
    same32(run([U, "cvt.f64.f32 %d1, %f1; cvt.rn.f32.f64 %f4, %d1;", O], a, b, c), A)
    big = np.isfinite(A); o = run([U, "cvt.rzi.s32.f32 %r20, %f1; cvt.u64.u32 %rd20, %r20;"], a, b, c).astype(np.uint32).view(np.int32); w = np.where(np.isnan(A), 0, np.clip(np.trunc(np.nan_to_num(A.astype(np.float64), posinf=1e30, neginf=-1e30)), -2**31, 2**31 - 1)).astype(np.int64); assert (o == w).all()
    s32 = a.astype(np.uint32).view(np.int32); u32 = a.astype(np.uint32); t32 = b.astype(np.uint32).view(np.int32); v32 = b.astype(np.uint32)
    same32(run([U, "cvt.rn.f32.s32 %f4, %r11;", O], a, b, c), s32.astype(np.float32)); same32(run([U, "cvt.rn.f32.u32 %f4, %r11;", O], a, b, c), u32.astype(np.float32))
    E = "cvt.u64.u32 %rd20, %r20;"
    for op, want in {"mul.hi.u32 %r20, %r11, %r12": (u32.astype(np.uint64) * v32 >> np.uint64(32)), "mul.lo.s32 %r20, %r11, %r12": u32 * v32, "shr.s32 %r20, %r11, 5": (s32 >> 5).view(np.uint32), "shr.u32 %r20, %r11, 31": u32 >> 31, "shl.b32 %r20, %r11, 7": u32 << np.uint32(7), "shl.b32 %r20, %r11, 40": u32 * 0,
                     "min.s32 %r20, %r11, %r12": np.minimum(s32, t32).view(np.uint32), "max.u32 %r20, %r11, %r12": np.maximum(u32, v32), "bfe.u32 %r20, %r11, 5, 9": u32 >> 5 & 511, "bfe.s32 %r20, %r11, 5, 9": ((s32 << 18) >> 23).view(np.uint32), "xor.b32 %r20, %r11, %r12": u32 ^ v32, "popc.b32 %r20, %r11": np.array([bin(x).count("1") for x in u32], np.uint32),
                     "shf.l.wrap.b32 %r20, %r11, %r12, 9": (v32 << np.uint32(9)) | (u32 >> np.uint32(23)), "prmt.b32 %r20, %r11, %r12, 0x5410": (u32 & 0xffff) | (v32 << np.uint32(16)), "prmt.b32 %r20, %r11, %r12, 0x7632": (u32 >> 16) | (v32 & np.uint32(0xffff0000)), "lop3.b32 %r20, %r11, %r12, %r13, 0xE8": (u32 & v32) | (u32 & c.astype(np.uint32)) | (v32 & c.astype(np.uint32))}.items():
        assert (run([U, op + ";", E], a, b, c).astype(np.uint32) == np.asarray(want).astype(np.uint32)).all(), op; n += N
    nz = v32 != 0; bb = np.where(nz, b, np.uint64(3)); vv = bb.astype(np.uint32); tt = vv.view(np.int32)
    assert (run([U, "div.u32 %r20, %r11, %r12;", E], a, bb, c).astype(np.uint32) == u32 // vv).all(); q = np.array([int(x) // int(y) if (x < 0) == (y < 0) or x == 0 else -(-int(x) // int(y)) if False else int(Fraction(int(x), int(y)).__trunc__()) for x, y in zip(s32, tt)], np.int64)
    assert (run([U, "div.s32 %r20, %r11, %r12;", E], a, bb, c).astype(np.uint32) == (q & 0xffffffff).astype(np.uint32)).all(); n += 2 * N
    x = A; h = run([U, "cvt.rn.f16x2.f32 %r20, %f1, %f2;", E], a, b, c).astype(np.uint32); lo, hi = (h & 0xffff).astype(np.uint16).view(np.float16), (h >> 16).astype(np.uint16).view(np.float16)
    assert ((hi == A.astype(np.float16)) | np.isnan(A)).all() and ((lo == B.astype(np.float16)) | np.isnan(B)).all()
    h = run([U, "cvt.rn.bf16x2.f32 %r20, %f1, %f2;", E], a, b, c).astype(np.uint32); import torch
    bf = lambda t: torch.from_numpy(t.copy()).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert (((h >> 16).astype(np.uint16) == bf(A)) | np.isnan(A)).all() and (((h & 0xffff).astype(np.uint16) == bf(B)) | np.isnan(B)).all(); n += 4 * N
    a, b, c = (pick(64) for _ in range(3)); A, B, C = d(a), d(b), d(c)
    V = "mov.b64 %d1, %rd11; mov.b64 %d2, %rd12; mov.b64 %d3, %rd13;"; W = "mov.b64 %rd20, %d4;"
    for op, want in {"add.rn.f64 %d4, %d1, %d2": A + B, "mul.rn.f64 %d4, %d1, %d2": A * B, "div.rn.f64 %d4, %d1, %d2": A / B, "sqrt.rn.f64 %d4, %d1": np.sqrt(A), "fma.rn.f64 %d4, %d1, %d2, %d3": np.array([libm.fma(x, y, z) for x, y, z in zip(A, B, C)])}.items():
        same64(run([V, op + ";", W], a, b, c), want); n += N
    same32(run([V, "cvt.rn.f32.f64 %f4, %d1;", O], a, b, c), A.astype(np.float32))
    o = run([V, "cvt.rn.bf16.f64 %h1, %d1; cvt.u64.u16 %rd20, %h1;"], a, b, c)
    k = [i for i in range(0, N, 7) if np.isfinite(A[i]) and 1e-30 < abs(A[i]) < 1e30]
    for i in k:
        got = np.array([int(o[i]) << 16], np.uint32).view(np.float32)[0]; near = [np.array([(int(o[i]) + e) << 16], np.uint32).view(np.float32)[0] for e in (-1, 1)]
        assert all(abs(Fraction(float(got)) - Fraction(float(A[i]))) <= abs(Fraction(float(m)) - Fraction(float(A[i]))) for m in near if np.isfinite(m))
    assert (run(["mul.hi.u64 %rd20, %rd11, %rd12;"], a, b, c) == np.array([int(x) * int(y) >> 64 for x, y in zip(a, b)], np.uint64)).all()
    assert (run(["shr.s64 %rd20, %rd11, 13;"], a, b, c).view(np.int64) == a.view(np.int64) >> 13).all(); n += 4 * N
print(f"check self: {n} results of instructions, 0 wrong")
