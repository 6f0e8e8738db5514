"""The objective: its ops, and the launches of objective_kernel.py and of the kernels behind it."""

import functools

import torch

from ...core import terms as packed
from ...core.objective import KlFloor, Layout, Reduction, wanted_gradients
from ...formulas import is_row
from . import tickets
from .finish import Out, Parts, Results, Weights, finish_launch, finishers_for
from .free_bits import FreeBits, close_launch, free_bits, strips_launch, strips_of
from .grid import pieces_at_once, power_of_two
from .latent import Latents, LatentTerm, named
from .launch import Described, Launch, described
from .likelihood import LikelihoodTerm
from .objective_kernel import Strides, elbo_kernel
from .row import NO_ROW, RowTerm
from .twins import DTYPES


def elbo(
    x, params, likelihood, latent, rec_weight, beta, weight, latent_weight, nats, log_total, rec_weight_factor,
    beta_factor, nats_factor, floor, reduction, mask, terms, expected,
):  # fmt: skip
    """The op: the loss, the terms and the gradients."""
    optional = x, None, weight, latent_weight, log_total
    plan = _plan(params, likelihood, latent, optional, beta, floor, reduction, mask, terms)
    weights = Weights(
        rec_weight, rec_weight_factor, beta, beta_factor, None, nats, nats_factor if floor else None, None,
        None if expected == 1 else expected,
    )  # fmt: skip
    return plan(params, latent, *optional, weights)


def elbo_backward(
    grad, x, params, likelihood, latent, rec_weight, beta, weight, latent_weight, nats, log_total, rec_weight_factor,
    beta_factor, nats_factor, floor, reduction, mask,
):  # fmt: skip
    """The op: the gradients for an incoming gradient."""
    optional = x, grad, weight, latent_weight, log_total
    plan = _plan(params, likelihood, latent, optional, beta, floor, reduction, mask, False)
    least = nats_factor if floor else None
    weights = Weights(rec_weight, rec_weight_factor, beta, beta_factor, None, nats, least)
    return plan(params, latent, *optional, weights)


def correct_(
    grads, grad, expected, x, params, likelihood, latent, rec_weight, beta, weight, latent_weight, nats, log_total,
    rec_weight_factor, beta_factor, nats_factor, floor, reduction, mask,
):  # fmt: skip
    """The op: the gradients for an incoming gradient, in place of those for `expected`."""
    least, expected = (nats_factor, None) if floor else (None, expected)  # a KL, and so its floor, is computed anew
    optional = x, grad, weight, latent_weight, log_total
    plan = _plan(params, likelihood, latent, optional, beta, floor, reduction, mask, False)
    assert plan.row is None, "the gradients of the row kind are not corrected in place"
    assert floor or not plan.parts[0], "a gradient that is a sum is not corrected in place"
    weights = Weights(rec_weight, rec_weight_factor, beta, beta_factor, None, nats, least, None, expected)
    plan(params, latent, *optional, weights, grads)


def _plan(params, likelihood, latent, optional, beta, floor, reduction, mask, terms):
    params, latent = tuple([described(t) for t in params]), tuple([described(t) for t in latent])
    optional = [None if t is None else described(t) for t in optional]
    per_dim = beta is not None and beta.dim() > 0
    return Plan(params, likelihood, latent, *optional, per_dim, floor, reduction, mask, terms)


_VARYING = (
    "x", "parameters", "weight", "grads", "latents", "latent_grads", "incoming", "latent_incoming", "weights", "parts",
    "sums", "out", "ticket", "softmax",
)  # fmt: skip


@functools.lru_cache(maxsize=1024)  # Plan(...) gives the plan that there is
class Plan:
    """What a launch of the objective needs beside its tensors: a function of their shapes, strides and dtypes.

    params, latent, x, incoming, weight, latent_weight, log_total: a Described of each tensor, as a tuple; the last five
    may be None.
    """

    def __init__(
        self, params, likelihood, latent, x, incoming, weight, latent_weight, log_total, per_dim, floor, reduction,
        mask, terms,
    ):  # fmt: skip
        optional = x, incoming, weight, latent_weight, log_total
        x, incoming, weight, latent_weight, log_total = (None if t is None else Described(*t) for t in optional)
        params, latent = ([Described(*t) for t in several] for several in (params, latent))
        inputs = (*params, *latent)
        batch = inputs[0].shape[0]
        self.dtype = torch.float64 if torch.float64 in [t.dtype for t in inputs] else torch.float32
        values = incoming is None
        *wanted, of_total = wanted_gradients(mask, len(inputs) + 1)
        n, row = len(params), is_row(likelihood, log_total)
        bits = FreeBits()
        if latent and (values or any(wanted[n:])):
            bits = free_bits(floor, latent[0].shape)
        by_sample = values and (reduction == Reduction.NONE or terms or bits.of_sample is not None)
        name, of_row = likelihood, (wanted[0] if n else False, of_total)
        likelihood = LikelihoodTerm(x, params, weight, name, incoming, wanted[:n], by_sample, row, self.dtype)
        latent_term = LatentTerm(latent, latent_weight, wanted[n:], by_sample or bits.of_sample is not None)
        tiles, latent_tiles = likelihood.tiles, latent_term.tiles
        self.left_out = (None,) * (likelihood.constants.N - n)
        self.grads, self.latent_grads = likelihood.grads, latent_term.grads
        self.row = None
        if row:
            one_weight = weight is None or likelihood.constants.WEIGHT in (Layout.SCALAR, Layout.PER_SAMPLE)
            self.row = RowTerm(x, params[0], log_total, name, likelihood, one_weight, of_row, self.dtype)

        places = packed.places((n > 0, bool(latent), latent[0].shape if latent else (batch,)))
        self.loss = ((batch,) if reduction == Reduction.NONE else ()) if values else None
        self.terms = places.size if terms else None
        # One term, and one program for each sample: the program writes the loss of the sample.
        at_once = by_sample and not terms and floor == KlFloor.NONE and not any(likelihood.sums) and not per_dim
        at_once = at_once and (n == 0 or not latent) and (tiles if n else latent_tiles).pieces == 1
        self.at_once = (Parts._fields.index("nll" if n else "kl")) if at_once else None

        parts = Parts()
        if values and n and not at_once:
            parts = parts._replace(nll=batch * tiles.pieces if by_sample else likelihood.blocks)
        if latent and not at_once and ((values and (terms or bits.units is None)) or bits.of_sample):
            kl = batch * latent_tiles.pieces if latent_term.constants.BY_SAMPLE else latent_term.blocks
            parts = parts._replace(kl=kl, weighted_kl=kl if per_dim and by_sample else None)
        if bits.units is not None or (terms and places.size > places.kl_per_dim):
            parts = parts._replace(kl_per_dim=latent_term.row_blocks * latent_tiles.cols)
        if bits.units is not None:
            parts = parts._replace(dims=latent_tiles.cols, units=bits.units, cost=1)
        sizes = [size for size in (*parts, *likelihood.sums) if size is not None]
        samples = by_sample or likelihood.sums_of_samples
        at_a_time = pieces_at_once(tiles, latent_tiles) if samples else (1, 1, 1)
        dims = min(power_of_two(latent_tiles.cols), 256)
        results = Results(
            values, by_sample, at_once, reduction, likelihood.constants.LAYOUTS, *at_a_time, *bits, dims,
            min(power_of_two(bits.width or 0), 64),
        )  # fmt: skip
        rounds = batch // at_a_time[-1] * (samples and not at_once)
        if bits.units is not None:
            rounds = max(rounds, latent_term.row_blocks * latent_tiles.cols // 1024)
        finishers, adds_up = finishers_for(sum(sizes), rounds), len(sizes) > 0
        if finishers > 1:
            strips = strips_of(latent_tiles).strips * latent_tiles.cols if bits.units is not None else None
            parts = parts._replace(totals=finishers, strips=strips)
        parts = parts._replace(row=self.row.partial_sums if row else None)
        # Each begins at a multiple of 16 bytes, whatever the batch: for another alignment Triton compiles anew.
        sizes = [(i, size + size % 2) for i, size in enumerate((*parts, *likelihood.sums)) if size is not None]
        self.parts = [i for i, _ in sizes], [size for _, size in sizes]
        self.no_parts = [None] * (len(parts) + likelihood.constants.N)

        dtype = {"DTYPE": DTYPES[self.dtype]}
        shared = {"RESULTS": results, "batch": batch, **dtype}
        shared |= {"cols": 0 if likelihood.ragged else tiles.cols, "pieces": tiles.pieces}
        shared |= {"row_blocks": likelihood.row_blocks, "latent_row_blocks": latent_term.row_blocks}
        shared |= {"latent_cols": latent_tiles.cols, "latent_pieces": latent_tiles.pieces}
        shared |= {"kl_place": places.kl, "kl_per_dim_place": places.kl_per_dim}
        incoming_row = incoming.strides[0] if incoming is not None and incoming.shape else 0
        # A unit of the batch belongs to all samples: the incoming gradient of its cost is the mean of theirs.
        self.mean_incoming = bits.units is not None and incoming is not None and len(incoming.shape) > 0
        rows = likelihood.x_row, likelihood.parameter_rows, latent_term.strides
        own = {"strides": Strides(*rows, incoming_row, likelihood.weight_row)}
        own |= {"rows": None if tiles.flat else tiles.rows, "run": tiles.cols if likelihood.ragged else None}
        own |= {"x_rows": likelihood.x_rows}
        own |= {"FORMULA": likelihood.formula, "LIKELIHOOD": likelihood.constants}
        own |= {"KL": latent_term.kl, "LATENT": latent_term.constants, "FINISH": adds_up and finishers == 1}
        programs = max(likelihood.blocks + latent_term.blocks, 1)
        self.launch = Launch(elbo_kernel, programs, shared | own, _VARYING, likelihood.warps)
        self.strips = self.finish = self.close = None
        if finishers > 1:
            self.finish = finish_launch(finishers, shared | {"N": likelihood.constants.N})
            if bits.units is not None:
                self.strips = strips_launch(latent_tiles, results, {"batch": batch, **dtype})
        if bits != FreeBits() and any(wanted[n:]) and latent_tiles.rows * latent_tiles.cols > 0:
            self.close = close_launch(latent_tiles, results, dtype)

    def __call__(self, params, latent, x, incoming, weight, latent_weight, log_total, weights, grads=None):
        """Launch: [*results, *gradients]. grads: what the gradients are written into, in place of new tensors."""
        device = (params or latent)[0].device
        if self.dtype == torch.float64:
            weights = _in_float64(weights, device)
        if weights.beta is not None and weights.beta.dim() > 0:
            weights = weights._replace(beta=None, beta_per_dim=weights.beta)
        loss = terms = None
        if self.loss is not None:
            loss = torch.empty(self.loss, dtype=self.dtype, device=device)
        if self.terms is not None:
            terms = torch.empty(self.terms, dtype=self.dtype, device=device)
        if grads is None:
            grads, latent_grads = _empty(self.grads, device), _empty(self.latent_grads, device)
        else:
            given = iter(grads)
            grads, latent_grads = (
                tuple([None if g is None else next(given) for g in of]) for of in (self.grads, self.latent_grads)
            )
        parts, (places, sizes) = self.no_parts.copy(), self.parts
        if places:
            work = torch.empty(sum(sizes), dtype=torch.float64, device=device)
            for place, part in zip(places, work.split_with_sizes(sizes), strict=True):
                parts[place] = part
        if self.at_once is not None:
            parts[self.at_once] = loss
        n = len(Parts._fields)
        parts, sums, out = Parts(*parts[:n]), tuple(parts[n:]), Out(loss, terms)
        ticket = tickets.ticket(device)
        mean = incoming.mean(dtype=torch.float64) if self.mean_incoming else None
        latents, latent_grads = named(latent, latent_weight) if latent else Latents(), Latents(*latent_grads)
        parameters, written = (*params, *self.left_out), grads
        softmax = total_grad = None
        if self.row:
            softmax, total_grad, written = self.row(x, params[0], log_total, grads)
        self.launch(
            x, parameters, weight, written, latents, latent_grads, incoming, mean, weights, parts, sums, out, ticket,
            softmax or NO_ROW,
        )  # fmt: skip
        if self.strips:
            self.strips(parts, weights, ticket)
        if self.finish:
            self.finish(parts, sums, grads, out, weights, ticket)
        if self.close:
            self.close(latent_grads, parts, weights)
        if self.row:
            self.row.finish(params[0], softmax, parts.row, written, grads, total_grad)
        return [t for t in (loss, terms, *grads, *latent_grads, total_grad) if t is not None]


def _empty(grads, device):
    return tuple([
        None if g is None else torch.empty_strided(g.shape, g.strides, dtype=g.dtype, device=device) for g in grads
    ])  # fmt: skip


def _in_float64(weights, device):
    """The weights as tensors: a Python number reaches a kernel as a float32."""
    rec, rec_factor, beta, beta_factor, per_dim, nats, nats_factor, expected, expected_factor = weights
    rec, rec_factor = as_tensor(rec, rec_factor, device)
    if beta is None or beta.dim() == 0:
        beta, beta_factor = as_tensor(beta, beta_factor, device)
    nats, nats_factor = as_tensor(nats, nats_factor, device)
    expected, expected_factor = as_tensor(expected, expected_factor, device)
    return Weights(rec, rec_factor, beta, beta_factor, per_dim, nats, nats_factor, expected, expected_factor)


def as_tensor(weight, factor, device):
    if factor is None:
        return None, None
    weight = torch.full((), factor, dtype=torch.float64, device=device) if weight is None else weight.double() * factor
    return weight, 1.0
