"""The ops of vae_kernels/ops by Triton kernels: from tensors to a launch. ops/schemas.py says what they take."""

import functools
import math

import torch

from ...core.layout import empty_in_order, empty_packed
from ..reference import compute_dtype
from .launch import Launch
from .levels import levels, levels_backward  # noqa: F401
from .mixture import mixture, mixture_backward  # noqa: F401
from .plan import DTYPES, KL, SAMPLE, Plan, latent_tiles, pieces_at_once
from .rescale_kernel import rescale_kernel
from .sample_kernel import sample_backward_kernel, sample_kernel
from .tiles import INTERPRETED


def elbo(
    x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need, terms
):  # fmt: skip
    plan = _plan(x, params, likelihood, latent, None, beta, reduction, need, terms)
    return _run(plan, x, params, latent, None, rec_weight, rec_weight_factor, beta, beta_factor)


def elbo_backward(
    grad, x, params, likelihood, latent, rec_weight, beta, rec_weight_factor, beta_factor, reduction, need
):  # fmt: skip
    plan = _plan(x, params, likelihood, latent, grad, beta, reduction, need, False)
    return _run(plan, x, params, latent, grad, rec_weight, rec_weight_factor, beta, beta_factor)


def _plan(x, params, likelihood, latent, incoming, beta, reduction, need, terms):
    described = tuple([_described(t) for t in params]), tuple([_described(t) for t in latent])
    x, incoming = (None if t is None else _described(t) for t in (x, incoming))
    by_dim = beta is not None and beta.dim() > 0
    return Plan(x, described[0], likelihood, described[1], incoming, by_dim, reduction, need, terms)


def _described(t):
    return t.shape, t.stride(), t.dtype


def _run(plan, x, params, latent, incoming, rec_weight, rec_weight_factor, beta, beta_factor):
    ticket = _ticket((params or latent)[0].device)
    return plan(x, params, latent, incoming, rec_weight, rec_weight_factor, beta, beta_factor, ticket)


_tickets = {}


def _ticket(device):
    """A counter that is 0 between launches; one for each stream, on which launches follow one another."""
    if INTERPRETED.value:
        key = device
    elif torch.cuda.is_current_stream_capturing():
        return torch.zeros(1, dtype=torch.int32, device=device)  # it belongs to the graph
    else:
        key = device, torch.cuda.current_stream(device).cuda_stream
    ticket = _tickets.get(key)
    if ticket is None:
        ticket = _tickets[key] = torch.zeros(1, dtype=torch.int32, device=device)
    return ticket


_LATENTS = ("mu", "logvar", "prior_mu", "prior_logvar")


@functools.lru_cache(maxsize=1024)
def _sample_launch(rows, cols, strides, dtype, shard, draws, with_kl):
    tiles = latent_tiles(rows, cols)
    pieces, block = pieces_at_once(tiles)
    fixed = _sample_constants(tiles, cols, dtype, shard) | {
        f"{n}_row": s for n, s in zip(_LATENTS, strides, strict=True)
    }
    fixed |= {"rows": rows, "cols": cols, "pieces": tiles.pieces, "row_blocks": tiles.row_blocks}
    fixed |= {"PIECES": pieces, "BLOCK": block, "SEVERAL": draws > 1}
    programs = tiles.blocks * (draws if rows * cols else 1)  # of no element one draw is as many as all
    launch = Launch(sample_kernel, programs, fixed, (*_LATENTS, "rng", "z", "kl", "partial", "ticket"))
    return launch, rows * tiles.pieces if with_kl and tiles.pieces > 1 else 0


@functools.lru_cache(maxsize=1024)
def _sample_backward_launch(rows, cols, strides, dtype, shard, draws, grad_kl_row, grad_row):
    tiles = latent_tiles(rows, cols)
    fixed = _sample_constants(tiles, cols, dtype, shard) | {
        f"{n}_row": s for n, s in zip(_LATENTS, strides, strict=True)
    }
    fixed |= {"rows": rows, "cols": cols, "pieces": tiles.pieces, "draws": draws, "grad_kl_row": grad_kl_row}
    fixed |= {"grad_row": grad_row}
    given = (*_LATENTS, "rng", "grad_z", "grad_kl", "g0", "g1", "g2", "g3")
    return Launch(sample_backward_kernel, tiles.blocks, fixed, given)


def _sample_constants(tiles, cols, dtype, shard):
    tile = {"R": tiles.r, "C": max(tiles.c, 4), "GROUPED": cols % 4 == 0, "DTYPE": DTYPES[dtype]}
    return tile | {"SAMPLE": SAMPLE, "KL": KL, "SHARD": shard}


def _latents(mu, logvar, prior, rng):
    """The four, what the launch is a function of, and the type that is computed in."""
    four = (mu, logvar, *(prior or (None, None)))
    strides = tuple([0 if t is None else t.stride(0) for t in four])
    dtype = compute_dtype(mu, logvar, *prior)
    return four, (mu.shape[0], math.prod(mu.shape[1:]), strides, dtype, rng.numel() == 4), dtype


def sample(mu, logvar, prior, rng, n_samples, with_kl):
    four, key, dtype = _latents(mu, logvar, prior, rng)
    launch, n_partial = _sample_launch(*key, n_samples or 1, with_kl)
    z = torch.empty((n_samples, *mu.shape) if n_samples else mu.shape, dtype=mu.dtype, device=mu.device)
    kl = torch.empty(mu.shape[:1], dtype=dtype, device=mu.device) if with_kl else None
    partial = ticket = None
    if n_partial:
        partial = torch.empty(n_partial, dtype=torch.float64, device=mu.device)
        ticket = _ticket(mu.device)
    launch(*four, rng, z, kl, partial, ticket)
    return [z, kl] if with_kl else [z]


def sample_backward(grad_z, grad_kl, mu, logvar, prior, rng, n_samples, need, packed):
    four, key, _ = _latents(mu, logvar, prior, rng)
    grad_kl_row = 0 if grad_kl is None else grad_kl.stride(0)
    launch = _sample_backward_launch(*key, n_samples or 1, grad_kl_row, key[1] * (1 + packed))
    both, *halves = empty_packed(mu) if packed else (None,)
    grads = [empty_in_order(t) if need >> i & 1 else None for i, t in enumerate(four[len(halves) :], len(halves))]
    launch(*four, rng, grad_z, grad_kl, *halves, *grads)
    return [g for g in (both, *grads) if g is not None]


def rescale_(tensors, factor):
    """tensors *= factor (0-d), four a launch; the kernel reads the factor, and stops at once if it is 1."""
    for i in range(0, len(tensors), 4):
        some = [*tensors[i : i + 4], None, None, None][:4]
        _rescale_launch(tuple([0 if t is None else t.numel() for t in some]))(factor, *some)


@functools.lru_cache(maxsize=1024)
def _rescale_launch(sizes):
    fixed = {f"n{i}": n for i, n in enumerate(sizes)} | {"BLOCK": 1024}
    blocks = min(max(1, -(-max(sizes) // 1024)), 1024)
    return Launch(rescale_kernel, blocks, fixed, ("factor_ptr", "t0", "t1", "t2", "t3"))
