"""The gradients that the forward pass computed, times the incoming gradient: nothing at all where that is 1."""

import functools

import triton
import triton.language as tl

from .launch import Launch
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
def rescale_kernel(factor_ptr, tensors, n0, n1, n2, n3, BLOCK: tl.constexpr):
    factor = tl.load(factor_ptr)
    if factor != 1.0:
        if tensors[0] is not None:
            _rescale(tensors[0], n0, factor, BLOCK)
        if tensors[1] is not None:
            _rescale(tensors[1], n1, factor, BLOCK)
        if tensors[2] is not None:
            _rescale(tensors[2], n2, factor, BLOCK)
        if tensors[3] is not None:
            _rescale(tensors[3], n3, factor, BLOCK)


def rescale_(tensors, factor):
    """tensors *= factor (0-d), four tensors a launch. The kernel reads the factor, and stops at once if it is 1."""
    for i in range(0, len(tensors), 4):
        four = (*tensors[i : i + 4], None, None, None)[:4]
        _launch(tuple([0 if t is None else t.numel() for t in four]))(factor, four)


@functools.lru_cache(maxsize=1024)
def _launch(sizes):
    fixed = {f"n{i}": n for i, n in enumerate(sizes)} | {"BLOCK": 1024}
    blocks = min(max(1, -(-max(sizes) // 1024)), 1024)
    return Launch(rescale_kernel, blocks, fixed, ("factor_ptr", "tensors"))
