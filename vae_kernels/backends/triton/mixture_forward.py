"""The log density of a mixture: the log-sum-exp of the components' scores, for each sample.

A program has a tile of samples and goes through tiles of components, a dimension at a time. Where there are few
samples, `splits` programs share the components, and a second launch joins their results. Nothing of the size samples x
components is ever in memory.
"""

import functools

import torch
import triton
import triton.language as tl

from ...formulas import mixture as formula
from . import maths
from .launch import Launch
from .mixture_backward import gradients
from .mixture_pack import ROWS, Sizes, pack, score_arguments, scores, splits_for
from .tiles import store


@triton.jit
def _store_log_p(results, s, samples, top, total, LOG_TOTAL: tl.constexpr):
    rest = LOG_TOTAL(total).to(tl.float64)
    first = top.to(tl.float64)
    tl.store(results[1] + s, first, mask=s < samples)
    tl.store(results[2] + s, rest, mask=s < samples)
    store(results[0], s, first + rest, s < samples, True)


@triton.jit(do_not_specialize=["samples", "dims", "splits"])
def mixture_kernel(
    packed, results, tops, totals, samples, wide_samples, wide_components, dims, splits,
    DEVIATIONS: tl.constexpr, SCORE: tl.constexpr, ADD: tl.constexpr, LOG_TOTAL: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, CHAIN: tl.constexpr, LOWEST: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """results: log_p, peak and log_sum, over all components. With `tops` the program has some of the components only,
    and leaves what mixture_join_kernel reads."""
    program = tl.program_id(0)  # 32 bits: a division of 64 bits is a call
    split = (program % splits).to(tl.int64)
    s = (program // splits).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    top, total = tl.full([ROWS], LOWEST, DTYPE), tl.zeros([ROWS], DTYPE)  # not -inf, which some scores are
    for start in range(split * COLUMNS, wide_components, splits * COLUMNS):
        c = start + tl.arange(0, COLUMNS).to(tl.int64)
        tile = scores(
            packed, s[:, None], c[None, :], wide_samples, wide_components, dims, DEVIATIONS, SCORE, ROWS, COLUMNS,
            CHAIN, DTYPE,
        )  # fmt: skip
        top, total = ADD(top, total, tile)
    if tops is None:
        _store_log_p(results, s, samples, top, total, LOG_TOTAL)
    else:
        tl.store(tops + split * wide_samples + s, top)
        tl.store(totals + split * wide_samples + s, total)


@triton.jit(do_not_specialize=["samples", "splits"])
def mixture_join_kernel(
    tops, totals, results, samples, wide_samples, splits,
    JOIN: tl.constexpr, LOG_TOTAL: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The log-sum-exp of what the splits have left, in their order."""
    s = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    top, total = tl.load(tops + s, mask=s < samples, other=0), tl.load(totals + s, mask=s < samples, other=1)
    at = s
    for _ in range(1, splits):
        at += wide_samples
        other_top = tl.load(tops + at, mask=s < samples, other=0)
        top, total = JOIN(top, total, other_top, tl.load(totals + at, mask=s < samples, other=1))
    _store_log_p(results, s, samples, top, total, LOG_TOTAL)


@functools.lru_cache(maxsize=1024)
def _forward(sizes):
    """The launch, the number of its splits, and the launch that joins them."""
    columns = 64 if sizes.dtype == torch.float32 else 32  # float32 has registers for twice as many
    splits = splits_for(sizes.samples, sizes.components, columns)
    fixed = score_arguments(sizes) | {"splits": splits, "COLUMNS": columns, "ADD": maths.add_exponentials}
    fixed |= {"LOWEST": torch.finfo(sizes.dtype).min, "LOG_TOTAL": formula.triton_log_total}
    programs = -(-sizes.samples // ROWS) * splits
    forward = Launch(mixture_kernel, programs, fixed, ("packed", "results", "tops", "totals"))
    fixed = {"samples": sizes.samples, "wide_samples": sizes.wide_samples, "splits": splits, "ROWS": 128}
    fixed |= {"JOIN": formula.triton_join, "LOG_TOTAL": formula.triton_log_total}
    join = Launch(mixture_join_kernel, -(-sizes.samples // 128), fixed, ("tops", "totals", "results"))
    return forward, splits, join


def mixture(z, loc, logvar, log_weight, mask):
    """The op."""
    sizes = Sizes(len(z), *loc.shape, z.dtype)
    packed = pack(sizes, z, loc, logvar, log_weight)
    results = tuple([torch.empty(len(z), dtype=t, device=z.device) for t in (z.dtype, torch.float64, torch.float64)])
    if sizes.samples:
        forward, splits, join = _forward(sizes)
        parts = None, None
        if splits > 1:
            parts = torch.empty((2, splits * sizes.wide_samples), dtype=z.dtype, device=z.device)
        forward(packed, results, *parts)
        if splits > 1:
            join(*parts, results)
    return [*results, *(gradients(sizes, packed, None, *results[1:], mask) if mask else ())]


def mixture_backward(grad, z, loc, logvar, log_weight, peak, log_sum, mask):
    """The op."""
    sizes = Sizes(len(z), *loc.shape, z.dtype)
    return gradients(sizes, pack(sizes, z, loc, logvar, log_weight), grad, peak, log_sum, mask)
