"""The likelihood term: what a program of elbo_kernel does with its tiles of x, and what the host gives to the program.

A program has a tile of R samples and C elements of a sample, and STEPS of these tiles: side by side, or below one
another with DOWN, for gradients that are sums over the samples. A program leaves partial sums in float64. With
BY_SAMPLE there is one partial sum for each sample and piece of a sample, else there is one for the whole program.
"""

import math
from typing import Any, NamedTuple

import triton
import triton.language as tl

from ...core.objective import Layout
from ...formulas import ALL, of_kernels
from .constants import FULL, PER_FEATURE, PER_SAMPLE, SCALAR
from .grid import Tiles
from .launch import rows_of_x
from .row import log_means, of_log_total, present
from .tiles import load, load_against, place, row_of_x, row_weights, store, weighted
from .twins import NLL


class Likelihood(NamedTuple):
    """What is compiled into the kernel: the number of parameters, the Layout of each and of the weight, whether x is
    counts, and the tiles."""

    N: Any = 0
    LAYOUTS: Any = ()
    WEIGHT: Any = Layout.SCALAR
    COUNTS: Any = False
    R: Any = 1
    C: Any = 1
    STEPS: Any = 1
    DOWN: Any = False


@triton.jit
def parameter(ptr, stride, row, col, rows, end, LAYOUT: tl.constexpr, MASKED: tl.constexpr, DTYPE: tl.constexpr):
    """The tile of a parameter. A parameter that is left out is 0."""
    if LAYOUT == FULL:
        value = load_against(ptr, stride, row, col, rows, end, LAYOUT, MASKED, DTYPE)
    else:
        value = tl.zeros([row.shape[0], col.shape[0]], DTYPE)
        if ptr is not None:
            value += load_against(ptr, stride, row, col, rows, end, LAYOUT, MASKED, DTYPE)
    return value


@triton.jit
def likelihood_tiles(
    x, parameters, weight, grads, sums, nll, of_total, incoming, factor, x_row, parameter_rows, weight_row,
    incoming_row, rows, cols, end, row_block, piece, block, pieces, loss_weight, softmax, x_rows,
    FORMULA: tl.constexpr, TILE: tl.constexpr, VALUES: tl.constexpr, BY_SAMPLE: tl.constexpr, MASKED: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    N: tl.constexpr = TILE.N
    R: tl.constexpr = TILE.R
    C: tl.constexpr = TILE.C
    nll_tile, row_tile, totals = tl.zeros([R, C], DTYPE), tl.zeros([R, C], DTYPE), ()
    for _ in tl.static_range(N):
        totals = totals + (tl.zeros([R, C], DTYPE),)
    for step in range(TILE.STEPS):
        if TILE.DOWN:
            row = row_block * (R * TILE.STEPS) + step * R + tl.arange(0, R)
            col = piece * C + tl.arange(0, C)
        else:
            row = row_block * R + tl.arange(0, R)
            col = piece * (C * TILE.STEPS) + step * C + tl.arange(0, C)
        inside = (row < rows)[:, None] & (col < end)[None, :]
        beside = row_of_x(row, x_rows)
        target = load(x, place(beside, x_row, col), inside, MASKED, DTYPE, TILE.COUNTS)
        values = ()
        for i in tl.static_range(N):
            value = parameter(parameters[i], parameter_rows[i], row, col, rows, end, TILE.LAYOUTS[i], MASKED, DTYPE)
            if i == 0:
                if softmax.top is not None:
                    value = log_means(value, softmax, row, rows, MASKED, DTYPE)
            values = values + (value,)
        each = weight
        if weight is not None:
            each = load_against(weight, weight_row, beside, col, rows, end, TILE.WEIGHT, MASKED, DTYPE)
        result = FORMULA(target, *values)  # the value, and its derivative by each parameter
        if softmax.top is not None:
            result = present(result, target, values[0], softmax, row, rows, col, N, MASKED, DTYPE)
        value = weighted(result[0], each)
        if MASKED:
            value = tl.where(inside, value, 0.0)
        if TILE.DOWN and BY_SAMPLE:
            tl.store(nll + row * pieces + piece, tl.sum(value, 1).to(tl.float64), mask=row < rows)
        else:
            nll_tile += value
        w = row_weights(incoming, incoming_row, row, rows, factor, DTYPE)
        at = place(row, cols, col)
        if of_total is not None:
            derivative = of_log_total(result[1], softmax, row, rows, col, MASKED, DTYPE)
            derivative = tl.where(inside, weighted(derivative * w, each), 0.0)
            if TILE.DOWN:
                tl.store(of_total + row * pieces + piece, tl.sum(derivative, 1).to(tl.float64), mask=row < rows)
            else:
                row_tile += derivative
        new_totals = ()
        for i in tl.static_range(N):
            total = totals[i]
            if grads[i] is not None:
                derivative = weighted(result[i + 1] * w, each)
                # Of a full tile this changes no value. But without a weight the assembler then takes fewer registers.
                if TILE.LAYOUTS[i] != FULL and (MASKED or weight is None):
                    derivative = tl.where(inside, derivative, 0.0)
                if TILE.LAYOUTS[i] == FULL:
                    store(grads[i], at, derivative, inside, MASKED)
                elif TILE.DOWN and TILE.LAYOUTS[i] == PER_SAMPLE:
                    tl.store(sums[i] + row * pieces + piece, tl.sum(derivative, 1).to(tl.float64), mask=row < rows)
                else:
                    total += derivative
            new_totals = new_totals + (total,)
        totals = new_totals
    if VALUES:
        if not BY_SAMPLE:
            tl.store(nll + block, tl.sum(tl.sum(nll_tile, 1), 0).to(tl.float64))
        elif not TILE.DOWN:
            row = row_block * R + tl.arange(0, R)
            of_row = tl.sum(nll_tile, 1).to(tl.float64)
            if loss_weight is not None:
                of_row = loss_weight * of_row
            store(nll, row * pieces + piece, of_row, row < rows, True)
    if of_total is not None:
        if not TILE.DOWN:
            row = row_block * R + tl.arange(0, R)
            tl.store(of_total + row * pieces + piece, tl.sum(row_tile, 1).to(tl.float64), mask=row < rows)
    col = piece * C + tl.arange(0, C)
    for i in tl.static_range(N):
        if sums[i] is not None:
            if TILE.LAYOUTS[i] == SCALAR:
                tl.store(sums[i] + block, tl.sum(tl.sum(totals[i], 1), 0).to(tl.float64))
            elif TILE.LAYOUTS[i] == PER_FEATURE:
                tl.store(sums[i] + row_block * cols + col, tl.sum(totals[i], 0).to(tl.float64), mask=col < cols)
            elif not TILE.DOWN:
                row = row_block * R + tl.arange(0, R)
                tl.store(sums[i] + row * pieces + piece, tl.sum(totals[i], 1).to(tl.float64), mask=row < rows)


class LikelihoodTerm:
    """The likelihood term of a request, for the launch: its tiles, and what its programs read, leave and write.

    x, params, weight, incoming: the Described of each tensor. wanted: for each parameter whether its gradient is asked
    for. row: whether the samples have a soft-max (row.py).
    """

    formula, warps, blocks, row_blocks = None, 4, 0, 0
    constants, tiles, x_row, x_rows, weight_row, ragged = Likelihood(), Tiles(1, 0), 0, None, None, False
    parameter_rows, grads, sums = (), (), ()  # of each parameter: Described or None; how many partial sums or None
    sums_of_samples = False  # whether a gradient is one sum for each sample

    def __init__(self, x, params, weight, likelihood, incoming, wanted, by_sample, row, dtype):
        if not params:
            return
        formula = ALL[likelihood]
        n = of_kernels(formula)
        left_out = [None] * (n - len(params))
        like = params[0].shape
        params = [*params, *left_out]
        places = [p.against(like) if p else (Layout.SCALAR, 0) for p in params]
        of_weight, weight_row = weight.against(x.shape) if weight else (Layout.SCALAR, 0)
        layouts, rows = zip(*places, strict=True)
        wanted = [*wanted, *[False] * len(left_out)]
        features = math.prod(like[1:])
        self.x_rows = rows_of_x(x.shape, like[0])
        gapless = (Layout.SCALAR, 0), (Layout.FULL, features)
        # In one row nothing shows where a sample begins.
        one_weight = incoming is None or not incoming.shape or (incoming.strides[0] == 0 and like[0] > 0)
        flat = not (by_sample or row or self.x_rows) and one_weight and x.strides[0] == features
        flat = flat and all(place in gapless for place in (*places, (of_weight, weight_row)))
        of_wanted = [layout for layout, w in zip(layouts, wanted, strict=True) if w]
        down, self.sums_of_samples = (layout in of_wanted for layout in (Layout.PER_FEATURE, Layout.PER_SAMPLE))
        self.tiles = tiles = Tiles(like[0], features, flat, down)
        self.row_blocks, self.blocks = tiles.row_blocks, tiles.blocks
        self.ragged = flat and features % 16 > 0  # 16 divides the length of the run for some batches only
        self.formula, counts = NLL[likelihood], formula.SUPPORT == "counts"
        # half as many elements a thread need fewer registers
        self.warps = 16 if n > 3 else 8 if counts or weight or n > 2 else 4
        self.constants = Likelihood(n, tuple(layouts), of_weight, counts, tiles.r, tiles.c, tiles.steps, tiles.down)
        self.x_row = 0 if flat else x.strides[0]
        self.parameter_rows = (0,) * n if flat else rows
        if weight:
            self.weight_row = 0 if flat else weight_row
        self.grads = tuple([_gradient(*of, dtype) for of in zip(params, layouts, wanted, strict=True)])
        partial = {Layout.FULL: None, Layout.PER_FEATURE: tiles.row_blocks * tiles.cols, Layout.SCALAR: tiles.blocks}
        partial[Layout.PER_SAMPLE] = tiles.rows * tiles.pieces
        self.sums = tuple([partial[lay] if w else None for lay, w in zip(layouts, wanted, strict=True)])


def _gradient(p, layout, wanted, dtype):
    """The Described of a parameter's gradient. A gradient that is a sum has the type of the sums."""
    if not wanted:
        return None
    if layout == Layout.PER_SAMPLE:
        return p._replace(strides=(1,) * len(p.strides), dtype=dtype)
    return p.gradient() if layout == Layout.FULL else p._replace(dtype=dtype)
