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
    programs has some of the columns; `block` is the number of this program. BLOCK columns and, where there are few
    columns, several row blocks are read at once."""
    ROWS: tl.constexpr = 1024 // BLOCK
    for start in range(block * BLOCK, cols, blocks * BLOCK):
        col = start + tl.arange(0, BLOCK).to(tl.int64)
        total = tl.zeros([ROWS, BLOCK], tl.float64)
        for first in range(0, row_blocks, ROWS):
            row = first + tl.arange(0, ROWS).to(tl.int64)
            inside = (row < row_blocks)[:, None] & (col < cols)[None, :]
            total += tl.load(part + place(row, cols, col), mask=inside, other=0.0, cache_modifier=".cg")
        tl.store(out + col, (tl.sum(total, 0) * factor).to(out.dtype.element_ty), mask=col < cols)
