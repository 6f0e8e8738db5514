"""A likelihood of pixels, where all channels of a pixel become one term: value and gradient in one launch.

A program has P pixels of one sample, and goes twice through the components of the mixture: first for the log-sum-exp,
then for the gradient, which needs the probability of each component. The second time the numbers come from the cache.
Number j of pixel s of sample b is at b pitch.row + s pitch.pixel + j pitch.number.
"""

import functools
import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ...core.layout import empty_in_order, is_inner, terms_like
from ...core.objective import Layout
from ...formulas import PIXEL
from ..reference import compute_dtype
from . import maths
from .grid import power_of_two
from .launch import Launch, against, rows_of_x
from .objective import as_tensor
from .position import _sum
from .tiles import load, row_of_x, scalar_weight, store, weighted
from .twins import DTYPES

WARPS, PIXELS = 4, 128


class Pitch(NamedTuple):
    """How far apart two neighbours lie in memory: samples, pixels, and the numbers of a pixel."""

    row: Any
    pixel: Any
    number: Any


class Width(NamedTuple):
    """What the options of the formula say of x, as constants: half of a bin; log(1 / bin); the ends of the first and of
    the last bin; low and step, with which level k is low + k step; and the least logscale, or None."""

    half: Any
    log_count: Any
    first: Any
    last: Any
    low: Any
    step: Any
    least: Any


@triton.jit
def _target(ptr, at, inside, WIDTH: tl.constexpr, DTYPE: tl.constexpr):
    """x as a number: a byte is a level."""
    value = load(ptr, at, inside, True, DTYPE, True)
    if ptr.dtype.element_ty == tl.uint8:
        value = tl.fma(value, tl.full([], WIDTH.step, DTYPE), tl.full([], WIDTH.low, DTYPE))
    return value


@triton.jit
def _number(j, pitch):
    """How far number j is behind number 0; int64."""
    return (tl.full([], 0, tl.int64) + j) * pitch.number


@triton.jit
def _component(
    x, packed, first, pitch, k, components, inside, MASS: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """-log p under component k, and the derivatives by its numbers."""
    numbers = ()
    for j in tl.static_range(N):
        at = first + _number(components * (1 + j) + k, pitch)
        numbers = numbers + (load(packed, at, inside, True, DTYPE),)
    width = tl.full([], WIDTH.half, DTYPE), tl.full([], WIDTH.log_count, DTYPE)
    ends = tl.full([], WIDTH.first, DTYPE), tl.full([], WIDTH.last, DTYPE)
    least = None
    if WIDTH.least is not None:
        least = tl.full([], WIDTH.least, DTYPE)
    return MASS(x, numbers, width, ends, least)


@triton.jit(do_not_specialize=["x_rows"])
def pixel_kernel(
    x, packed, weight, incoming, values, grads, x_pitch, packed_pitch, weight_pitch, grad_pitch, incoming_row, expected,
    factor, pixels, pieces, components, x_rows,
    MASS: tl.constexpr, ADD: tl.constexpr, LOG1P: tl.constexpr, POWER: tl.constexpr, RECIPROCAL: tl.constexpr,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, L: tl.constexpr, WIDTH: tl.constexpr, LOWEST: tl.constexpr,
    SIGN: tl.constexpr, CORRECTS: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    row, s = program // pieces, program % pieces * P + tl.arange(0, P)
    inside = s < pixels
    if CORRECTS:  # the gradients are there already, for an incoming gradient of `expected`
        came = tl.load(incoming + row * incoming_row).to(DTYPE)
        if came == scalar_weight(expected, factor, DTYPE):
            return
    x_row = row_of_x(row, x_rows)
    at_x, first = x_row * x_pitch.row + s * x_pitch.pixel, row * packed_pitch.row + s * packed_pitch.pixel
    targets = ()
    for c in tl.static_range(C):
        targets = targets + (_target(x, at_x + c * x_pitch.number, inside, WIDTH, DTYPE),)
    top, total = tl.full([P], LOWEST, DTYPE), tl.zeros([P], DTYPE)
    peak, sum = tl.full([P], LOWEST, DTYPE), tl.zeros([P], DTYPE)
    for start in range(0, components, L):
        k = start + tl.arange(0, L)
        mask = inside[:, None] & (k < components)[None, :]
        at_k = (k.to(tl.int64) * packed_pitch.number)[None, :]
        tile = tl.load(packed + first[:, None] + at_k, mask=mask, other=float("-inf"))
        top, total = ADD(top, total, tile.to(DTYPE))
    for k in range(components):
        logit = load(packed, first + _number(k, packed_pitch), inside, True, DTYPE)
        nll, _ = _component(targets, packed, first, packed_pitch, k, components, inside, MASS, N, WIDTH, DTYPE)
        peak, sum = ADD(peak, sum, ((logit - top) - nll)[:, None])
    found = tl.where(sum == 0.0, float("-inf"), peak + LOG1P(sum - 1.0))
    each = weight
    if weight is not None:
        each = load(weight, x_row * weight_pitch.row + s * weight_pitch.pixel, inside, True, DTYPE)
    if values is not None:
        store(values, row * pixels + s, SIGN * weighted(LOG1P(total - 1.0) - found, each), inside, True)
    if grads is not None:
        if incoming is None:
            w = scalar_weight(expected, factor, DTYPE) + tl.zeros([P], DTYPE)
        else:
            w = tl.load(incoming + row * incoming_row).to(DTYPE) + tl.zeros([P], DTYPE)
        if weight is not None:
            w *= each
        first_grad = row * grad_pitch.row + s * grad_pitch.pixel
        of_prior, of_posterior = w * RECIPROCAL(total), w * RECIPROCAL(sum)
        for k in range(components):
            logit = load(packed, first + _number(k, packed_pitch), inside, True, DTYPE)
            nll, slopes = _component(targets, packed, first, packed_pitch, k, components, inside, MASS, N, WIDTH, DTYPE)
            share = tl.where(w == 0.0, 0.0, POWER((logit - top) - nll - peak) * of_posterior)
            by_logit = tl.where(w == 0.0, 0.0, POWER(logit - top) * of_prior - share)
            store(grads, first_grad + _number(k, grad_pitch), by_logit, inside, True)
            for j in tl.static_range(N):
                at = first_grad + _number(components * (1 + j) + k, grad_pitch)
                store(grads, at, tl.where(share == 0.0, 0.0, share * slopes[j]), inside, True)


def pixel(likelihood, x, packed, weight, options, ahead, expected):
    """The op."""
    dtype = compute_dtype(packed)
    rows, pixels = packed.shape[0], math.prod(x.shape[2:])
    nll = torch.empty(rows, dtype=dtype, device=x.device)
    values = nll if pixels == 1 else torch.empty((rows, pixels), dtype=dtype, device=x.device)
    grad = empty_in_order(packed) if ahead else None
    if rows and pixels:
        launch = _launch(likelihood, x, packed, weight, options, None, grad, 1)
        launch(x, packed, weight, None, values, grad, *_expectation(expected, dtype, x))
    if rows and pixels != 1:
        _sum(rows, pixels)(values, nll)
    return [nll, grad] if ahead else [nll]


def pixel_backward(grad, likelihood, x, packed, weight, options):
    """The op."""
    out = empty_in_order(packed)
    if out.numel():
        _launch(likelihood, x, packed, weight, options, grad, out, 1)(x, packed, weight, grad, None, out, None, 1.0)
    return out


def pixel_correct_(out, grad, expected, likelihood, x, packed, weight, options):
    """The op: the gradient for an incoming gradient, in place of the one for `expected`."""
    if out.numel():
        launch = _launch(likelihood, x, packed, weight, options, grad, out, 1, True)
        launch(x, packed, weight, grad, None, out, *_expectation(expected, compute_dtype(packed), x))


def _expectation(expected, dtype, like):
    """(a tensor or None, a factor): a Python number reaches a kernel as a float32."""
    return as_tensor(None, expected, like.device) if dtype == torch.float64 else (None, float(expected))


def pixel_log_prob(likelihood, x, packed, options):
    """The op."""
    out = empty_in_order(terms_like(x, (packed,)), compute_dtype(packed))
    if out.numel():
        _launch(likelihood, x, packed, None, options, None, None, -1)(x, packed, None, None, out, None, None, 1.0)
    return out


def _launch(likelihood, x, packed, weight, options, incoming, out, sign, corrects=False):
    """The launch for these tensors. sign: -1 for log p, 1 for -log p."""
    inner = is_inner(packed)
    of_weight = against(weight, terms_like(x, (packed,)))
    rows = x.stride(0), packed.stride(0), 0 if out is None else out.stride(0)
    incoming_row = incoming.stride(0) if incoming is not None and incoming.dim() else 0
    batch = packed.shape[0]
    sizes = batch, rows_of_x(x.shape, batch), x.shape[1], math.prod(x.shape[2:]), packed.shape[1]
    how = inner, of_weight, incoming_row, tuple(options), sign, corrects, compute_dtype(packed)
    return _made(likelihood, sizes, rows, *how)


@functools.lru_cache(maxsize=1024)
def _made(likelihood, sizes, strides, inner, of_weight, incoming_row, options, sign, corrects, dtype):
    (rows, x_rows, channels, pixels, numbers), formula = sizes, PIXEL[likelihood]
    n = formula.WIDTHS[channels] - 1
    p = min(power_of_two(pixels), PIXELS)
    pieces = -(-pixels // p)

    def pitch(row, width):
        return Pitch(row, width, 1) if inner else Pitch(row, 1, pixels)

    components = numbers // (1 + n)
    fixed: dict[str, Any] = {"x_pitch": pitch(strides[0], channels), "packed_pitch": pitch(strides[1], numbers)}
    fixed |= {"grad_pitch": pitch(strides[2], numbers), "pixels": pixels, "pieces": pieces, "components": components}
    if of_weight is not None:
        layout, row = of_weight
        fixed["weight_pitch"] = Pitch(row, int(layout in (Layout.FULL, Layout.PER_FEATURE)), 0)
    fixed |= {"incoming_row": incoming_row, "MASS": formula.triton_grey if channels == 1 else formula.triton_rgb}
    fixed |= {"ADD": maths.add_exponentials, "LOG1P": maths.log1p, "POWER": maths.exp_or_zero}
    fixed |= {"RECIPROCAL": maths.reciprocal, "C": channels, "N": n, "P": p, "L": min(power_of_two(components), 16)}
    fixed |= {"WIDTH": _width(*options), "LOWEST": torch.finfo(dtype).min, "SIGN": float(sign), "DTYPE": DTYPES[dtype]}
    fixed |= {"CORRECTS": corrects, "x_rows": x_rows}
    varying = ("x", "packed", "weight", "incoming", "values", "grads", "expected", "factor")
    return Launch(pixel_kernel, rows * pieces, fixed, varying, WARPS)


def _width(levels, low, high, least):
    steps = levels - 1
    width = (high - low) / steps
    ends = low + width / 2, high - width / 2
    return Width(width / 2, -math.log(width), *ends, low, width, None if least == -math.inf else least)
