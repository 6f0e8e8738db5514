"""The likelihood term: what a program of elbo_kernel does with its tiles of x, and what the host gives to the program.

A program has a tile of R samples and C elements of a sample, and STEPS of these tiles: side by side, or below one
another with DOWN, for gradients that are sums over the samples. A program leaves partial sums in float64. With
BY_SAMPLE there is one partial sum for each sample and piece of a sample, else there is one for the whole program.
"""

import math
from typing import Any, NamedTuple

import triton
import triton.language as tl

from ...core.objective import Layout, layout_against
from ...formulas import ELEMENT
from .constants import FULL, PER_FEATURE, SCALAR
from .grid import Tiles
from .tiles import load, place, row_weights, store
from .twins import NLL


class Likelihood(NamedTuple):
    """What is compiled into the kernel: the number of parameters, the Layout of each, whether x is counts, and the
    tiles."""

    N: Any = 0
    LAYOUTS: Any = ()
    COUNTS: Any = False
    R: Any = 1
    C: Any = 1
    STEPS: Any = 1
    DOWN: Any = False


@triton.jit
def _parameter(ptr, stride, row, col, inside, in_row, LAYOUT: tl.constexpr, MASKED: tl.constexpr, DTYPE: tl.constexpr):
    """The tile of a parameter. A parameter that is left out is 0."""
    if LAYOUT == FULL:
        value = load(ptr, place(row, stride, col), inside, MASKED, DTYPE)
    else:
        value = tl.zeros([row.shape[0], col.shape[0]], DTYPE)
        if ptr is not None:
            if LAYOUT == PER_FEATURE:
                value += load(ptr, col, in_row, MASKED, DTYPE)[None, :]
            else:
                value += tl.load(ptr).to(DTYPE)
    return value


@triton.jit
def likelihood_tiles(
    x, parameters, grads, sums, nll, incoming, weight, x_row, parameter_rows, incoming_row,
    rows, cols, end, row_block, piece, block, pieces,
    FORMULA: tl.constexpr, TILE: tl.constexpr, VALUES: tl.constexpr, BY_SAMPLE: tl.constexpr, MASKED: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    N: tl.constexpr = TILE.N
    R: tl.constexpr = TILE.R
    C: tl.constexpr = TILE.C
    nll_tile, totals = tl.zeros([R, C], DTYPE), ()
    for _ in tl.static_range(N):
        totals = totals + (tl.zeros([R, C], DTYPE),)
    for step in range(TILE.STEPS):
        if TILE.DOWN:
            row = row_block * (R * TILE.STEPS) + step * R + tl.arange(0, R)
            col = piece * C + tl.arange(0, C)
        else:
            row = row_block * R + tl.arange(0, R)
            col = piece * (C * TILE.STEPS) + step * C + tl.arange(0, C)
        in_row = col < end
        inside = (row < rows)[:, None] & in_row[None, :]
        target = load(x, place(row, x_row, col), inside, MASKED, DTYPE, TILE.COUNTS)
        values = ()
        for i in tl.static_range(N):
            value = _parameter(
                parameters[i], parameter_rows[i], row, col, inside, in_row, TILE.LAYOUTS[i], MASKED, DTYPE
            )
            values = values + (value,)
        result = FORMULA(target, *values)  # the value, and its derivative by each parameter
        value = result[0]
        if MASKED:
            value = tl.where(inside, value, 0.0)
        if TILE.DOWN and BY_SAMPLE:
            tl.store(nll + row * pieces + piece, tl.sum(value, 1).to(tl.float64), mask=row < rows)
        else:
            nll_tile += value
        w = row_weights(incoming, incoming_row, row, rows, weight, DTYPE)
        at = place(row, cols, col)
        new_totals = ()
        for i in tl.static_range(N):
            total = totals[i]
            if grads[i] is not None:
                if TILE.LAYOUTS[i] == FULL:
                    store(grads[i], at, result[i + 1] * w, inside, MASKED)
                else:
                    total += tl.where(inside, result[i + 1] * w, 0.0)
            new_totals = new_totals + (total,)
        totals = new_totals
    if VALUES:
        if not BY_SAMPLE:
            tl.store(nll + block, tl.sum(tl.sum(nll_tile, 1), 0).to(tl.float64))
        elif not TILE.DOWN:
            row = row_block * R + tl.arange(0, R)
            tl.store(nll + row * pieces + piece, tl.sum(nll_tile, 1).to(tl.float64), mask=row < rows)
    col = piece * C + tl.arange(0, C)
    for i in tl.static_range(N):
        if sums[i] is not None:
            if TILE.LAYOUTS[i] == SCALAR:
                tl.store(sums[i] + block, tl.sum(tl.sum(totals[i], 1), 0).to(tl.float64))
            else:
                tl.store(sums[i] + row_block * cols + col, tl.sum(totals[i], 0).to(tl.float64), mask=col < cols)


class LikelihoodTerm:
    """The likelihood term of a request, for the launch: its tiles, and what its programs read, leave and write.

    x, params, incoming: the Described of each tensor. wanted: for each parameter whether its gradient is asked for.
    """

    formula, warps, blocks, row_blocks = None, 4, 0, 0
    constants, tiles, x_row, ragged = Likelihood(), Tiles(1, 0), 0, False
    parameter_rows, grads, sums = (), (), ()  # of each parameter: Described or None; how many partial sums or None

    def __init__(self, x, params, likelihood, incoming, wanted, by_sample, dtype):
        if not params:
            return
        formula = ELEMENT[likelihood]
        n = len(formula.PARAMETERS)
        left_out = [None] * (n - len(params))
        params = [*params, *left_out]
        layouts = [Layout.SCALAR if p is None else layout_against(len(x.shape), len(p.shape)) for p in params]
        full = [layout == Layout.FULL for layout in layouts]
        wanted = [*wanted, *[False] * len(left_out)]
        features = math.prod(x.shape[1:])
        per_feature = [layout == Layout.PER_FEATURE for layout in layouts]
        gapless = all(t.strides[0] == features for t in (x, *[p for p, f in zip(params, full, strict=True) if f]))
        flat = not by_sample and (incoming is None or not incoming.shape) and not any(per_feature) and gapless
        down = any(w and f for w, f in zip(wanted, per_feature, strict=True))
        self.tiles = tiles = Tiles(x.shape[0], features, flat, down)
        self.row_blocks, self.blocks = tiles.row_blocks, tiles.blocks
        self.ragged = flat and features % 16 > 0  # 16 divides the length of the run for some batches only
        self.formula, counts = NLL[likelihood], formula.SUPPORT == "counts"
        self.warps = 8 if counts else 4  # long formulas: half as many elements a thread need fewer registers
        self.constants = Likelihood(n, tuple(layouts), counts, tiles.r, tiles.c, tiles.steps, tiles.down)
        self.x_row = 0 if flat else x.strides[0]
        self.parameter_rows = tuple([p.strides[0] if f and not flat else 0 for p, f in zip(params, full, strict=True)])
        self.grads = tuple([_gradient(*of, dtype) for of in zip(params, full, wanted, strict=True)])
        partial = {Layout.FULL: None, Layout.PER_FEATURE: tiles.row_blocks * tiles.cols, Layout.SCALAR: tiles.blocks}
        self.sums = tuple([partial[lay] if w else None for lay, w in zip(layouts, wanted, strict=True)])


def _gradient(p, full, wanted, dtype):
    """The Described of a parameter's gradient. A gradient that is a sum over the samples has the type of the sums."""
    if not wanted:
        return None
    return p.gradient() if full else p._replace(dtype=dtype)
