"""The log density of a mixture and its gradients.

First z, the means and e^{-logvar/4} are packed: dimension after dimension, samples and components in whole tiles
(`wide`), where those that are not there have no weight. A program then has a tile of samples and goes through tiles of
components, or the other way round, a dimension at a time. Nothing of the size samples x components is ever in memory.
The owners of a program's tile are the rows; `splits` programs share what their others are. FORMULA is a function of
formulas/mixture.py.
"""

import triton
import triton.language as tl

from .tiles import load, place, store


@triton.jit(do_not_specialize=["samples", "components", "dims"])
def mixture_pack_kernel(
    z, loc, logvar, log_weight, points, locs, roots, constants, samples, components, dims, wide_samples,
    wide_components,
    ROOT: tl.constexpr, CONSTANT: tl.constexpr, TILE: tl.constexpr, D: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    sample_programs = wide_samples // TILE
    if program < sample_programs:
        s = program * TILE + tl.arange(0, TILE)
        for start in range(0, dims, D):
            d = start + tl.arange(0, D).to(tl.int64)
            inside = (s < samples)[:, None] & (d < dims)[None, :]
            value = load(z, place(s, dims, d), inside, True, DTYPE)
            store(points, s[:, None] + (d * wide_samples)[None, :], value, (d < dims)[None, :], True)
    else:
        k = (program - sample_programs) * TILE + tl.arange(0, TILE)
        sums = tl.zeros([TILE], tl.float64)
        for start in range(0, dims, D):
            d = start + tl.arange(0, D).to(tl.int64)
            there = (d < dims)[None, :]
            inside = (k < components)[:, None] & there
            v = load(logvar, place(k, dims, d), inside, True, DTYPE)
            at = k[:, None] + (d * wide_components)[None, :]
            store(locs, at, load(loc, place(k, dims, d), inside, True, DTYPE), there, True)
            store(roots, at, ROOT(v), there, True)
            sums += tl.sum(v.to(tl.float64), 1)
        weight = tl.load(log_weight + k, mask=k < components, other=float("-inf"))
        store(constants, k, CONSTANT(weight.to(tl.float64), sums, dims.to(tl.float64)), k >= 0, True)


@triton.jit
def _scores(
    points, locs, roots, constants, s, c, wide_samples, wide_components, dims,
    DEVIATIONS: tl.constexpr, SCORE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHAIN: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """[ROWS, COLUMNS] for samples s and components c: one is [ROWS, 1] and one [1, COLUMNS]. The order of the sum is
    not that of a layout: forward and backward it is the same bits."""
    z, k = points + s, c
    total = tl.zeros([ROWS, COLUMNS], DTYPE)
    for start in range(0, dims, CHAIN):  # short chains of sums are rounded less
        part = tl.zeros([ROWS, COLUMNS], DTYPE)
        for _ in range(start, min(start + CHAIN, dims)):
            u = DEVIATIONS(tl.load(z), tl.load(locs + k), tl.load(roots + k))
            part = tl.fma(u, u, part)
            z += wide_samples
            k += wide_components
        total += part
    return SCORE(tl.load(constants + c), total)


@triton.jit
def _store_log_p(log_p, peak, log_sum, s, samples, top, total, LOG_TOTAL: tl.constexpr):
    rest = LOG_TOTAL(total).to(tl.float64)
    first = top.to(tl.float64)
    tl.store(peak + s, first, mask=s < samples)
    tl.store(log_sum + s, rest, mask=s < samples)
    store(log_p, s, first + rest, s < samples, True)


@triton.jit(do_not_specialize=["samples", "dims", "splits"])
def mixture_kernel(
    points, locs, roots, constants, log_p, peak, log_sum, tops, totals, samples, wide_samples, wide_components, dims,
    splits,
    DEVIATIONS: tl.constexpr, SCORE: tl.constexpr, ADD: tl.constexpr, LOG_TOTAL: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, CHAIN: tl.constexpr, LOWEST: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """The log-sum-exp of the components; of some of them, where there are `tops`."""
    program = tl.program_id(0)  # 32 bits: a division of 64 is a call
    split = (program % splits).to(tl.int64)
    s = (program // splits).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    top, total = tl.full([ROWS], LOWEST, DTYPE), tl.zeros([ROWS], DTYPE)  # not -inf, which some scores are
    for start in range(split * COLUMNS, wide_components, splits * COLUMNS):
        c = start + tl.arange(0, COLUMNS).to(tl.int64)
        scores = _scores(
            points, locs, roots, constants, s[:, None], c[None, :], wide_samples, wide_components, dims, DEVIATIONS,
            SCORE, ROWS, COLUMNS, CHAIN, DTYPE,
        )  # fmt: skip
        top, total = ADD(top, total, scores)
    if tops is None:
        _store_log_p(log_p, peak, log_sum, s, samples, top, total, LOG_TOTAL)
    else:
        tl.store(tops + split * wide_samples + s, top)
        tl.store(totals + split * wide_samples + s, total)


@triton.jit(do_not_specialize=["samples", "splits"])
def mixture_join_kernel(
    tops, totals, log_p, peak, log_sum, samples, wide_samples, splits,
    JOIN: tl.constexpr, LOG_TOTAL: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """In the order of the splits."""
    s = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    top, total = tl.load(tops + s, mask=s < samples, other=0), tl.load(totals + s, mask=s < samples, other=1)
    at = s
    for _ in range(1, splits):
        at += wide_samples
        other_top = tl.load(tops + at, mask=s < samples, other=0)
        top, total = JOIN(top, total, other_top, tl.load(totals + at, mask=s < samples, other=1))
    _store_log_p(log_p, peak, log_sum, s, samples, top, total, LOG_TOTAL)


@triton.jit
def _add(ptr, at, value, later):
    """To what the program itself has stored there, in later rounds."""
    tl.store(ptr + at, value + tl.load(ptr + at, mask=later, other=0))


@triton.jit(do_not_specialize=["samples", "dims", "splits", "incoming_row"])
def mixture_backward_kernel(
    points, locs, roots, constants, peak, log_sum, incoming, first, second, samples, wide_samples,
    wide_components, dims, splits, incoming_row,
    DEVIATIONS: tl.constexpr, SCORE: tl.constexpr, RESPONSIBILITY: tl.constexpr, WITHIN: tl.constexpr,
    OF_SAMPLES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHAIN: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """What the owners receive from their others, with responsibilities r (times the incoming gradient) and deviations
    u: samples sum_k r u root^2, minus the gradient of z; components sum_n r u and, as one more row of it, sum_n r; and
    sum_n r u^2."""
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
        scores = _scores(
            points, locs, roots, constants, s, c, wide_samples, wide_components, dims, DEVIATIONS, SCORE, ROWS, COLUMNS,
            CHAIN, DTYPE,
        )  # fmt: skip
        there = s < samples
        top = tl.load(peak + s, mask=there, other=0).to(DTYPE)
        r = RESPONSIBILITY(scores, top, tl.load(log_sum + s, mask=there, other=0).to(DTYPE))
        if incoming is not None:
            r *= tl.load(incoming + s * incoming_row, mask=there, other=0).to(DTYPE)
        r = tl.where(there, r, 0.0)
        z, k, at = points + s, c, split * rows * owners + own
        for _ in range(dims):
            root = tl.load(roots + k)
            u = WITHIN(DEVIATIONS(tl.load(z), tl.load(locs + k), root))
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
    first, second, roots, of_z, of_loc, of_logvar, of_log_weight, owners, wide, dims, splits, chunks,
    ROWS: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """From the sums to the gradients, over the splits in their order, in float64."""
    program = tl.program_id(0)
    own = (program // chunks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    d = (program % chunks).to(tl.int64) * D + tl.arange(0, D)
    inside = (own < owners)[:, None] & (d < dims)[None, :]
    packed = own[:, None] + (d * wide)[None, :]
    one, two = tl.zeros([ROWS, D], tl.float64), tl.zeros([ROWS, D], tl.float64)
    of_all = tl.zeros([ROWS], tl.float64)
    rows = dims.to(tl.int64) if second is None else dims.to(tl.int64) + 1
    at, at_all = packed, own + dims.to(tl.int64) * wide
    for _ in range(splits):
        one += tl.load(first + at, mask=inside, other=0)
        if second is not None:
            two += tl.load(second + at, mask=inside, other=0)
            of_all += tl.load(first + at_all, mask=own < owners, other=0)
        at += rows * wide
        at_all += rows * wide
    if second is None:
        store(of_z, place(own, dims, d), -one, inside, True)
    else:
        if of_loc is not None:
            root = tl.load(roots + packed, mask=inside, other=0)
            store(of_loc, place(own, dims, d), one.to(root.dtype) * root * root, inside, True)
        if of_logvar is not None:
            store(of_logvar, place(own, dims, d), 0.5 * (two - of_all[:, None]), inside, True)
        if of_log_weight is not None:
            store(of_log_weight, own, of_all, (own < owners) & (own * 0 + program % chunks == 0), True)
