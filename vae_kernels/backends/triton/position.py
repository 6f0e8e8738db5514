"""A likelihood of positions, where K logits become one term: the log-sum-exp and the value, and the gradient.

A program has P positions of one sample, and goes through their levels, L at a time; where there are few levels, the
program takes all at once. Level k of position s of sample b is at b pitch.row + s pitch.position + k pitch.level.

The totals lie behind the tops, at an address that depends on the batch. The kernels are compiled for any alignment of
this address, so that one kernel serves all batches. So the totals are an argument of their own, and in no tuple.
"""

import functools
import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ...core.layout import empty_in_order
from ...core.objective import Layout
from ...formulas import POSITION
from ..reference import compute_dtype
from . import maths
from .grid import power_of_two
from .launch import Launch, against, rows_of_x
from .partial_sums import all_sum
from .tiles import load, row_of_x, store, weighted
from .twins import DTYPES

TILE, WARPS = 4096, 8


class Pitch(NamedTuple):
    """How far apart two neighbours lie in memory: samples, positions and levels."""

    row: Any
    position: Any
    level: Any


@triton.jit
def _positions(positions, pieces, P: tl.constexpr):
    """The sample, and its positions."""
    program = tl.program_id(0).to(tl.int64)
    return program // pieces, program % pieces * P + tl.arange(0, P)


@triton.jit
def _beside(row, s, x_rows, ONE: tl.constexpr):
    """The sample and the positions of x and of its weight. ONE: a sample has one position, so `s` counts samples."""
    if ONE:
        return row, row_of_x(s, x_rows)
    else:
        return row_of_x(row, x_rows), s


@triton.jit
def _level_of(x, at, inside, levels):
    """[P] int32: the level that x is; -1 where x is no level, and outside."""
    level = tl.load(x + at, mask=inside, other=0).to(tl.int64)
    return tl.where(inside & (level >= 0) & (level < levels), level, -1).to(tl.int32)


@triton.jit(do_not_specialize=["x_rows"], do_not_specialize_on_alignment=["total_out"])
def position_kernel(
    x, logits, weight, values, top_out, total_out, x_pitch, logits_pitch, weight_pitch, positions, pieces, levels,
    x_rows,
    ADD: tl.constexpr, VALUE: tl.constexpr, P: tl.constexpr, L: tl.constexpr, LOWEST: tl.constexpr, ONE: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    row, s = _positions(positions, pieces, P)
    inside = s < positions
    first = row * logits_pitch.row + s * logits_pitch.position
    top, total = tl.full([P], LOWEST, DTYPE), tl.zeros([P], DTYPE)  # not -inf, which some logits are
    for start in range(0, levels, L):
        k = start + tl.arange(0, L).to(tl.int64)
        mask = inside[:, None] & (k < levels)[None, :]
        tile = tl.load(logits + first[:, None] + (k * logits_pitch.level)[None, :], mask=mask, other=float("-inf"))
        top, total = ADD(top, total, tile.to(DTYPE))
    x_row, x_s = _beside(row, s, x_rows, ONE)
    level = _level_of(x, x_row * x_pitch.row + x_s * x_pitch.position, inside, levels)
    logit = load(logits, first + level * logits_pitch.level, level >= 0, True, DTYPE)
    total = tl.where(level >= 0, total, float("nan"))
    at = row * positions + s
    each = weight
    if weight is not None:
        each = load(weight, x_row * weight_pitch.row + x_s * weight_pitch.position, inside, True, DTYPE)
    store(values, at, weighted(VALUE(top, total, logit), each), inside, True)
    store(top_out, at, top, inside, True)
    store(total_out, at, total, inside, True)


@triton.jit
def sum_kernel(values, nll, positions):
    """The sum of a sample's values, in float64 and in a fixed order."""
    row = tl.program_id(0).to(tl.int64)
    tl.store(nll + row, all_sum(values + row * positions, positions, 1024).to(nll.dtype.element_ty))


def position(likelihood, x, logits, weight):
    """The op."""
    rows, positions, dtype = logits.shape[0], math.prod(x.shape[1:]), compute_dtype(logits)
    nll = torch.empty(rows, dtype=dtype, device=x.device)
    top_and_total = torch.empty((2, rows, positions), dtype=dtype, device=x.device)
    one = positions == 1
    values = nll if one else torch.empty((rows, positions), dtype=dtype, device=x.device)
    if rows * positions:
        shape = rows, rows_of_x(x.shape, rows), positions, logits.shape[1]
        launch = _forward(likelihood, *shape, *_strides(x, logits, weight), dtype)
        launch(x, logits, weight, values, *top_and_total)
    if rows and not one:
        _sum(rows, positions)(values, nll)
    return [nll, top_and_total]


@functools.lru_cache(maxsize=1024)
def _forward(likelihood, rows, x_rows, positions, levels, x_row, logits_row, inner, weight, dtype):
    formula = POSITION[likelihood]
    fixed, programs = _tiles(rows, x_rows, positions, levels, dtype)
    fixed |= {"x_pitch": _pitch(x_row, positions), "logits_pitch": _pitch(logits_row, positions, levels, inner)}
    fixed |= {"weight_pitch": _weight_pitch(weight, positions)}
    fixed |= {"ADD": maths.add_exponentials, "VALUE": formula.triton_value, "LOWEST": torch.finfo(dtype).min}
    kernel = single_position_kernel if positions == 1 else position_kernel
    return Launch(kernel, programs, fixed, ("x", "logits", "weight", "values", "top_out", "total_out"), WARPS)


@functools.lru_cache(maxsize=1024)
def _sum(rows, positions):
    return Launch(sum_kernel, rows, {"positions": positions}, ("values", "nll"))


@triton.jit(do_not_specialize=["x_rows"], do_not_specialize_on_alignment=["total_in"])
def position_backward_kernel(
    grad, x, logits, weight, top_in, total_in, out, grad_pitch, x_pitch, logits_pitch, weight_pitch, out_pitch,
    positions, pieces, levels, x_rows,
    SOFTMAX: tl.constexpr, RECIPROCAL: tl.constexpr, P: tl.constexpr, L: tl.constexpr, ONE: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    row, s = _positions(positions, pieces, P)
    inside = s < positions
    first = row * logits_pitch.row + s * logits_pitch.position
    first_out = row * out_pitch.row + s * out_pitch.position
    g = load(grad, row * grad_pitch.row + s * grad_pitch.position, inside, True, DTYPE)
    each = weight
    x_row, x_s = _beside(row, s, x_rows, ONE)
    if weight is not None:
        each = load(weight, x_row * weight_pitch.row + x_s * weight_pitch.position, inside, True, DTYPE)
        g *= each
    level = _level_of(x, x_row * x_pitch.row + x_s * x_pitch.position, inside, levels)
    at = row * positions + s
    top = load(top_in, at, inside, True, DTYPE)
    scale = g * RECIPROCAL(tl.load(total_in + at, mask=inside, other=1.0))
    for start in range(0, levels, L):
        k = start + tl.arange(0, L)
        mask = inside[:, None] & (k < levels)[None, :]
        at_k = (k.to(tl.int64) * logits_pitch.level)[None, :]
        tile = load(logits, first[:, None] + at_k, mask, True, DTYPE)
        value = SOFTMAX(tile, top[:, None], scale[:, None])
        value -= tl.where(level[:, None] == k[None, :], g[:, None], 0.0)
        if weight is not None:  # a NaN times 0 is a NaN
            value = tl.where((each != 0.0)[:, None], value, 0.0)
        store(out, first_out[:, None] + at_k, value, mask, True)


def position_backward(grad, likelihood, x, logits, weight, top_and_total):
    """The op."""
    rows, positions = logits.shape[0], math.prod(x.shape[1:])
    out = empty_in_order(logits)
    if out.numel():
        shape = rows, rows_of_x(x.shape, rows), positions, logits.shape[1]
        strides = grad.stride(0), *_strides(x, logits, weight), out.stride(0)
        launch = _backward(likelihood, *shape, *strides, top_and_total.dtype)
        launch(grad, x, logits, weight, *top_and_total, out)
    return out


@functools.lru_cache(maxsize=1024)
def _backward(likelihood, rows, x_rows, positions, levels, grad_row, x_row, logits_row, inner, weight, out_row, dtype):
    fixed, programs = _tiles(rows, x_rows, positions, levels, dtype)
    fixed |= {"grad_pitch": _pitch(grad_row, positions, step=0), "x_pitch": _pitch(x_row, positions)}
    fixed |= {"logits_pitch": _pitch(logits_row, positions, levels, inner)}
    fixed |= {"weight_pitch": _weight_pitch(weight, positions), "out_pitch": _pitch(out_row, positions, levels, inner)}
    fixed |= {"SOFTMAX": POSITION[likelihood].triton_softmax, "RECIPROCAL": maths.reciprocal}
    kernel = single_position_backward_kernel if positions == 1 else position_backward_kernel
    return Launch(kernel, programs, fixed, ("grad", "x", "logits", "weight", "top_in", "total_in", "out"), WARPS)


def _of_single_positions(kernel):
    """The same kernel for samples of one position. The batch is then the number of positions, and one kernel serves
    every batch."""
    return triton.jit(
        kernel.fn,
        do_not_specialize=["positions", "pieces", "x_rows"],
        do_not_specialize_on_alignment=["total_out" if "total_out" in kernel.arg_names else "total_in"],
    )


single_position_kernel = _of_single_positions(position_kernel)
single_position_backward_kernel = _of_single_positions(position_backward_kernel)


def _strides(x, logits, weight):
    """Those of the samples of x and of the logits, whether the levels are innermost, and where the weight lies."""
    inner = logits.shape[1] > 1 and logits.stride(1) == 1
    return x.stride(0), logits.stride(0), inner, against(weight, x)


def _tiles(rows, x_rows, positions, levels, dtype):
    """What both kernels take of the shape, and how many programs. Samples of one position are read as positions of one
    sample, so that a program has several of them; _pitch agrees. Their tile does not depend on the batch."""
    at_once = min(power_of_two(levels), TILE // 4)
    p = min(TILE // at_once, TILE // 4)
    one = positions == 1
    if one:
        rows, positions = 1, rows
    else:
        p = min(power_of_two(positions), p)
    pieces = -(-positions // p)
    tile = {"P": p, "L": at_once, "ONE": one, "DTYPE": DTYPES[dtype], "x_rows": x_rows}
    return tile | {"positions": positions, "pieces": pieces, "levels": levels}, rows * pieces


def _pitch(row, positions, levels=1, inner=False, step=1):
    """Of a tensor [B, positions, levels] with the levels innermost, or [B, levels, positions]. step: how far apart two
    positions lie that have one level."""
    step, level = (levels, 1) if inner else (step, positions)
    return Pitch(0, row, level) if positions == 1 else Pitch(row, step, level)


def _weight_pitch(weight, positions):
    if weight is None:
        return None
    layout, row = weight
    return _pitch(row, positions, step=int(layout in (Layout.FULL, Layout.PER_FEATURE)))
