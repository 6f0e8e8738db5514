"""z = mu + exp(logvar / 2) eps and the KL of q(z|x), one kernel forward and one backward; eps is drawn again backward.

A program has a tile of R rows and C columns of the latents. With GROUPED, where the columns are a multiple of four, the
four normals of a Philox call lie side by side in a row.
"""

import triton
import triton.language as tl

from .noise import normals_of_elements, normals_of_groups
from .tiles import latent_kl, load, place, row_sums, row_weights, store, take_ticket


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
    mu, logvar, prior_mu, prior_logvar, mu_row, logvar_row, prior_mu_row, prior_logvar_row, rng, z, kl, partial, ticket,
    rows, cols, pieces, row_blocks,
    SEVERAL: tl.constexpr, SAMPLE: tl.constexpr, KL: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    GROUPED: tl.constexpr, SHARD: tl.constexpr, PIECES: tl.constexpr, BLOCK: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    block, blocks = tl.program_id(0), row_blocks * pieces  # 32 bits: a division of 64 is a call
    draw = tl.zeros([], tl.int64)
    if SEVERAL:
        draw += block // blocks
        block = block % blocks
    row = (block // pieces).to(tl.int64) * R + tl.arange(0, R)
    piece = (block % pieces).to(tl.int64)
    col = piece * C + tl.arange(0, C)
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    m = load(mu, place(row, mu_row, col), inside, True, DTYPE)
    v = load(logvar, place(row, logvar_row, col), inside, True, DTYPE)
    eps = _noise(rng, draw, rows, piece * C, row, cols, R, C, GROUPED, SHARD)
    sample, _ = SAMPLE(m, v, eps)
    store(z, place(draw * rows + row, cols, col), sample, inside, True)
    if kl is not None:
        if draw == 0:
            value, _, _, _, _ = latent_kl(
                m, v, prior_mu, prior_logvar, prior_mu_row, prior_logvar_row, row, col, inside, KL, DTYPE
            )
            sums = tl.sum(value, 1)  # what lies outside was read as 0, and has a KL of 0
            if partial is None:  # a row is one piece
                store(kl, row, sums, row < rows, True)
            else:
                tl.store(partial + row * pieces + piece, sums.to(tl.float64), mask=row < rows)
                if take_ticket(ticket, blocks):
                    for start in range(0, rows, BLOCK):
                        of = start + tl.arange(0, BLOCK).to(tl.int64)
                        store(kl, of, row_sums(partial, of, rows, pieces, PIECES), of < rows, True)


@triton.jit(do_not_specialize=["rows", "pieces", "draws"])
def sample_backward_kernel(
    mu, logvar, prior_mu, prior_logvar, mu_row, logvar_row, prior_mu_row, prior_logvar_row, rng, grad_z, grad_kl,
    grad_kl_row, g0, g1, g2, g3, grad_row, rows, cols, pieces, draws,
    SAMPLE: tl.constexpr, KL: tl.constexpr, R: tl.constexpr, C: tl.constexpr, GROUPED: tl.constexpr,
    SHARD: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    row = block // pieces * R + tl.arange(0, R)
    piece = block % pieces
    col = piece * C + tl.arange(0, C)
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    m = load(mu, place(row, mu_row, col), inside, True, DTYPE)
    v = load(logvar, place(row, logvar_row, col), inside, True, DTYPE)
    of_mu, of_logvar = tl.zeros([R, C], DTYPE), tl.zeros([R, C], DTYPE)
    of_prior_mu, of_prior_logvar = tl.zeros([R, C], DTYPE), tl.zeros([R, C], DTYPE)
    if grad_kl is not None:
        _, d0, d1, d2, d3 = latent_kl(
            m, v, prior_mu, prior_logvar, prior_mu_row, prior_logvar_row, row, col, inside, KL, DTYPE
        )
        w = row_weights(grad_kl, grad_kl_row, row, rows, 1.0, DTYPE)
        of_mu, of_logvar, of_prior_mu, of_prior_logvar = d0 * w, d1 * w, d2 * w, d3 * w
    if grad_z is not None:
        for draw in range(draws):
            eps = _noise(rng, draw, rows, piece * C, row, cols, R, C, GROUPED, SHARD)
            _, slope = SAMPLE(m, v, eps)
            g = load(grad_z, place(draw * rows + row, cols, col), inside, True, DTYPE)
            of_mu += g
            of_logvar += g * slope
    at = place(row, grad_row, col)  # mu's and logvar's may be the halves of one
    if g0 is not None:
        store(g0, at, of_mu, inside, True)
    if g1 is not None:
        store(g1, at, of_logvar, inside, True)
    at = place(row, cols, col)
    if g2 is not None:
        store(g2, at, of_prior_mu, inside, True)
    if g3 is not None:
        store(g3, at, of_prior_logvar, inside, True)
