"""z = mu + exp(logvar / 2) eps and the KL of q(z|x): a kernel forward, and a kernel backward, which draws eps again.

A program has a tile of R samples and C columns of the latents. With GROUPED the number of columns is a multiple of
four, and the four normals of a Philox call lie side by side in a row.
"""

import functools
import math

import torch
import triton
import triton.language as tl

from ...core.layout import empty_in_order, empty_packed
from ...core.objective import Layout, wanted_gradients
from ..reference import compute_dtype
from . import tickets
from .grid import latent_tiles, pieces_at_once
from .latent import Latents, gaussian_kl
from .launch import Launch, against
from .noise import normals_of_elements, normals_of_groups
from .partial_sums import row_sums
from .tickets import take_ticket
from .tiles import load, place, row_weights, store
from .twins import DTYPES, KL, SAMPLE


@triton.jit
def _noise(
    rng, draw, rows, first_col, row, cols,
    R: tl.constexpr, C: tl.constexpr, GROUPED: tl.constexpr, SHARD: tl.constexpr,
):  # fmt: skip
    """[R, C] normals of these rows of a draw, and of the columns from first_col on."""
    seed, offset = tl.load(rng), tl.load(rng + 1)
    if SHARD:
        first_row = draw * tl.load(rng + 3) + tl.load(rng + 2)
    else:
        first_row = draw * rows
    if GROUPED:
        group = place(first_row + row, cols, first_col + 4 * tl.arange(0, C // 4)) >> 2
        return normals_of_groups(seed, offset, group, R, C)
    else:
        return normals_of_elements(seed, offset, place(first_row + row, cols, first_col + tl.arange(0, C)))


@triton.jit(do_not_specialize=["rows", "pieces", "row_blocks"])
def sample_kernel(
    latents, strides, rng, z, kl, partial, ticket, rows, cols, pieces, row_blocks,
    SEVERAL: tl.constexpr, SAMPLE: tl.constexpr, KL: tl.constexpr, WEIGHT: tl.constexpr, R: tl.constexpr,
    C: tl.constexpr, GROUPED: tl.constexpr, SHARD: tl.constexpr, PIECES: tl.constexpr, BLOCK: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    block, blocks = tl.program_id(0), row_blocks * pieces  # 32 bits: a division of 64 bits is a call
    draw = tl.zeros([], tl.int64)
    if SEVERAL:
        draw += block // blocks
        block = block % blocks
    row = (block // pieces).to(tl.int64) * R + tl.arange(0, R)
    piece = (block % pieces).to(tl.int64)
    col = piece * C + tl.arange(0, C)
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    mu = load(latents.mu, place(row, strides.mu, col), inside, True, DTYPE)
    logvar = load(latents.logvar, place(row, strides.logvar, col), inside, True, DTYPE)
    eps = _noise(rng, draw, rows, piece * C, row, cols, R, C, GROUPED, SHARD)
    sample, _ = SAMPLE(mu, logvar, eps)
    store(z, place(draw * rows + row, cols, col), sample, inside, True)
    if kl is not None:
        if draw == 0:
            result = gaussian_kl(mu, logvar, latents, strides, row, col, rows, cols, 1.0, KL, WEIGHT, DTYPE)
            sums = tl.sum(result[0], 1)
            if partial is None:  # a row is one piece
                store(kl, row, sums, row < rows, True)
            else:
                tl.store(partial + row * pieces + piece, sums.to(tl.float64), mask=row < rows)
                if take_ticket(ticket, blocks):
                    for start in range(0, rows, BLOCK):
                        r = start + tl.arange(0, BLOCK).to(tl.int64)
                        store(kl, r, row_sums(partial, r, rows, pieces, PIECES), r < rows, True)


@functools.lru_cache(maxsize=1024)
def _forward(rows, cols, strides, weight, dtype, shard, draws, with_kl):
    """The launch, and the number of partial sums that it leaves."""
    tiles = latent_tiles(rows, cols)
    pieces, block = pieces_at_once(tiles)
    fixed = _fixed(tiles, rows, cols, strides, weight, dtype, shard)
    fixed |= {"row_blocks": tiles.row_blocks, "PIECES": pieces, "BLOCK": block, "SEVERAL": draws > 1}
    programs = tiles.blocks * (draws if rows * cols else 1)  # without an element one draw is as many as all
    launch = Launch(sample_kernel, programs, fixed, ("latents", "rng", "z", "kl", "partial", "ticket"))
    return launch, rows * tiles.pieces if with_kl and tiles.pieces > 1 else 0


def sample(mu, logvar, prior, latent_weight, rng, n_samples, with_kl):
    """The op: z, and the KL if it is wanted."""
    latents, key, dtype = _latents(mu, logvar, prior, latent_weight if with_kl else None, rng)
    launch, n_partial = _forward(*key, n_samples or 1, with_kl)
    z = torch.empty((n_samples, *mu.shape) if n_samples else mu.shape, dtype=mu.dtype, device=mu.device)
    kl = torch.empty(mu.shape[:1], dtype=dtype, device=mu.device) if with_kl else None
    partial = ticket = None
    if n_partial:
        partial = torch.empty(n_partial, dtype=torch.float64, device=mu.device)
        ticket = tickets.ticket(mu.device)
    launch(latents, rng, z, kl, partial, ticket)
    return [z, kl] if with_kl else [z]


@triton.jit(do_not_specialize=["rows", "pieces", "draws"])
def sample_backward_kernel(
    latents, strides, rng, grad_z, grad_kl, grads, grad_kl_row, grad_row, rows, cols, pieces, draws,
    SAMPLE: tl.constexpr, KL: tl.constexpr, WEIGHT: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    GROUPED: tl.constexpr, SHARD: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    row = block // pieces * R + tl.arange(0, R)
    piece = block % pieces
    col = piece * C + tl.arange(0, C)
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    mu = load(latents.mu, place(row, strides.mu, col), inside, True, DTYPE)
    logvar = load(latents.logvar, place(row, strides.logvar, col), inside, True, DTYPE)
    by_mu, by_logvar = tl.zeros([R, C], DTYPE), tl.zeros([R, C], DTYPE)
    by_prior_mu, by_prior_logvar = tl.zeros([R, C], DTYPE), tl.zeros([R, C], DTYPE)
    if grad_kl is not None:
        w = row_weights(grad_kl, grad_kl_row, row, rows, 1.0, DTYPE)
        _, derivatives = gaussian_kl(mu, logvar, latents, strides, row, col, rows, cols, w, KL, WEIGHT, DTYPE)
        by_mu, by_logvar, by_prior_mu, by_prior_logvar = derivatives
    if grad_z is not None:
        for draw in range(draws):
            eps = _noise(rng, draw, rows, piece * C, row, cols, R, C, GROUPED, SHARD)
            _, slope = SAMPLE(mu, logvar, eps)
            g = load(grad_z, place(draw * rows + row, cols, col), inside, True, DTYPE)
            by_mu += g
            by_logvar += g * slope
    at = place(row, grad_row, col)  # the gradients of mu and logvar may be the halves of one tensor
    if grads.mu is not None:
        store(grads.mu, at, by_mu, inside, True)
    if grads.logvar is not None:
        store(grads.logvar, at, by_logvar, inside, True)
    at = place(row, cols, col)
    if grads.prior_mu is not None:
        store(grads.prior_mu, at, by_prior_mu, inside, True)
    if grads.prior_logvar is not None:
        store(grads.prior_logvar, at, by_prior_logvar, inside, True)


@functools.lru_cache(maxsize=1024)
def _backward(rows, cols, strides, weight, dtype, shard, draws, grad_kl_row, grad_row):
    tiles = latent_tiles(rows, cols)
    fixed = _fixed(tiles, rows, cols, strides, weight, dtype, shard)
    fixed |= {"draws": draws, "grad_kl_row": grad_kl_row, "grad_row": grad_row}
    return Launch(sample_backward_kernel, tiles.blocks, fixed, ("latents", "rng", "grad_z", "grad_kl", "grads"))


def sample_backward(grad_z, grad_kl, mu, logvar, prior, latent_weight, rng, n_samples, mask, packed):
    """The op: the gradients that the mask asks for. packed: mu and logvar are halves, and get one gradient."""
    latents, key, _ = _latents(mu, logvar, prior, None if grad_kl is None else latent_weight, rng)
    grad_kl_row = 0 if grad_kl is None else grad_kl.stride(0)
    launch = _backward(*key, n_samples or 1, grad_kl_row, key[1] * (1 + packed))
    both, *halves = empty_packed(mu) if packed else (None,)
    first = len(halves)
    wanted = wanted_gradients(mask, 4)[first:]
    grads = [empty_in_order(t) if w else None for t, w in zip(latents[first:4], wanted, strict=True)]
    launch(latents, rng, grad_z, grad_kl, Latents(*halves, *grads))
    return [g for g in (both, *grads) if g is not None]


def _latents(mu, logvar, prior, weight, rng):
    """The tensors, what the launch is a function of, and the type that is computed in."""
    tensors = mu, logvar, *prior
    strides = tuple([t.stride(0) for t in tensors])
    dtype = compute_dtype(*tensors)
    key = mu.shape[0], math.prod(mu.shape[1:]), strides, against(weight, mu), dtype, rng.numel() == 4
    return Latents(*tensors, weight=weight), key, dtype


def _fixed(tiles, rows, cols, strides, weight, dtype, shard):
    """The arguments that both kernels have. weight: where it lies against mu, or None."""
    layout, weight_row = weight or (Layout.SCALAR, None)
    fixed = {
        "strides": Latents(*strides, *[0] * (len(Latents._fields) - len(strides)))._replace(weight=weight_row),
        "rows": rows,
        "cols": cols,
        "pieces": tiles.pieces,
    }
    fixed |= {"R": tiles.r, "C": max(tiles.c, 4), "GROUPED": cols % 4 == 0, "DTYPE": DTYPES[dtype]}
    return fixed | {"SAMPLE": SAMPLE, "KL": KL, "WEIGHT": layout, "SHARD": shard}
