"""A table of columns: the value of each cell, and the gradients of its parameters, in one launch for all columns.

A program has R rows of one column. The table says what kind of column this is, and where the column's numbers lie. So a
program of a column with one number and a program of a column of categories have the same code. A column of categories
is read L categories at a time, and read once more for its gradient.
"""

import functools
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ...core.objective import wanted_gradients
from ...formulas import mixed
from ...formulas.columns import KINDS
from ..reference import compute_dtype
from . import maths
from .launch import Launch, rows_of_x
from .partial_sums import column_sums
from .position import sum_kernel
from .tiles import load, place, row_of_x, store, weighted
from .twins import DTYPES

R, L, WARPS = 128, 8, 4


class Steps(NamedTuple):
    """How far apart two rows lie. Of a weight also how far apart two columns lie: 0 or 1."""

    x: Any
    packed: Any
    logscale: Any
    weight: Any
    weight_column: Any
    incoming: Any


@triton.jit
def _code(x, row, here, at, width, step, CODES: tl.constexpr, R: tl.constexpr, L: tl.constexpr, DTYPE: tl.constexpr):
    """[R] int32: the category that x is, or -1. at: where the column begins in x."""
    if CODES:
        number = load(x, row * step + at, here, True, DTYPE, True)
        possible = (number >= 0.0) & (number < width.to(DTYPE))
        code = tl.where(possible, number, -1.0).to(tl.int32)
        code = tl.where(code.to(DTYPE) == number, code, -1)
    else:
        code, ones, others = tl.zeros([R], tl.int32), tl.zeros([R], tl.int32), tl.zeros([R], tl.int32)
        for start in range(0, width, L):
            k = start + tl.arange(0, L).to(tl.int64)
            inside = here[:, None] & (k < width)[None, :]
            tile = load(x, place(row, step, at + k), inside, True, DTYPE, True)
            code += tl.sum(tl.where(tile == 1.0, k.to(tl.int32)[None, :], 0), 1)
            ones += tl.sum((tile == 1.0).to(tl.int32), 1)
            others += tl.sum((tile != 0.0).to(tl.int32), 1)
        code = tl.where((ones == 1) & (others == 1), code, -1)
    return code


@triton.jit(do_not_specialize=["rows", "x_rows"])
def segments_kernel(
    x, packed, logscale, weight, table, incoming, terms, grad, of_logscale, parts, steps, rows, columns, width,
    expected, x_rows,
    COLUMN: tl.constexpr, CATEGORY: tl.constexpr, SOFTMAX: tl.constexpr, RECIPROCAL: tl.constexpr, ADD: tl.constexpr,
    CATEGORICAL: tl.constexpr, CODES: tl.constexpr, R: tl.constexpr, L: tl.constexpr, LOWEST: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    block, column = program // columns, program % columns
    row = block * R + tl.arange(0, R)
    here = row < rows
    kind, numbers = tl.load(table + 3 * column), tl.load(table + 3 * column + 1)
    at = tl.load(table + 3 * column + 2)
    at_x = column if CODES else at
    x_row = row_of_x(row, x_rows)
    each = weight
    own = tl.full([R], 1.0, DTYPE) * expected
    if incoming is not None:
        own = load(incoming, row * steps.incoming, here, True, DTYPE)
    if weight is not None:
        each = load(weight, x_row * steps.weight + column * steps.weight_column, here, True, DTYPE)
        own = tl.where(each != 0.0, own * each, 0.0)
    by_logscale = tl.zeros([R], DTYPE)
    if kind < CATEGORICAL:
        number = load(packed, row * steps.packed + at, here, True, DTYPE)
        scale = load(logscale, row * steps.logscale + column, here, True, DTYPE)
        target = load(x, x_row * steps.x + at_x, here, True, DTYPE, True)
        value, by_number, by_logscale = COLUMN(kind, target, number, scale)
        if terms is not None:
            store(terms, row * columns + column, weighted(value, each), here, True)
        if grad is not None:
            store(grad, row * width + at, tl.where(own != 0.0, own * by_number, 0.0), here, True)
        by_logscale = tl.where(own != 0.0, own * by_logscale, 0.0)
    else:
        code = _code(x, x_row, here, at_x, numbers, steps.x, CODES, R, L, DTYPE)
        top, total = tl.full([R], LOWEST, DTYPE), tl.zeros([R], DTYPE)  # not -inf, which some logits are
        first = row * steps.packed + at
        for start in range(0, numbers, L):
            k = start + tl.arange(0, L).to(tl.int64)
            inside = here[:, None] & (k < numbers)[None, :]
            tile = tl.load(packed + first[:, None] + k[None, :], mask=inside, other=float("-inf"))
            top, total = ADD(top, total, tile.to(DTYPE))
        total = tl.where(code >= 0, total, float("nan"))
        if terms is not None:
            logit = load(packed, first + code, here & (code >= 0), True, DTYPE)
            store(terms, row * columns + column, weighted(CATEGORY(top, total, logit), each), here, True)
        if grad is not None:
            scaled = own * RECIPROCAL(total)
            for start in range(0, numbers, L):
                k = start + tl.arange(0, L)
                inside = here[:, None] & (k < numbers)[None, :]
                tile = load(packed, first[:, None] + k[None, :].to(tl.int64), inside, True, DTYPE)
                value = SOFTMAX(tile, top[:, None], scaled[:, None]) - tl.where(
                    code[:, None] == k[None, :], own[:, None], 0.0
                )
                value = tl.where((own != 0.0)[:, None], value, 0.0)
                store(grad, (row * width + at)[:, None] + k[None, :].to(tl.int64), value, inside, True)
    if of_logscale is not None:
        store(of_logscale, row * columns + column, by_logscale, here, True)
    if parts is not None:
        tl.store(parts + block * columns + column, tl.sum(tl.where(here, by_logscale, 0.0).to(tl.float64), 0))


@triton.jit
def logscale_kernel(parts, of_logscale, row_blocks, columns, blocks, BLOCK: tl.constexpr):
    column_sums(parts, of_logscale, row_blocks, columns, 1.0, tl.program_id(0), blocks, BLOCK)


def segments(x, packed, logscale, weight, table, need, expected):
    """The op."""
    dtype = compute_dtype(packed, logscale)
    terms = torch.empty((packed.shape[0], table.shape[0]), dtype=dtype, device=packed.device)
    grads = _run(x, packed, logscale, weight, table, None, terms, need, float(expected))
    nll = torch.empty(packed.shape[:1], dtype=dtype, device=packed.device)
    if len(nll):
        _sum(*terms.shape)(terms, nll)
    return [nll, terms, *grads]


def segments_backward(grad, x, packed, logscale, weight, table, need):
    """The op."""
    return _run(x, packed, logscale, weight, table, grad, None, need, 1.0)


def _run(x, packed, logscale, weight, table, incoming, terms, need, expected):
    dtype, by_row = compute_dtype(packed, logscale), logscale.dim() == 2
    wanted = wanted_gradients(need, 2)
    device = packed.device
    grad = torch.empty(packed.shape, dtype=packed.dtype, device=device) if wanted[0] else None
    of_logscale = parts = None
    blocks = -(-packed.shape[0] // R)
    if wanted[1]:
        of_logscale = torch.empty(logscale.shape, dtype=logscale.dtype if by_row else dtype, device=device)
        parts = None if by_row else torch.empty((blocks, table.shape[0]), dtype=torch.float64, device=device)
    step = 0 if incoming is None else incoming.stride(0)
    steps = Steps(x.stride(0), packed.stride(0), logscale.stride(0) if by_row else 0, *_steps_of(weight), step)
    if blocks:
        x_rows = rows_of_x(x.shape, packed.shape[0])
        launch = _launch(*packed.shape, x_rows, table.shape[0], x.shape[1] == table.shape[0], steps, dtype)
        by_cell = of_logscale if by_row else None
        launch(x, packed, logscale, weight, table, incoming, terms, grad, by_cell, parts, packed.shape[0], expected)
    if parts is not None:
        _sums(blocks, table.shape[0])(parts, of_logscale)
    return [t for t in (grad, of_logscale) if t is not None]


def _steps_of(weight):
    """How far apart the rows of a weight lie, and its columns."""
    if weight is None or weight.dim() == 0:
        return 0, 0
    return weight.stride(0) if weight.dim() == 2 else 0, int(weight.shape[-1] > 1)


@functools.lru_cache(maxsize=1024)
def _launch(rows, width, x_rows, columns, codes, steps, dtype):
    fixed = {"steps": steps, "columns": columns, "width": width, "CODES": codes, "R": R, "L": L, "DTYPE": DTYPES[dtype]}
    fixed |= {"x_rows": x_rows}
    fixed |= {"COLUMN": mixed.triton_column, "CATEGORY": mixed.triton_category, "SOFTMAX": mixed.triton_softmax}
    fixed |= {"RECIPROCAL": maths.reciprocal, "ADD": maths.add_exponentials, "LOWEST": torch.finfo(dtype).min}
    fixed |= {"CATEGORICAL": len(KINDS) - 1}
    varying = "x", "packed", "logscale", "weight", "table", "incoming", "terms", "grad", "of_logscale", "parts"
    return Launch(segments_kernel, -(-rows // R) * columns, fixed, (*varying, "rows", "expected"), WARPS)


@functools.lru_cache(maxsize=1024)
def _sum(rows, columns):
    return Launch(sum_kernel, rows, {"positions": columns}, ("values", "nll"))


@functools.lru_cache(maxsize=1024)
def _sums(row_blocks, columns):
    blocks = -(-columns // 64)
    fixed = {"row_blocks": row_blocks, "columns": columns, "blocks": blocks, "BLOCK": 64}
    return Launch(logscale_kernel, blocks, fixed, ("parts", "of_logscale"))
