"""log p of each element: the kernel and its launch. The tiles are those of the likelihood term of a loss."""

import functools

import triton
import triton.language as tl

from ...core.layout import empty_in_order
from ..reference import compute_dtype
from .launch import Described, Launch, described
from .likelihood import LikelihoodTerm, parameter
from .tiles import load, place, store
from .twins import DTYPES


@triton.jit
def _tiles(
    x, parameters, out, x_row, parameter_rows, rows, cols, end, row_block, piece,
    FORMULA: tl.constexpr, TILE: tl.constexpr, MASKED: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    R: tl.constexpr = TILE.R
    C: tl.constexpr = TILE.C
    N: tl.constexpr = TILE.N
    row = row_block * R + tl.arange(0, R)
    for step in range(TILE.STEPS):
        col = piece * (C * TILE.STEPS) + step * C + tl.arange(0, C)
        inside = (row < rows)[:, None] & (col < end)[None, :]
        target = load(x, place(row, x_row, col), inside, MASKED, DTYPE, TILE.COUNTS)
        values = ()
        for i in tl.static_range(N):
            value = parameter(parameters[i], parameter_rows[i], row, col, rows, end, TILE.LAYOUTS[i], MASKED, DTYPE)
            values = values + (value,)
        store(out, place(row, cols, col), -FORMULA(target, *values)[0], inside, MASKED)


# As in objective_kernel.py: no integer that depends on the batch is specialized, and `run` stands in place of `cols`.
@triton.jit(do_not_specialize=["rows", "run", "pieces"])
def log_prob_kernel(
    x, parameters, out, x_row, parameter_rows, rows, cols, run, pieces,
    FORMULA: tl.constexpr, TILE: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    row_block, piece = block // pieces, block % pieces
    height = 1 if rows is None else rows
    end = cols if run is None else run
    if (row_block + 1) * TILE.R <= height and (piece + 1) * (TILE.C * TILE.STEPS) <= end:
        _tiles(
            x, parameters, out, x_row, parameter_rows, height, cols, end, row_block, piece, FORMULA, TILE, False, DTYPE
        )
    else:
        _tiles(
            x, parameters, out, x_row, parameter_rows, height, cols, end, row_block, piece, FORMULA, TILE, True, DTYPE
        )


def log_prob(likelihood, x, params):
    """The op."""
    out = empty_in_order(params[0], compute_dtype(*params))
    if x.numel():
        launch, left_out = _launch(likelihood, described(x), tuple([described(p) for p in params]), out.dtype)
        launch(x, (*params, *left_out), out)
    return out


@functools.lru_cache(maxsize=1024)
def _launch(likelihood, x, params, dtype):
    params = [Described(*p) for p in params]
    term = LikelihoodTerm(Described(*x), params, None, likelihood, None, [False] * len(params), False, False, dtype)
    assert term.x_rows is None, "x has fewer samples than the parameters, which this kernel does not read"
    tiles = term.tiles
    fixed = {"x_row": term.x_row, "parameter_rows": term.parameter_rows, "pieces": tiles.pieces}
    fixed |= {"rows": None if tiles.flat else tiles.rows, "run": tiles.cols if term.ragged else None}
    fixed |= {"cols": 0 if term.ragged else tiles.cols, "DTYPE": DTYPES[dtype]}
    fixed |= {"FORMULA": term.formula, "TILE": term.constants}
    left_out = (None,) * (term.constants.N - len(params))
    return Launch(log_prob_kernel, term.blocks, fixed, ("x", "parameters", "out"), term.warps), left_out
