"""The inputs of a mixture, packed for its kernels: z, the means, e^{-logvar/4} and one constant for each component.

The packed tensors go dimension after dimension. Samples and components fill whole tiles (`wide`); those that are not
there have no weight.
"""

import functools
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ...formulas import mixture as formula
from .launch import Launch
from .tiles import load, place, store
from .twins import DTYPES

ROWS = 32  # samples or components of a program
WIDE = 64  # the numbers of samples and components are filled up to multiples of this
PROGRAMS = 512  # this many programs give all of a GPU work, where there are as many tiles


class Packed(NamedTuple):
    points: Any
    locs: Any
    roots: Any
    constants: Any


class Sizes(NamedTuple):
    """Of a mixture: samples [samples, dims] and as many components; dtype is that of all tensors."""

    samples: Any
    components: Any
    dims: Any
    dtype: Any

    @property
    def wide_samples(self):
        return -(-self.samples // WIDE) * WIDE

    @property
    def wide_components(self):
        return -(-self.components // WIDE) * WIDE

    def arguments(self):
        """Those that the kernels take, by name."""
        wide = {"wide_samples": self.wide_samples, "wide_components": self.wide_components}
        return {"samples": self.samples, "dims": self.dims} | wide


@triton.jit(do_not_specialize=["samples", "components", "dims"])
def mixture_pack_kernel(
    z, loc, logvar, log_weight, packed, samples, components, dims, wide_samples, wide_components,
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
            store(packed.points, s[:, None] + (d * wide_samples)[None, :], value, (d < dims)[None, :], True)
    else:
        k = (program - sample_programs) * TILE + tl.arange(0, TILE)
        sums = tl.zeros([TILE], tl.float64)
        for start in range(0, dims, D):
            d = start + tl.arange(0, D).to(tl.int64)
            there = (d < dims)[None, :]
            inside = (k < components)[:, None] & there
            v = load(logvar, place(k, dims, d), inside, True, DTYPE)
            at = k[:, None] + (d * wide_components)[None, :]
            store(packed.locs, at, load(loc, place(k, dims, d), inside, True, DTYPE), there, True)
            store(packed.roots, at, ROOT(v), there, True)
            sums += tl.sum(v.to(tl.float64), 1)
        weight = tl.load(log_weight + k, mask=k < components, other=float("-inf"))
        store(packed.constants, k, CONSTANT(weight.to(tl.float64), sums, dims.to(tl.float64)), k >= 0, True)


@functools.lru_cache(maxsize=1024)
def _pack(sizes):
    fixed = sizes.arguments() | {"components": sizes.components, "TILE": ROWS, "D": 16, "DTYPE": DTYPES[sizes.dtype]}
    fixed |= {"ROOT": formula.triton_root, "CONSTANT": formula.triton_constant}
    programs = (sizes.wide_samples + sizes.wide_components) // ROWS
    return Launch(mixture_pack_kernel, programs, fixed, ("z", "loc", "logvar", "log_weight", "packed"))


def pack(sizes, *inputs):
    """The Packed of z, loc, logvar and log_weight."""
    each = sizes.dims * sizes.wide_components
    lengths = [sizes.dims * sizes.wide_samples, each, each, sizes.wide_components]
    work = torch.empty(sum(lengths), dtype=sizes.dtype, device=inputs[0].device)
    packed = Packed(*work.split_with_sizes(lengths))
    _pack(sizes)(*inputs, packed)
    return packed


# ---------------------------------------------------------------- the scores of a tile, forward and backward


@triton.jit
def scores(
    packed, s, c, wide_samples, wide_components, dims,
    DEVIATIONS: tl.constexpr, SCORE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHAIN: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """[ROWS, COLUMNS] for samples s and components c: one is [ROWS, 1] and one [1, COLUMNS]. The order of the sum does
    not depend on which is which: forward and backward have the same bits."""
    z, k = packed.points + s, c
    total = tl.zeros([ROWS, COLUMNS], DTYPE)
    for start in range(0, dims, CHAIN):  # short chains of sums are rounded less
        part = tl.zeros([ROWS, COLUMNS], DTYPE)
        for _ in range(start, min(start + CHAIN, dims)):
            u = DEVIATIONS(tl.load(z), tl.load(packed.locs + k), tl.load(packed.roots + k))
            part = tl.fma(u, u, part)
            z += wide_samples
            k += wide_components
        total += part
    return SCORE(tl.load(packed.constants + c), total)


def score_arguments(sizes):
    """What the kernels take beside the packed tensors, by name, to call `scores`."""
    tile = {"ROWS": ROWS, "CHAIN": 32, "DTYPE": DTYPES[sizes.dtype]}
    return sizes.arguments() | tile | {"DEVIATIONS": formula.triton_deviations, "SCORE": formula.triton_score}


def splits_for(owners, others, columns):
    """How many programs share the others of a tile of owners. It depends on the shapes alone, so that the sums are the
    same on every GPU."""
    tiles, most = -(-owners // ROWS), -(-others // columns)
    return min(most, max(1, PROGRAMS // max(tiles, 1)))
