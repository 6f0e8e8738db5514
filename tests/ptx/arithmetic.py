"""The simulator's arithmetic, instruction by instruction, on random and special numbers: the rounded ones are exact.
The truth is numpy's, libm's fma and exact fractions.

    python -m ptx.arithmetic
"""

import ctypes
import struct
import sys
from fractions import Fraction

import numpy as np
import torch

from .memory import Memory
from .module import Module

NUMBERS, THREADS = 4096, 128
# a, b and c are read as 64 bits each, and %rd20 is written.
PTX = """.version 8.7
.target sm_90
.address_size 64
.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 po)
{
 .reg .pred %p<9>; .reg .b16 %h<20>; .reg .b32 %r<40>; .reg .f32 %f<40>; .reg .f64 %d<40>; .reg .b64 %rd<40>;
 ld.param.u64 %rd1, [pa]; ld.param.u64 %rd2, [pb]; ld.param.u64 %rd3, [pc]; ld.param.u64 %rd4, [po];
 mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mad.lo.s32 %r3, %r2, 128, %r1; mul.wide.s32 %rd5, %r3, 8;
 add.s64 %rd1, %rd1, %rd5; add.s64 %rd2, %rd2, %rd5; add.s64 %rd3, %rd3, %rd5; add.s64 %rd4, %rd4, %rd5;
 ld.global.b64 %rd11, [%rd1]; ld.global.b64 %rd12, [%rd2]; ld.global.b64 %rd13, [%rd3];
 BODY
 st.global.b64 [%rd4], %rd20;
 ret;
}"""
# From %rd11, 12 and 13 to what an instruction reads; from what it writes to %rd20.
GET_32 = (
    "mov.b64 {%r11, _}, %rd11; mov.b64 {%r12, _}, %rd12; mov.b64 {%r13, _}, %rd13; "
    "mov.b32 %f1, %r11; mov.b32 %f2, %r12; mov.b32 %f3, %r13; "
)
PUT_FLOAT, PUT_32 = "mov.b32 %r20, %f4; cvt.u64.u32 %rd20, %r20;", "cvt.u64.u32 %rd20, %r20;"
GET_64, PUT_DOUBLE = "mov.b64 %d1, %rd11; mov.b64 %d2, %rd12; mov.b64 %d3, %rd13; ", "mov.b64 %rd20, %d4;"
SPECIAL_32 = [
    0, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 1, 0x80000001, 0x007FFFFF, 0x00800000,
    0x7F7FFFFF, 0x42B00000,
]  # fmt: skip
SPECIAL_64 = [
    0, 1 << 63, 0x3FF0 << 48, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, 1, 0x7FEFFFFFFFFFFFFF, 0x0010000000000000,
]  # fmt: skip
SMALLEST_NORMAL = np.float32(1.17549435e-38)

libm = ctypes.CDLL("libm.so.6")
libm.fmaf.restype, libm.fmaf.argtypes = ctypes.c_float, [ctypes.c_float] * 3
libm.fma.restype, libm.fma.argtypes = ctypes.c_double, [ctypes.c_double] * 3


class Check:
    """Some numbers, and how many results of instructions on them were right."""

    def __init__(self, seed, numbers):
        self.random, self.numbers, self.count = np.random.default_rng(seed), numbers, 0

    def draw(self, bits):
        """Random bits; a quarter are special numbers, and of the rest some are of like size."""
        g, n = self.random, self.numbers
        x = g.integers(0, 1 << bits, n, dtype=np.uint64)
        special = g.random(n) < 0.25
        x[special] = g.choice(np.array(SPECIAL_64 if bits == 64 else SPECIAL_32, np.uint64), special.sum())
        like = g.random(n) < 0.4
        values = g.normal(size=like.sum()) * 2.0 ** g.integers(-6, 6, like.sum())
        x[like] = values.view(np.uint64) if bits == 64 else values.astype(np.float32).view(np.uint32)
        return x

    def run(self, body, *inputs):
        """What the kernel with this body writes."""
        module, memory, out = Module(PTX.replace("BODY", body)), Memory(), np.zeros(self.numbers, np.uint64)
        memory.clear()
        arrays = *inputs, out
        for x in arrays:
            memory.raw(x.ctypes.data, x.nbytes, "x", True)
        parameters = struct.pack("<4Q", *(x.ctypes.data for x in arrays))
        error, reports = module.launch("k", (self.numbers // THREADS,), THREADS, parameters)
        assert not error and all(r[0].startswith("info") for r in reports), (body, error, reports)
        self.count += self.numbers
        return out

    def same(self, body, inputs, truth):
        """The results are these bits; of NaN there is one pattern."""
        out = self.run(body, *inputs)
        if truth.dtype == np.float32:
            out, nan = out.astype(np.uint32), np.uint32(0x7FFFFFFF)
            right = np.where(np.isnan(truth), out == nan, out == truth.view(np.uint32))
        elif truth.dtype == np.float64:
            right = np.where(np.isnan(truth), np.isnan(out.view(np.float64)), out == truth.view(np.uint64))
        elif truth.dtype.itemsize == 4:
            right = out.astype(np.uint32) == truth.view(np.uint32)
        else:
            right = out == truth.astype(np.uint64)
        at = np.nonzero(~right)[0][:1]
        assert right.all(), (body, [hex(x[at][0]) for x in inputs], hex(out[at][0]), truth[at][0])


def flush(v):
    """Without subnormal numbers."""
    return np.where(np.abs(v) < SMALLEST_NORMAL, np.copysign(np.float32(0), v), v)


def floats(check):
    bits = [check.draw(32) for _ in range(3)]
    a, b, c = (x.astype(np.uint32).view(np.float32) for x in bits)
    zeros = (a == 0) & (b == 0)
    low = np.where(zeros & (np.signbit(a) | np.signbit(b)), np.float32(-0.0), np.fmin(a, b))
    high = np.where(zeros & ~(np.signbit(a) & np.signbit(b)), np.float32(0), np.fmax(a, b))
    truth = {
        "add.rn.f32 %f4, %f1, %f2": a + b, "sub.rn.f32 %f4, %f1, %f2": a - b, "mul.rn.f32 %f4, %f1, %f2": a * b,
        "div.rn.f32 %f4, %f1, %f2": a / b, "sqrt.rn.f32 %f4, %f1": np.sqrt(a), "rcp.rn.f32 %f4, %f1": np.float32(1) / a,
        "fma.rn.f32 %f4, %f1, %f2, %f3": np.array(list(map(libm.fmaf, a, b, c)), np.float32),
        "min.f32 %f4, %f1, %f2": low, "max.f32 %f4, %f1, %f2": high,
        "add.rn.ftz.f32 %f4, %f1, %f2": flush(flush(a) + flush(b)),
        "mul.rn.ftz.f32 %f4, %f1, %f2": flush(flush(a) * flush(b)),
        "ex2.approx.ftz.f32 %f4, %f1": flush(np.exp2(flush(a).astype(np.float64)).astype(np.float32)),
        "cvt.f64.f32 %d1, %f1; cvt.rn.f32.f64 %f4, %d1": a,
    }  # fmt: skip
    for body, want in truth.items():
        check.same(GET_32 + body + "; " + PUT_FLOAT, bits, want)
    nan = np.isnan(a) | np.isnan(b)
    compared = {
        "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b, "eq": a == b, "ne": (a != b) & ~nan, "neu": a != b,
        "geu": ~(a < b), "ltu": ~(a >= b), "num": ~nan,
    }  # fmt: skip
    for name, want in compared.items():
        check.same(GET_32 + f"setp.{name}.f32 %p1, %f1, %f2; selp.u64 %rd20, 1, 0, %p1;", bits, want.astype(np.uint64))
    halves(check, bits, a, b)
    whole = np.clip(np.trunc(np.nan_to_num(a.astype(np.float64), posinf=1e30, neginf=-1e30)), -(2**31), 2**31 - 1)
    check.same(GET_32 + "cvt.rzi.s32.f32 %r20, %f1; " + PUT_32, bits, np.where(np.isnan(a), 0, whole).astype(np.int32))


def halves(check, bits, a, b):
    """Two numbers of 16 bits in a register, of two of 32 bits."""
    bfloat = lambda v: torch.from_numpy(v.copy()).bfloat16().view(torch.int16).numpy().view(np.uint16)  # noqa: E731
    half = lambda v: v.astype(np.float16).view(np.uint16)  # noqa: E731
    for name, convert in {"f16x2": half, "bf16x2": bfloat}.items():
        out = check.run(GET_32 + f"cvt.rn.{name}.f32 %r20, %f1, %f2; " + PUT_32, *bits)
        assert ((out >> np.uint64(16) == convert(a)) | np.isnan(a)).all(), name
        assert ((out & np.uint64(0xFFFF) == convert(b)) | np.isnan(b)).all(), name


def integers(check):
    bits = [check.draw(32) for _ in range(3)]
    a, b, c = (x.astype(np.uint32) for x in bits)
    s, t = a.view(np.int32), b.view(np.int32)
    low, high = np.uint32(0xFFFF), np.uint32(0xFFFF0000)
    truth = {
        "mul.hi.u32 %r20, %r11, %r12": (a.astype(np.uint64) * b >> np.uint64(32)).astype(np.uint32),
        "mul.lo.s32 %r20, %r11, %r12": a * b, "shr.s32 %r20, %r11, 5": s >> 5, "shr.u32 %r20, %r11, 31": a >> 31,
        "shl.b32 %r20, %r11, 7": a << np.uint32(7), "shl.b32 %r20, %r11, 40": a * 0,
        "min.s32 %r20, %r11, %r12": np.minimum(s, t), "max.u32 %r20, %r11, %r12": np.maximum(a, b),
        "bfe.u32 %r20, %r11, 5, 9": a >> 5 & 511, "bfe.s32 %r20, %r11, 5, 9": (s << 18) >> 23,
        "xor.b32 %r20, %r11, %r12": a ^ b,
        "popc.b32 %r20, %r11": np.array([bin(x).count("1") for x in a], np.uint32),
        "shf.l.wrap.b32 %r20, %r11, %r12, 9": (b << np.uint32(9)) | (a >> np.uint32(23)),
        "prmt.b32 %r20, %r11, %r12, 0x5410": (a & low) | (b << np.uint32(16)),
        "prmt.b32 %r20, %r11, %r12, 0x7632": (a >> 16) | (b & high),
        "lop3.b32 %r20, %r11, %r12, %r13, 0xE8": (a & b) | (a & c) | (b & c),
    }  # fmt: skip
    for body, want in truth.items():
        check.same(GET_32 + body + "; " + PUT_32, bits, want)
    check.same(GET_32 + "cvt.rn.f32.s32 %f4, %r11; " + PUT_FLOAT, bits, s.astype(np.float32))
    check.same(GET_32 + "cvt.rn.f32.u32 %f4, %r11; " + PUT_FLOAT, bits, a.astype(np.float32))
    bits[1] = np.where(b != 0, bits[1], np.uint64(3))
    b = bits[1].astype(np.uint32)
    check.same(GET_32 + "div.u32 %r20, %r11, %r12; " + PUT_32, bits, a // b)
    quotients = [int(Fraction(int(x), int(y))) & 0xFFFFFFFF for x, y in zip(s, b.view(np.int32), strict=True)]
    check.same(GET_32 + "div.s32 %r20, %r11, %r12; " + PUT_32, bits, np.array(quotients, np.uint32))


def doubles(check):
    bits = [check.draw(64) for _ in range(3)]
    a, b, c = (x.view(np.float64) for x in bits)
    truth = {
        "add.rn.f64 %d4, %d1, %d2": a + b, "mul.rn.f64 %d4, %d1, %d2": a * b, "div.rn.f64 %d4, %d1, %d2": a / b,
        "sqrt.rn.f64 %d4, %d1": np.sqrt(a), "fma.rn.f64 %d4, %d1, %d2, %d3": np.array(list(map(libm.fma, a, b, c))),
    }  # fmt: skip
    for body, want in truth.items():
        check.same(GET_64 + body + "; " + PUT_DOUBLE, bits, want)
    check.same(GET_64 + "cvt.rn.f32.f64 %f4, %d1; " + PUT_FLOAT, bits, a.astype(np.float32))
    high = [int(x) * int(y) >> 64 for x, y in zip(*bits[:2], strict=True)]
    check.same("mul.hi.u64 %rd20, %rd11, %rd12;", bits, np.array(high, np.uint64))
    check.same("shr.s64 %rd20, %rd11, 13;", bits, (bits[0].view(np.int64) >> 13).view(np.uint64))
    out = check.run(GET_64 + "cvt.rn.bf16.f64 %h1, %d1; cvt.u64.u16 %rd20, %h1;", *bits)
    for k in range(0, check.numbers, 7):
        if 1e-30 < abs(a[k]) < 1e30:
            nearest(int(out[k]), a[k])


def nearest(bfloat, value):
    """No neighbour of this bfloat16 is nearer to the value."""
    number = lambda bits: np.array([bits << 16], np.uint32).view(np.float32)[0]  # noqa: E731
    error = lambda v: abs(Fraction(float(v)) - Fraction(float(value)))  # noqa: E731
    neighbours = [number(bfloat + e) for e in (-1, 1)]
    assert all(error(number(bfloat)) <= error(n) for n in neighbours if np.isfinite(n)), (hex(bfloat), value)


def main(rounds=3, numbers=NUMBERS):
    """How many results were checked; an AssertionError where one is wrong."""
    count = 0
    with np.errstate(all="ignore"):
        for seed in range(rounds):
            check = Check(seed, numbers)
            for part in (floats, integers, doubles):
                part(check)
            count += check.count
    print(f"self: {count} results of instructions, 0 wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
