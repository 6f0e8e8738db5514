"""The objective in one launch: the KL's programs, then those of the likelihood; the last program to end adds up.

Triton compiles a kernel anew for an integer that 16 no longer divides, and for one that becomes 1. So no integer that
depends on the batch is specialized: not `rows`, which is None where x is read as one row, and not `run`, the length of
that row, which stands in place of `cols` where 16 divides the length for some batches only.

The order of the kernel's arguments counts. With `strides` behind `ticket`, the assembler of Triton 3.6 takes 96
registers in place of 77 for a Gaussian with a variance per feature, from the same PTX.
"""

import functools
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ...core import terms as packed
from ...core.objective import Reduction, wanted_gradients
from . import tickets
from .constants import MEAN
from .finish import Out, Parts, Results, Weights, finish, finish_launch, finishers_for
from .grid import pieces_at_once
from .latent import Latents, LatentTerm, latent_tile, named
from .launch import Described, Launch, described
from .likelihood import LikelihoodTerm, likelihood_tiles
from .tickets import take_ticket
from .tiles import scalar_weight
from .twins import DTYPES


class Strides(NamedTuple):
    """How far rows lie apart. What is read as one row, or has one row for all samples, has a stride of 0."""

    x: Any
    parameters: Any
    latents: Any
    incoming: Any
    weight: Any


@triton.jit(
    do_not_specialize=[
        "rows", "run", "pieces", "row_blocks", "batch", "latent_pieces", "latent_row_blocks", "kl_place",
        "kl_per_dim_place",
    ]
)  # fmt: skip
def elbo_kernel(
    x, parameters, weight, grads, latents, latent_grads, strides, incoming, parts, sums, ticket, out, weights,
    rows, cols, run, pieces, row_blocks, batch, latent_cols, latent_pieces, latent_row_blocks, kl_place,
    kl_per_dim_place,
    FORMULA: tl.constexpr, KL: tl.constexpr, LIKELIHOOD: tl.constexpr, LATENT: tl.constexpr, RESULTS: tl.constexpr,
    FINISH: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    latent_blocks = latent_row_blocks * latent_pieces
    rec_weight = scalar_weight(weights.rec, weights.rec_factor, DTYPE)
    beta = scalar_weight(weights.beta, weights.beta_factor, DTYPE)
    share = tl.full([], 1.0, DTYPE)
    if RESULTS.REDUCTION == MEAN:
        share = share / (tl.zeros([], DTYPE) + tl.maximum(batch, 1))
    if block < latent_blocks:
        if KL is not None:
            latent_tile(
                latents, latent_grads, parts.kl, parts.weighted_kl, parts.kl_per_dim, incoming, beta * share,
                weights.beta_per_dim, strides.latents, strides.incoming, batch, latent_cols, latent_pieces, block,
                KL, LATENT, RESULTS.VALUES, RESULTS.BY_SAMPLE, DTYPE,
            )  # fmt: skip
    elif FORMULA is not None:
        block -= latent_blocks
        row_block, piece = block // pieces, block % pieces
        height = 1 if rows is None else rows
        end = cols if run is None else run
        if LIKELIHOOD.DOWN:
            full = (row_block + 1) * (LIKELIHOOD.R * LIKELIHOOD.STEPS) <= height and (piece + 1) * LIKELIHOOD.C <= end
        else:
            full = (row_block + 1) * LIKELIHOOD.R <= height and (piece + 1) * (LIKELIHOOD.C * LIKELIHOOD.STEPS) <= end
        if full:
            likelihood_tiles(
                x, parameters, weight, grads, sums, parts.nll, incoming, rec_weight * share, strides.x,
                strides.parameters, strides.weight, strides.incoming, height, cols, end, row_block, piece, block,
                pieces, FORMULA, LIKELIHOOD, RESULTS.VALUES, RESULTS.BY_SAMPLE, False, DTYPE,
            )  # fmt: skip
        else:
            likelihood_tiles(
                x, parameters, weight, grads, sums, parts.nll, incoming, rec_weight * share, strides.x,
                strides.parameters, strides.weight, strides.incoming, height, cols, end, row_block, piece, block,
                pieces, FORMULA, LIKELIHOOD, RESULTS.VALUES, RESULTS.BY_SAMPLE, True, DTYPE,
            )  # fmt: skip
    if FINISH:
        if take_ticket(ticket, latent_blocks + row_blocks * pieces):
            finish(
                0, 1, parts, sums, grads, out, ticket, rec_weight, beta,
                cols, pieces, row_blocks, batch, latent_cols, latent_pieces, latent_row_blocks, kl_place,
                kl_per_dim_place, RESULTS, LIKELIHOOD.N, True,
            )  # fmt: skip


def elbo(
    x, params, likelihood, latent, rec_weight, beta, weight, latent_weight, nats, rec_weight_factor, beta_factor,
    nats_factor, floor, reduction, mask, terms, expected,
):  # fmt: skip
    """The op: the loss, the terms and the gradients."""
    assert floor == 0 and expected == 1, "free bits and expectations are not there yet"
    plan = _plan(x, params, likelihood, latent, None, beta, weight, latent_weight, reduction, mask, terms)
    return plan(x, params, latent, None, rec_weight, rec_weight_factor, beta, beta_factor, weight, latent_weight)


def elbo_backward(
    grad, x, params, likelihood, latent, rec_weight, beta, weight, latent_weight, nats, rec_weight_factor, beta_factor,
    nats_factor, floor, reduction, mask,
):  # fmt: skip
    """The op: the gradients for an incoming gradient."""
    plan = _plan(x, params, likelihood, latent, grad, beta, weight, latent_weight, reduction, mask, False)
    return plan(x, params, latent, grad, rec_weight, rec_weight_factor, beta, beta_factor, weight, latent_weight)


def _plan(x, params, likelihood, latent, incoming, beta, weight, latent_weight, reduction, mask, terms):
    params, latent = tuple([described(t) for t in params]), tuple([described(t) for t in latent])
    optional = [None if t is None else described(t) for t in (x, incoming, weight, latent_weight)]
    per_dim = beta is not None and beta.dim() > 0
    return Plan(params, likelihood, latent, *optional, per_dim, reduction, mask, terms)


_VARYING = (
    "x",
    "parameters",
    "weight",
    "grads",
    "latents",
    "latent_grads",
    "incoming",
    "weights",
    "parts",
    "sums",
    "out",
    "ticket",
)


@functools.lru_cache(maxsize=1024)  # Plan(...) gives the plan that there is
class Plan:
    """What a launch of the objective needs beside its tensors: a function of their shapes, strides and dtypes.

    params, latent, x, incoming, weight, latent_weight: a Described of each tensor, as a tuple; the last four may be
    None.
    """

    def __init__(
        self, params, likelihood, latent, x, incoming, weight, latent_weight, per_dim, reduction, mask, terms
    ):  # fmt: skip
        optional = x, incoming, weight, latent_weight
        x, incoming, weight, latent_weight = (None if t is None else Described(*t) for t in optional)
        params, latent = ([Described(*t) for t in several] for several in (params, latent))
        inputs = (*params, *latent)
        batch = inputs[0].shape[0]
        self.dtype = torch.float64 if torch.float64 in [t.dtype for t in inputs] else torch.float32
        values = incoming is None
        by_sample = values and (reduction == Reduction.NONE or terms)
        wanted = wanted_gradients(mask, len(inputs))
        n = len(params)
        likelihood = LikelihoodTerm(x, params, weight, likelihood, incoming, wanted[:n], by_sample, self.dtype)
        latent_term = LatentTerm(latent, latent_weight, wanted[n:])
        tiles, latent_tiles = likelihood.tiles, latent_term.tiles
        self.left_out = (None,) * (likelihood.constants.N - n)
        self.grads, self.latent_grads = likelihood.grads, latent_term.grads

        places = packed.places((n > 0, bool(latent), latent[0].shape if latent else (batch,)))
        self.loss = ((batch,) if reduction == Reduction.NONE else ()) if values else None
        self.terms = places.size if terms else None

        parts = Parts()
        if values and n:
            parts = parts._replace(nll=batch * tiles.pieces if by_sample else likelihood.blocks)
        if values and latent:
            kl = batch * latent_tiles.pieces if by_sample else latent_term.blocks
            parts = parts._replace(kl=kl, weighted_kl=kl if per_dim and by_sample else None)
        if terms and places.size > places.kl_per_dim:
            parts = parts._replace(kl_per_dim=latent_term.row_blocks * latent_tiles.cols)
        sizes = [size for size in (*parts, *likelihood.sums) if size is not None]
        samples = by_sample or likelihood.sums_of_samples
        finishers = finishers_for(sum(sizes), batch * samples)
        if finishers > 1:
            parts = parts._replace(totals=finishers)
        # Each begins at a multiple of 16 bytes, whatever the batch: for another alignment Triton compiles anew.
        sizes = [(i, size + size % 2) for i, size in enumerate((*parts, *likelihood.sums)) if size is not None]
        self.parts = [i for i, _ in sizes], [size for _, size in sizes]
        self.no_parts = [None] * (len(parts) + likelihood.constants.N)
        adds_up = len(sizes) > 0

        results = Results(
            values, by_sample, reduction, likelihood.constants.LAYOUTS,
            *(pieces_at_once(tiles, latent_tiles) if samples else (1, 1, 1)),
        )  # fmt: skip
        shared = {"RESULTS": results, "DTYPE": DTYPES[self.dtype], "batch": batch}
        shared |= {"cols": 0 if likelihood.ragged else tiles.cols, "pieces": tiles.pieces}
        shared |= {"row_blocks": likelihood.row_blocks, "latent_row_blocks": latent_term.row_blocks}
        shared |= {"latent_cols": latent_tiles.cols, "latent_pieces": latent_tiles.pieces}
        shared |= {"kl_place": places.kl, "kl_per_dim_place": places.kl_per_dim}
        incoming_row = incoming.strides[0] if incoming is not None and incoming.shape else 0
        rows = likelihood.x_row, likelihood.parameter_rows, latent_term.strides, incoming_row, likelihood.weight_row
        own = {"strides": Strides(*rows)}
        own |= {"rows": None if tiles.flat else tiles.rows, "run": tiles.cols if likelihood.ragged else None}
        own |= {"FORMULA": likelihood.formula, "LIKELIHOOD": likelihood.constants}
        own |= {"KL": latent_term.kl, "LATENT": latent_term.constants, "FINISH": adds_up and finishers == 1}
        programs = max(likelihood.blocks + latent_term.blocks, 1)
        self.launch = Launch(elbo_kernel, programs, shared | own, _VARYING, likelihood.warps)
        self.finish = finish_launch(finishers, shared | {"N": likelihood.constants.N}) if finishers > 1 else None

    def __call__(
        self, x, params, latent, incoming, rec_weight, rec_weight_factor, beta, beta_factor, weight, latent_weight
    ):  # fmt: skip
        """Launch: [*results, *gradients]."""
        device = (params or latent)[0].device
        if self.dtype == torch.float64:  # a Python number reaches a kernel as a float32
            rec_weight, rec_weight_factor = _as_tensor(rec_weight, rec_weight_factor, device)
            if beta is None or beta.dim() == 0:
                beta, beta_factor = _as_tensor(beta, beta_factor, device)
        beta, per_dim = (None, beta) if beta is not None and beta.dim() > 0 else (beta, None)
        loss = terms = None
        if self.loss is not None:
            loss = torch.empty(self.loss, dtype=self.dtype, device=device)
        if self.terms is not None:
            terms = torch.empty(self.terms, dtype=self.dtype, device=device)
        grads, latent_grads = _empty(self.grads, device), _empty(self.latent_grads, device)
        parts, (places, sizes) = self.no_parts.copy(), self.parts
        if places:
            work = torch.empty(sum(sizes), dtype=torch.float64, device=device)
            for place, part in zip(places, work.split_with_sizes(sizes), strict=True):
                parts[place] = part
        n = len(Parts._fields)
        parts, sums, out = Parts(*parts[:n]), tuple(parts[n:]), Out(loss, terms)
        weights = Weights(rec_weight, rec_weight_factor, beta, beta_factor, per_dim)
        ticket = tickets.ticket(device)
        latents, latent_grads = named(latent, latent_weight) if latent else Latents(), Latents(*latent_grads)
        parameters = (*params, *self.left_out)
        self.launch(x, parameters, weight, grads, latents, latent_grads, incoming, weights, parts, sums, out, ticket)
        if self.finish:
            self.finish(parts, sums, grads, out, weights, ticket)
        return [t for t in (loss, terms, *grads, *latent_grads) if t is not None]


def _empty(grads, device):
    return tuple([
        None if g is None else torch.empty_strided(g.shape, g.strides, dtype=g.dtype, device=device) for g in grads
    ])  # fmt: skip


def _as_tensor(weight, factor, device):
    weight = torch.full((), factor, dtype=torch.float64, device=device) if weight is None else weight.double() * factor
    return weight, 1.0
