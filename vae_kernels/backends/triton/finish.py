"""From partial sums to results: by the last program of elbo_kernel, or by a launch of its own where there are many."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .constants import NONE, PER_SAMPLE, SCALAR, SUM
from .free_bits import cost, nats_of, unit_costs
from .grid import power_of_two
from .launch import Launch
from .partial_sums import all_sum, column_sums, row_sums
from .tickets import take_ticket
from .tiles import scalar_weight, store


class Weights(NamedTuple):
    """The numbers of a request, each a factor times its 0-d tensor, if it has one. beta_per_dim is beta, one for each
    latent dimension. `nats` are those of free bits. `expected` is the incoming gradient that the gradients are for. The
    factor of what is not asked for is None."""

    rec: Any
    rec_factor: Any
    beta: Any
    beta_factor: Any
    beta_per_dim: Any = None
    nats: Any = None
    nats_factor: Any = None
    expected: Any = None
    expected_factor: Any = None


class Parts(NamedTuple):
    """Partial sums in float64. weighted_kl is the KL times beta_per_dim; totals are those of the finishing programs.
    The next four belong to free bits of the batch (free_bits.py), and `row` to row_gradients_kernel (row.py)."""

    nll: Any = None
    kl: Any = None
    weighted_kl: Any = None
    kl_per_dim: Any = None
    totals: Any = None
    strips: Any = None
    dims: Any = None
    units: Any = None
    cost: Any = None
    row: Any = None


class Out(NamedTuple):
    """The results beside the gradients. The terms are one tensor (terms.py)."""

    loss: Any
    terms: Any


class Results(NamedTuple):
    """What is compiled into the kernels about the results.

    VALUES      the loss is wanted, and not only gradients for an incoming gradient
    BY_SAMPLE   the partial sums are those of samples
    AT_ONCE     these are no partial sums: the program of a sample writes the loss of the sample
    LAYOUTS     the Layout of each parameter of the likelihood
    NLL_PIECES, KL_PIECES, ROWS   how many partial sums of a sample are added up at once, and of how many samples
    OF_SAMPLE, UNITS, WIDTH   as FreeBits
    DIMS, UNIT  how many latent dimensions are added up over the batch at once, and how many of a unit of free bits
    """

    VALUES: Any
    BY_SAMPLE: Any
    AT_ONCE: Any
    REDUCTION: Any
    LAYOUTS: Any
    NLL_PIECES: Any
    KL_PIECES: Any
    ROWS: Any
    OF_SAMPLE: Any
    UNITS: Any
    WIDTH: Any
    DIMS: Any
    UNIT: Any


@triton.jit
def finish(
    program, programs, parts, sums, grads, out, ticket, rec_weight, beta, weights,
    cols, pieces, row_blocks, batch, latent_cols, latent_pieces, latent_row_blocks, kl_place, kl_per_dim_place,
    RESULTS: tl.constexpr, N: tl.constexpr, ALONE: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """The part of this program, one of `programs` that share the samples and columns; with ALONE there is only one."""
    ROWS: tl.constexpr = RESULTS.ROWS
    # Infinite for a batch without a sample, so that 0 times it is NaN, as in torch.mean. This stands before all else: a
    # division of float64 is a call, and what is needed after a call must be kept during the call.
    share = 1.0 / (tl.zeros([], tl.float64) + batch)
    if ALONE:
        if RESULTS.UNITS is not None:
            unit_costs(
                parts.kl_per_dim, latent_row_blocks, latent_cols, share, parts, weights, RESULTS.UNITS, RESULTS.WIDTH,
                RESULTS.UNIT, RESULTS.DIMS, DTYPE,
            )  # fmt: skip
    if RESULTS.VALUES:
        total = tl.zeros([], tl.float64)
        if RESULTS.BY_SAMPLE:
            losses = tl.zeros([ROWS], tl.float64)
            for start in range(program * ROWS, batch, programs * ROWS):
                row = start + tl.arange(0, ROWS).to(tl.int64)
                loss = tl.zeros([ROWS], tl.float64)
                if parts.nll is not None:
                    nll = row_sums(parts.nll, row, batch, pieces, RESULTS.NLL_PIECES)
                    loss += rec_weight * nll
                    if out.terms is not None:
                        store(out.terms + 1, row, nll, row < batch, True)
                if parts.kl is not None:
                    kl = row_sums(parts.kl, row, batch, latent_pieces, RESULTS.KL_PIECES)
                    if out.terms is not None:
                        store(out.terms + kl_place, row, kl, row < batch, True)
                    if parts.weighted_kl is not None:
                        kl = row_sums(parts.weighted_kl, row, batch, latent_pieces, RESULTS.KL_PIECES)
                    if RESULTS.OF_SAMPLE is not None:
                        kl = cost(kl, nats_of(weights, DTYPE))
                    if RESULTS.UNITS is None:
                        loss += beta * kl
                if RESULTS.UNITS is not None:
                    loss += beta * tl.load(parts.cost, cache_modifier=".cg")
                if RESULTS.REDUCTION == NONE:
                    store(out.loss, row, loss, row < batch, True)
                losses += tl.where(row < batch, loss, 0.0)
            total += tl.sum(losses, 0)
        elif program == 0:
            if parts.nll is not None:
                total += rec_weight * all_sum(parts.nll, row_blocks * pieces, 1024)
            if RESULTS.UNITS is not None:
                total += tl.where(batch > 0, beta * tl.load(parts.cost, cache_modifier=".cg") * batch, 0.0)
            elif parts.kl is not None:
                total += beta * all_sum(parts.kl, latent_row_blocks * latent_pieces, 1024)
        if RESULTS.REDUCTION != SUM:
            total *= share
        if RESULTS.REDUCTION != NONE or out.terms is not None:
            if ALONE:
                _store_total(total, out.loss, out.terms, RESULTS.REDUCTION)
            else:
                tl.store(parts.totals + program, total)
                if take_ticket(ticket, programs):
                    _store_total(all_sum(parts.totals, programs, 1024), out.loss, out.terms, RESULTS.REDUCTION)
    for i in tl.static_range(N):
        if sums[i] is not None:
            if RESULTS.LAYOUTS[i] == SCALAR:
                if program == 0:
                    total_grad = all_sum(sums[i], row_blocks * pieces, 1024)
                    tl.store(grads[i], total_grad.to(grads[i].dtype.element_ty))
            elif RESULTS.LAYOUTS[i] == PER_SAMPLE:
                for start in range(program * ROWS, batch, programs * ROWS):
                    row = start + tl.arange(0, ROWS).to(tl.int64)
                    by_row = row_sums(sums[i], row, batch, pieces, RESULTS.NLL_PIECES)
                    store(grads[i], row, by_row, row < batch, True)
            else:
                column_sums(sums[i], grads[i], row_blocks, cols, 1.0, program, programs, 256)
    if RESULTS.VALUES:
        if parts.kl_per_dim is not None:
            if out.terms is not None:
                to = out.terms + kl_per_dim_place
                column_sums(
                    parts.kl_per_dim, to, latent_row_blocks, latent_cols, share, program, programs, RESULTS.DIMS
                )


@triton.jit
def _store_total(total, loss, terms, REDUCTION: tl.constexpr):
    if REDUCTION != NONE:
        tl.store(loss, total.to(loss.dtype.element_ty))
    if terms is not None:
        tl.store(terms, total.to(terms.dtype.element_ty))


@triton.jit(
    do_not_specialize=[
        "pieces", "row_blocks", "batch", "latent_pieces", "latent_row_blocks", "kl_place", "kl_per_dim_place",
    ]
)  # fmt: skip
def finish_kernel(
    parts, sums, ticket, out, grads, weights,
    cols, pieces, row_blocks, batch, latent_cols, latent_pieces, latent_row_blocks, kl_place, kl_per_dim_place,
    RESULTS: tl.constexpr, N: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """What the last program of elbo_kernel does, by many programs, where that is too much for one."""
    rec_weight = scalar_weight(weights.rec, weights.rec_factor, DTYPE)
    beta = scalar_weight(weights.beta, weights.beta_factor, DTYPE)
    finish(
        tl.program_id(0), tl.num_programs(0), parts, sums, grads, out, ticket, rec_weight, beta, weights,
        cols, pieces, row_blocks, batch, latent_cols, latent_pieces, latent_row_blocks, kl_place, kl_per_dim_place,
        RESULTS, N, False, DTYPE,
    )  # fmt: skip


def finish_launch(finishers, fixed):
    return Launch(finish_kernel, finishers, fixed, ("parts", "sums", "grads", "out", "weights", "ticket"))


def finishers_for(partial_sums, rounds):
    """How many programs add up: one, the last of the launch that made the sums, where a launch would take longer.
    rounds: how often a single program would wait for partial sums of samples or of latent dimensions, some 0.5 us."""
    blocks = max(partial_sums // 32768, rounds // 8)
    return 1 if blocks < 2 else min(power_of_two(max(blocks, rounds)), 256)
