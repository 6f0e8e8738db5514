"""The objective in one launch: the KL's programs, then those of the likelihood; the last program to end adds up. There
are further launches where there is much to add up (finish.py), and with free bits (free_bits.py).

Triton compiles a kernel anew for an integer that 16 no longer divides, and for one that becomes 1. So no integer that
depends on the batch is specialized: not `rows`, which is None where x is read as one row, and not `run`, the length of
that row, which stands in place of `cols` where 16 divides the length for some batches only. Nor `x_rows`, the number of
samples of x where the parameters have several for each of these, else None.

The order of the kernel's arguments counts. With `strides` behind `ticket`, the assembler of Triton 3.6 takes 96
registers in place of 77 for a Gaussian with a variance per feature, from the same PTX.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .constants import MEAN
from .finish import finish
from .latent import latent_tile
from .likelihood import likelihood_tiles
from .tickets import take_ticket
from .tiles import all_equal, scalar_weight


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
        "kl_per_dim_place", "x_rows",
    ]
)  # fmt: skip
def elbo_kernel(
    x, parameters, weight, grads, latents, latent_grads, strides, incoming, latent_incoming, parts, sums, ticket, out,
    weights, rows, cols, run, pieces, row_blocks, batch, latent_cols, latent_pieces, latent_row_blocks, kl_place,
    kl_per_dim_place, softmax, x_rows,
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
    factor, latent_factor = rec_weight * share, beta * share
    if weights.expected_factor is not None:
        expected = scalar_weight(weights.expected, weights.expected_factor, DTYPE)
        if incoming is None:
            factor, latent_factor = expected * factor, expected * latent_factor
        else:  # the gradients are there already, for an incoming gradient of `expected`
            if block < latent_blocks:
                R: tl.constexpr = LATENT.R
                first = block // latent_pieces * R
                as_expected = all_equal(incoming, strides.incoming, first, batch, expected, R, DTYPE)
            else:
                R: tl.constexpr = LIKELIHOOD.R
                first = (block - latent_blocks) // pieces * R
                as_expected = all_equal(
                    incoming, strides.incoming, first, 1 if rows is None else rows, expected, R, DTYPE
                )
            if as_expected:
                return
    if block < latent_blocks:
        if KL is not None:
            latent_tile(
                latents, latent_grads, parts.kl, parts.weighted_kl, parts.kl_per_dim,
                incoming if latent_incoming is None else latent_incoming, latent_factor, weights.beta_per_dim,
                strides.latents, strides.incoming if latent_incoming is None else 0, batch, latent_cols, latent_pieces,
                block, beta if RESULTS.AT_ONCE else None, KL, LATENT, DTYPE,
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
                x, parameters, weight, grads, sums, parts.nll, parts.row, incoming, factor, strides.x,
                strides.parameters, strides.weight, strides.incoming, height, cols, end, row_block, piece, block,
                pieces, rec_weight if RESULTS.AT_ONCE else None, softmax, x_rows, FORMULA, LIKELIHOOD, RESULTS.VALUES,
                RESULTS.BY_SAMPLE, False, DTYPE,
            )  # fmt: skip
        else:
            likelihood_tiles(
                x, parameters, weight, grads, sums, parts.nll, parts.row, incoming, factor, strides.x,
                strides.parameters, strides.weight, strides.incoming, height, cols, end, row_block, piece, block,
                pieces, rec_weight if RESULTS.AT_ONCE else None, softmax, x_rows, FORMULA, LIKELIHOOD, RESULTS.VALUES,
                RESULTS.BY_SAMPLE, True, DTYPE,
            )  # fmt: skip
    if FINISH:
        if take_ticket(ticket, latent_blocks + row_blocks * pieces):
            finish(
                0, 1, parts, sums, grads, out, ticket, rec_weight, beta, weights,
                cols, pieces, row_blocks, batch, latent_cols, latent_pieces, latent_row_blocks, kl_place,
                kl_per_dim_place, RESULTS, LIKELIHOOD.N, True, DTYPE,
            )  # fmt: skip
