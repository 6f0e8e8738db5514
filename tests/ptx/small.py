"""A small kernel that has what the product's kernels have: shared memory, a barrier, a ticket with fences, and a last
block that adds up. FAULTS: what can be wrong with it."""

import struct

import numpy as np

from .memory import Memory
from .module import Module

BLOCKS, THREADS = 4, 128
KERNEL = """.version 8.7
.target sm_80
.address_size 64
.visible .entry k(.param .u64 px, .param .u64 pout, .param .u64 ppartial, .param .u64 pticket, .param .u64 ptotal)
.maxntid 128
{
 .reg .pred %p<4>; .reg .b32 %r<20>; .reg .f32 %f<10>; .reg .b64 %rd<20>;
 .shared .align 8 .b8 kept[512];
 ld.param.u64 %rd1, [px]; ld.param.u64 %rd2, [pout]; ld.param.u64 %rd3, [ppartial];
 ld.param.u64 %rd4, [pticket]; ld.param.u64 %rd5, [ptotal];
 mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mad.lo.s32 %r3, %r2, 128, %r1; mov.u32 %r4, kept;
 mul.wide.s32 %rd6, %r3, 4; add.s64 %rd1, %rd1, %rd6; add.s64 %rd2, %rd2, %rd6;
 ld.global.f32 %f1, [%rd1];
 shl.b32 %r5, %r1, 2; add.s32 %r5, %r4, %r5;
 st.shared.f32 [%r5], %f1;
 bar.sync 0;
 add.s32 %r6, %r1, 1; and.b32 %r6, %r6, 127; shl.b32 %r6, %r6, 2; add.s32 %r6, %r4, %r6;
 ld.shared.f32 %f2, [%r6];
 add.rn.f32 %f3, %f1, %f2;
 st.global.f32 [%rd2], %f3;
 setp.ne.s32 %p1, %r1, 0;
 @%p1 bra DONE;
 mul.wide.s32 %rd7, %r2, 4; add.s64 %rd7, %rd3, %rd7;
 st.global.f32 [%rd7], %f3;
 membar.gl;
 atom.global.add.u32 %r7, [%rd4], 1;
 membar.gl;
 mov.u32 %r8, %nctaid.x; sub.s32 %r9, %r8, 1; setp.ne.s32 %p2, %r7, %r9;
 @%p2 bra DONE;
 mov.u32 %r10, 0; mov.f32 %f4, 0f00000000;
NEXT:
 ld.global.f32 %f5, [%rd3]; add.rn.f32 %f4, %f4, %f5; add.s64 %rd3, %rd3, 4;
 add.s32 %r10, %r10, 1; setp.lt.s32 %p3, %r10, %r8;
 @%p3 bra NEXT;
 st.global.f32 [%rd5], %f4; st.global.u32 [%rd4], 0;
DONE:
 ret;
}"""
# name -> what stands in the kernel, what is put in its place, the kind of what is found
FAULTS = {
    "a bound": ("mad.lo.s32 %r3, %r2, 128, %r1;", "mad.lo.s32 %r3, %r2, 129, %r1;", "fatal"),
    "a bound of shared memory": ("and.b32 %r6, %r6, 127;", "", "fatal"),
    "an address that is not aligned": ("st.global.f32 [%rd7], %f3;", "st.global.f32 [%rd7+2], %f3;", "fatal"),
    "an input is written": ("st.global.f32 [%rd2], %f3;", "st.global.f32 [%rd1], %f3;", "fatal"),
    "a race between blocks": ("st.global.f32 [%rd7], %f3;", "st.global.f32 [%rd5], %f3;", "global-race"),
    "a race in a block": ("st.global.f32 [%rd2], %f3;", "xor.b64 %rd2, %rd2, 128; st.global.f32 [%rd2], %f3;"
        " xor.b64 %rd2, %rd2, 128; ld.global.f32 %f6, [%rd2];", "global-race-raw-in-block"),
    "a fence is missing before the ticket": (" membar.gl;\n atom", " atom", "global-race-raw-between-blocks"),
    "a fence is missing after the ticket": (", 1;\n membar.gl;", ", 1;", "global-race-raw-between-blocks"),
    "a barrier is missing": (" bar.sync 0;\n", "", "shared-race"),
    "a barrier that some threads do not reach": (
        "bar.sync 0;", "setp.gt.s32 %p2, %r1, 15;\n @%p2 bar.sync 0;", "predicated-barrier-diverges"),
    "an uninitialised read": ("ld.global.f32 %f1, [%rd1];", "ld.global.f32 %f1, [%rd2];", "global-uninitialised-read"),
    "an uninitialised read of shared memory": ("st.shared.f32 [%r5], %f1;\n", "", "shared-uninitialised-read"),
}  # fmt: skip


def run(text, **schedule):
    """(the kinds that are found, whether the results are right)."""
    x = np.arange(BLOCKS * THREADS, dtype=np.float32)
    out, partial, total = (np.full(n, np.nan, np.float32) for n in (BLOCKS * THREADS, BLOCKS, 1))
    ticket = np.zeros(1, np.uint32)
    memory, arrays = Memory(), (x, out, partial, ticket, total)
    memory.clear()
    for array in arrays:
        given = array is x or array is ticket
        memory.raw(array.ctypes.data, array.nbytes, "array", given, readonly=array is x)
    parameters = struct.pack("<5Q", *(array.ctypes.data for array in arrays))
    error, reports = Module(text).launch("k", (BLOCKS,), THREADS, parameters, **schedule)
    sums = x.reshape(BLOCKS, THREADS)
    sums = sums + np.roll(sums, -1, 1)
    right = np.array_equal(out.reshape(BLOCKS, THREADS), sums) and total[0] == sums[:, 0].sum() and ticket[0] == 0
    return {kind for kind, *_ in reports} | ({"fatal"} if error else set()), right
