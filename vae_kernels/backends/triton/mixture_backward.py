"""The gradients of a mixture's log density: the samples' responsibilities for the components, times deviations.

A program has a tile of owners and goes through tiles of the others: with OF_SAMPLES the owners are samples and the
others components, else the other way round. `splits` programs share the others of a tile. A second launch adds up.
"""

import functools
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ...core.objective import wanted_gradients
from ...formulas import mixture as formula
from .launch import Launch
from .mixture_pack import ROWS, score_arguments, scores, splits_for
from .tiles import place, store

COLUMNS, D = 32, 16


class MixtureGrads(NamedTuple):
    z: Any = None
    loc: Any = None
    logvar: Any = None
    log_weight: Any = None


@triton.jit
def _add(ptr, at, value, later):
    """In later rounds, add to what the program itself has stored there."""
    tl.store(ptr + at, value + tl.load(ptr + at, mask=later, other=0))


@triton.jit(do_not_specialize=["samples", "dims", "splits", "incoming_row"])
def mixture_backward_kernel(
    packed, peak, log_sum, incoming, first, second, samples, wide_samples, wide_components, dims, splits, incoming_row,
    DEVIATIONS: tl.constexpr, SCORE: tl.constexpr, RESPONSIBILITY: tl.constexpr, WITHIN: tl.constexpr,
    OF_SAMPLES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHAIN: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """What the owners receive from the others. r is a responsibility times the incoming gradient, u a deviation.

    first   of samples: sum_k r u root^2, which is minus the gradient of z; of components: sum_n r u, and as one more
            row sum_n r
    second  of components: sum_n r u^2
    """
    program = tl.program_id(0)
    split = (program % splits).to(tl.int64)
    own = (program // splits).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    if OF_SAMPLES:
        owners, others, rows = wide_samples, wide_components, dims
    else:
        owners, others, rows = wide_components, wide_samples, dims + 1
    later = own < 0
    for start in range(split * COLUMNS, others, splits * COLUMNS):
        other = start + tl.arange(0, COLUMNS).to(tl.int64)
        if OF_SAMPLES:
            s, c = own[:, None], other[None, :]
        else:
            s, c = other[None, :], own[:, None]
        tile = scores(packed, s, c, wide_samples, wide_components, dims, DEVIATIONS, SCORE, ROWS, COLUMNS, CHAIN, DTYPE)
        there = s < samples
        top = tl.load(peak + s, mask=there, other=0).to(DTYPE)
        r = RESPONSIBILITY(tile, top, tl.load(log_sum + s, mask=there, other=0).to(DTYPE))
        if incoming is not None:
            r *= tl.load(incoming + s * incoming_row, mask=there, other=0).to(DTYPE)
        r = tl.where(there, r, 0.0)
        z, k, at = packed.points + s, c, split * rows * owners + own
        for _ in range(dims):
            root = tl.load(packed.roots + k)
            u = WITHIN(DEVIATIONS(tl.load(z), tl.load(packed.locs + k), root))
            moment = r * u
            if OF_SAMPLES:
                _add(first, at, tl.sum(moment * root * root, 1), later)
            else:
                _add(first, at, tl.sum(moment, 1), later)
                _add(second, at, tl.sum(moment * u, 1), later)
            z += wide_samples
            k += wide_components
            at += owners
        if not OF_SAMPLES:
            _add(first, at, tl.sum(r, 1), later)
        later = own >= 0
        tl.debug_barrier()  # what was stored is read in the next round


@triton.jit(do_not_specialize=["owners", "dims", "splits", "chunks"])
def mixture_finish_kernel(
    first, second, roots, grads, owners, wide, dims, splits, chunks,
    ROWS: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """From the sums to the gradients. The splits are added up in their order, in float64."""
    program = tl.program_id(0)
    own = (program // chunks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    d = (program % chunks).to(tl.int64) * D + tl.arange(0, D)
    inside = (own < owners)[:, None] & (d < dims)[None, :]
    packed = own[:, None] + (d * wide)[None, :]
    one, two = tl.zeros([ROWS, D], tl.float64), tl.zeros([ROWS, D], tl.float64)
    sum_all = tl.zeros([ROWS], tl.float64)
    rows = dims.to(tl.int64) if second is None else dims.to(tl.int64) + 1
    at, at_sum = packed, own + dims.to(tl.int64) * wide
    for _ in range(splits):
        one += tl.load(first + at, mask=inside, other=0)
        if second is not None:
            two += tl.load(second + at, mask=inside, other=0)
            sum_all += tl.load(first + at_sum, mask=own < owners, other=0)
        at += rows * wide
        at_sum += rows * wide
    if second is None:
        store(grads.z, place(own, dims, d), -one, inside, True)
    else:
        if grads.loc is not None:
            root = tl.load(roots + packed, mask=inside, other=0)
            store(grads.loc, place(own, dims, d), one.to(root.dtype) * root * root, inside, True)
        if grads.logvar is not None:
            store(grads.logvar, place(own, dims, d), 0.5 * (two - sum_all[:, None]), inside, True)
        if grads.log_weight is not None:
            store(grads.log_weight, own, sum_all, (own < owners) & (own * 0 + program % chunks == 0), True)


@functools.lru_cache(maxsize=1024)
def _backward(sizes, of_samples, incoming_row):
    """The launch, its finish, the number of splits, and the number of owners in whole tiles."""
    owners, others = (sizes.samples, sizes.components) if of_samples else (sizes.components, sizes.samples)
    wide = sizes.wide_samples if of_samples else sizes.wide_components
    splits, tiles = splits_for(owners, others, COLUMNS), -(-owners // ROWS)
    fixed = score_arguments(sizes) | {"splits": splits, "COLUMNS": COLUMNS, "OF_SAMPLES": of_samples}
    fixed |= {"incoming_row": incoming_row}
    fixed |= {"RESPONSIBILITY": formula.triton_responsibility, "WITHIN": formula.triton_within}
    varying = "packed", "peak", "log_sum", "incoming", "first", "second"
    launch = Launch(mixture_backward_kernel, tiles * splits, fixed, varying)
    chunks = -(-sizes.dims // D)
    fixed = {"owners": owners, "wide": wide, "dims": sizes.dims, "splits": splits, "chunks": chunks}
    fixed |= {"ROWS": ROWS, "D": D}
    finish = Launch(mixture_finish_kernel, tiles * chunks, fixed, ("first", "second", "roots", "grads"))
    return launch, finish, splits, wide


def gradients(sizes, packed, incoming, peak, log_sum, mask):
    """The gradients that the mask asks for, of (z, loc, logvar, log_weight). Without an incoming gradient it is 1."""
    empty = functools.partial(torch.empty, dtype=sizes.dtype, device=packed.points.device)
    shapes = (sizes.samples, sizes.dims), *[(sizes.components, sizes.dims)] * 2, (sizes.components,)
    wanted = wanted_gradients(mask, 4)
    grads = MixtureGrads(*[empty(shape) if w else None for shape, w in zip(shapes, wanted, strict=True)])
    incoming_row = 0 if incoming is None else incoming.stride(0)
    if grads.z is not None and sizes.samples:
        launch, finish, splits, wide = _backward(sizes, True, incoming_row)
        (first,) = empty((1, splits, sizes.dims, wide))
        if splits:
            launch(packed, peak, log_sum, incoming, first, None)
        finish(first, None, packed.roots, grads._replace(loc=None, logvar=None, log_weight=None))
    if any(wanted[1:]):
        launch, finish, splits, wide = _backward(sizes, False, incoming_row)
        first, second = empty((2, splits, sizes.dims + 1, wide))
        if splits:
            launch(packed, peak, log_sum, incoming, first, second)
        finish(first, second, packed.roots, grads._replace(z=None))
    return [g for g in grads if g is not None]
