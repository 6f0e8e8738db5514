"""Sums of the float64 partial sums that programs have left behind, in a fixed order."""

import triton
import triton.language as tl

from .tiles import place


@triton.jit
def row_sums(part, row, rows, pieces, PIECES: tl.constexpr):
    """[R]: for each row the sum of its `pieces` partial sums."""
    total = tl.zeros([row.shape[0], PIECES], tl.float64)
    for start in range(0, pieces, PIECES):
        piece = start + tl.arange(0, PIECES)
        inside = (row < rows)[:, None] & (piece < pieces)[None, :]
        total += tl.load(part + place(row, pieces, piece), mask=inside, other=0.0, cache_modifier=".cg")
    return tl.sum(total, 1)


@triton.jit
def all_sum(part, n, BLOCK: tl.constexpr):
    """The sum of n partial sums, a scalar."""
    total = tl.zeros([BLOCK], tl.float64)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        total += tl.load(part + i, mask=i < n, other=0.0, cache_modifier=".cg")
    return tl.sum(total, 0)


@triton.jit
def column_sums(part, out, row_blocks, cols, factor, block, blocks, BLOCK: tl.constexpr):
    """Store into out [cols] the factor times the sums over row_blocks of part [row_blocks, cols]. Each of the `blocks`
    programs has some of the columns; `block` is the number of this program."""
    for start in range(block * BLOCK, cols, blocks * BLOCK):
        col = start + tl.arange(0, BLOCK).to(tl.int64)
        total = tl.zeros([BLOCK], tl.float64)
        at = col
        for _ in range(row_blocks):
            total += tl.load(part + at, mask=col < cols, other=0.0, cache_modifier=".cg")
            at += cols
        tl.store(out + col, (total * factor).to(out.dtype.element_ty), mask=col < cols)
