"""The ops over levels by Triton kernels: from tensors to launches. ops/schemas.py says what they take."""

import functools
import math

import torch

from ...core.layout import empty_in_order
from ...formulas import categorical
from ..reference import compute_dtype
from . import levels_kernel as k
from . import maths
from .launch import Launch
from .plan import DTYPES, power_of_two

TILE, WARPS = 4096, 8


def levels(x, logits):
    rows, positions, dtype = x.shape[0], math.prod(x.shape[1:]), compute_dtype(logits)
    nll = torch.empty(rows, dtype=dtype, device=x.device)
    top_and_total = torch.empty((2, rows, positions), dtype=dtype, device=x.device)
    alone = positions == 1
    values = nll if alone else torch.empty((rows, positions), dtype=dtype, device=x.device)
    if x.numel():
        launch = _forward(rows, positions, logits.shape[1], *_strides(x, logits), dtype)
        launch(x, logits, values, *top_and_total)
    if rows and not alone:
        _sum(rows, positions)(values, nll)
    return [nll, top_and_total]


def levels_backward(grad, x, logits, top_and_total):
    rows, positions = x.shape[0], math.prod(x.shape[1:])
    out = empty_in_order(logits)
    if out.numel():
        strides = grad.stride(0), *_strides(x, logits), out.stride(0)
        launch = _backward(rows, positions, logits.shape[1], *strides, top_and_total.dtype)
        launch(grad, x, logits, *top_and_total, out)
    return out


def _strides(x, logits):
    """Rows of x and of logits, and whether the levels are innermost."""
    inner = logits.shape[1] > 1 and logits.stride(1) == 1
    return x.stride(0), logits.stride(0), inner


@functools.lru_cache(maxsize=1024)
def _forward(rows, positions, levels, x_row, logits_row, inner, dtype):
    fixed, programs = _tiles(rows, positions, levels, dtype)
    fixed |= _places("x", x_row, 1, positions) | _logits("logits", logits_row, inner, positions, levels)
    fixed |= {"ADD": categorical.triton_add, "VALUE": categorical.triton_value, "LOWEST": torch.finfo(dtype).min}
    kernel = k.levels_of_rows_kernel if positions == 1 else k.levels_kernel
    return Launch(kernel, programs, fixed, ("x", "logits", "values", "top_out", "total_out"), WARPS)


@functools.lru_cache(maxsize=1024)
def _backward(rows, positions, levels, grad_row, x_row, logits_row, inner, out_row, dtype):
    fixed, programs = _tiles(rows, positions, levels, dtype)
    fixed |= _places("grad", grad_row, 0, positions) | _places("x", x_row, 1, positions)
    for name, row in (("logits", logits_row), ("out", out_row)):
        fixed |= _logits(name, row, inner, positions, levels)
    fixed |= {"SOFTMAX": categorical.triton_softmax, "RECIPROCAL": maths.reciprocal}
    kernel = k.levels_of_rows_backward_kernel if positions == 1 else k.levels_backward_kernel
    return Launch(kernel, programs, fixed, ("grad", "x", "logits", "top_in", "total_in", "out"), WARPS)


@functools.lru_cache(maxsize=1024)
def _sum(rows, positions):
    return Launch(k.sum_kernel, rows, {"positions": positions}, ("values", "nll"))


def _tiles(rows, positions, levels, dtype):
    """What both kernels take of the shape, and how many programs. Rows of one position are positions of one row, so
    that a program has several of them; _places agrees. Their tile does not follow their number, which is the batch."""
    at_once = min(power_of_two(levels), TILE // 4)
    p = min(TILE // at_once, TILE // 4)
    if positions == 1:
        rows, positions = 1, rows
    else:
        p = min(power_of_two(positions), p)
    pieces = -(-positions // p)
    tile = {"P": p, "L": at_once, "DTYPE": DTYPES[dtype]}
    return tile | {"positions": positions, "pieces": pieces, "levels": levels}, rows * pieces


def _places(name, row, pitch, positions):
    row, pitch = (0, row) if positions == 1 else (row, pitch)
    return {f"{name}_row": row, f"{name}_pitch": pitch}


def _logits(name, row, inner, positions, levels):
    level_pitch = 1 if inner else positions
    return _places(name, row, levels if inner else 1, positions) | {"level_pitch": level_pitch}
