"""The gradients that the forward pass computed, times the incoming one: nothing at all where that is 1."""

import triton
import triton.language as tl

from .tiles import store


@triton.jit
def _rescale(t, n, factor, BLOCK: tl.constexpr):
    for start in range(tl.program_id(0).to(tl.int64) * BLOCK, n, tl.num_programs(0).to(tl.int64) * BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < n
        if start + BLOCK <= n:
            store(t, at, tl.load(t + at) * factor, inside, False)
        else:
            store(t, at, tl.load(t + at, mask=inside) * factor, inside, True)


@triton.jit(do_not_specialize=["n0", "n1", "n2", "n3"])
def rescale_kernel(factor_ptr, t0, t1, t2, t3, n0, n1, n2, n3, BLOCK: tl.constexpr):
    factor = tl.load(factor_ptr)
    if factor != 1.0:
        if t0 is not None:
            _rescale(t0, n0, factor, BLOCK)
        if t1 is not None:
            _rescale(t1, n1, factor, BLOCK)
        if t2 is not None:
            _rescale(t2, n2, factor, BLOCK)
        if t3 is not None:
            _rescale(t3, n3, factor, BLOCK)
