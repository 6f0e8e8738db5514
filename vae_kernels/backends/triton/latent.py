"""The latent term: what a program of elbo_kernel does with its tile of the latents, and what the host gives to it.

A program has a tile of R samples and C latent dimensions.
"""

import math
from typing import Any, NamedTuple

import triton
import triton.language as tl

from ...core.objective import Layout
from .grid import Tiles, latent_tiles
from .tiles import load, load_against, place, row_weights, store, weighted
from .twins import KL


class Latents(NamedTuple):
    """The tensors of the latent term, their gradients, or the strides of their rows. Without a prior it is N(0, 1).
    `kl` is the KL itself, in place of the others. `weight` is the weight of the KL, or None."""

    mu: Any = None
    logvar: Any = None
    prior_mu: Any = None
    prior_logvar: Any = None
    kl: Any = None
    weight: Any = None


class LatentTile(NamedTuple):
    """What is compiled into the kernel. WEIGHT: the Layout of the weight. BY_SAMPLE: whether partial sums are those of
    samples."""

    R: Any = 1
    C: Any = 1
    WEIGHT: Any = Layout.SCALAR
    BY_SAMPLE: Any = False


@triton.jit
def gaussian_kl(
    mu, logvar, latents, strides, row, col, rows, cols, w,
    KL: tl.constexpr, WEIGHT: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """The weighted KL of tiles mu and logvar to the prior, and its derivatives by all four, times w. The prior and the
    weight are read here. What lies outside was read as 0, and has a KL of 0."""
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    if latents.prior_mu is None:
        result = KL(mu, logvar, None, None)
    else:
        prior_mu = load(latents.prior_mu, place(row, strides.prior_mu, col), inside, True, DTYPE)
        prior_logvar = load(latents.prior_logvar, place(row, strides.prior_logvar, col), inside, True, DTYPE)
        result = KL(mu, logvar, prior_mu, prior_logvar)
    each = latents.weight
    if each is not None:
        each = load_against(each, strides.weight, row, col, rows, cols, WEIGHT, True, DTYPE)
    value = weighted(result[0], each)
    if latents.weight is not None:  # a weight that is infinite makes a NaN of 0
        value = tl.where(inside, value, 0.0)
    derivatives = ()
    for i in tl.static_range(4):
        derivatives = derivatives + (weighted(result[i + 1] * w, each),)
    return value, derivatives


@triton.jit
def latent_tile(
    latents, grads, kl_part, weighted_part, per_dim_part, incoming, weight, beta_per_dim, strides, incoming_row,
    rows, cols, pieces, block, loss_weight,
    KL: tl.constexpr, TILE: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    R: tl.constexpr = TILE.R
    C: tl.constexpr = TILE.C
    row_block, piece = block // pieces, block % pieces
    row, col = row_block * R + tl.arange(0, R), piece * C + tl.arange(0, C)
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    w = row_weights(incoming, incoming_row, row, rows, weight, DTYPE)
    beta = tl.full([1, C], 1.0, DTYPE)
    if beta_per_dim is not None:
        beta = load(beta_per_dim, col, col < cols, True, DTYPE)[None, :]
        w = w * beta
    if latents.kl is not None:
        value = load(latents.kl, place(row, strides.kl, col), inside, True, DTYPE)
        at = place(row, cols, col)
        if grads.kl is not None:
            store(grads.kl, at, w + tl.zeros([R, C], DTYPE), inside, True)
    else:
        mu = load(latents.mu, place(row, strides.mu, col), inside, True, DTYPE)
        at = place(row, cols, col)
        logvar = load(latents.logvar, place(row, strides.logvar, col), inside, True, DTYPE)
        value, derivatives = gaussian_kl(mu, logvar, latents, strides, row, col, rows, cols, w, KL, TILE.WEIGHT, DTYPE)
        for i in tl.static_range(4):
            if grads[i] is not None:
                store(grads[i], at, derivatives[i], inside, True)
    if kl_part is not None:
        if TILE.BY_SAMPLE:
            at = row * pieces + piece
            kl = tl.sum(value, 1).to(tl.float64)
            if loss_weight is not None:
                kl = loss_weight * kl
            store(kl_part, at, kl, row < rows, True)
            if weighted_part is not None:
                tl.store(weighted_part + at, tl.sum(value * beta, 1).to(tl.float64), mask=row < rows)
        else:
            tl.store(kl_part + block, tl.sum(tl.sum(value * beta, 1), 0).to(tl.float64))
    if per_dim_part is not None:
        tl.store(per_dim_part + row_block * cols + col, tl.sum(value, 0).to(tl.float64), mask=col < cols)


class LatentTerm:
    """The latent term of a request, for the launch. latent, weight: the Described of each tensor; wanted: for each of
    the latents whether its gradient is asked for."""

    kl, blocks, row_blocks = None, 0, 0
    constants, tiles = LatentTile(), Tiles(1, 0)
    strides, grads = Latents(0, 0, 0, 0, 0), ()

    def __init__(self, latent, weight, wanted, by_sample):
        if not latent:
            return
        rows, *dims = latent[0].shape
        self.kl = KL
        self.tiles = tiles = latent_tiles(rows, math.prod(dims))
        self.row_blocks, self.blocks = tiles.row_blocks, tiles.blocks
        layout, row = weight.against(latent[0].shape) if weight else (Layout.SCALAR, None)
        self.constants = LatentTile(tiles.r, tiles.c, layout, by_sample)
        self.strides = Latents(*[0 if t is None else t.strides[0] for t in named(latent)])._replace(weight=row)
        self.grads = named([t.gradient() if w else None for t, w in zip(latent, wanted, strict=True)])


def named(latent, weight=None):
    """The tensors of a request's latent term, or what belongs to each, as Latents."""
    return Latents(kl=latent[0]) if len(latent) == 1 else Latents(*latent, weight=weight)
