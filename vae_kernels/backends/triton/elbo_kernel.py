"""The objective in one launch: the KL's programs, then those of the likelihood; the last of all to end adds up.

A program has a tile of R rows and C columns, and STEPS of them, side by side, or with DOWN below one another (for
gradients that are sums over rows). What it leaves are partial sums in float64: with ROWS one for each row and piece of
a row, else one for all of it.

Triton compiles a kernel anew for an integer that 16 no longer divides, and for one that becomes 1. So no integer that
depends on the batch is asked for that: `rows`, which is None where x is read as one row, and `run`, the length of that
row, which stands in place of `cols` where 16 divides it for some batches alone.
"""

import triton
import triton.language as tl

from .tiles import all_sum, column_sums, latent_kl, load, number, place, row_sums, row_weights, store, take_ticket

# LAYOUT of a parameter against x: 0 as x, 1 one row for all samples, 2 one number. REDUCTION: 0 none, 1 mean, 2 sum.


@triton.jit
def _parameter(ptr, stride, row, col, inside, in_row, LAYOUT: tl.constexpr, MASKED: tl.constexpr, DTYPE: tl.constexpr):
    if LAYOUT == 0:
        value = load(ptr, place(row, stride, col), inside, MASKED, DTYPE)
    else:
        value = tl.zeros([row.shape[0], col.shape[0]], DTYPE)
        if ptr is not None:  # else left out: 0
            value += load(ptr, col, in_row, MASKED, DTYPE)[None, :] if LAYOUT == 1 else tl.load(ptr).to(DTYPE)
    return value


@triton.jit
def _likelihood(
    x, p0, p1, p2, g0, g1, g2, x_row, p0_row, p1_row, p2_row, rows, cols, end, row_block, piece, block, pieces,
    incoming, incoming_row, weight, nll, sums1, sums2, columns1, columns2,
    FORMULA: tl.constexpr, COUNTS: tl.constexpr, N: tl.constexpr, LAYOUT1: tl.constexpr, LAYOUT2: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr, STEPS: tl.constexpr, DOWN: tl.constexpr, ROWS: tl.constexpr, VALUES: tl.constexpr,
    MASKED: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    of_nll, of_1, of_2 = tl.zeros([R, C], DTYPE), tl.zeros([R, C], DTYPE), tl.zeros([R, C], DTYPE)
    for step in range(STEPS):
        if DOWN:
            row = row_block * (R * STEPS) + step * R + tl.arange(0, R)
            col = piece * C + tl.arange(0, C)
        else:
            row = row_block * R + tl.arange(0, R)
            col = piece * (C * STEPS) + step * C + tl.arange(0, C)
        in_row = col < end
        inside = (row < rows)[:, None] & in_row[None, :]
        target = load(x, place(row, x_row, col), inside, MASKED, DTYPE, COUNTS)
        q0 = load(p0, place(row, p0_row, col), inside, MASKED, DTYPE)
        if N == 1:
            value, d0 = FORMULA(target, q0)
            d1, d2 = d0, d0
        else:
            q1 = _parameter(p1, p1_row, row, col, inside, in_row, LAYOUT1, MASKED, DTYPE)
            if N == 2:
                value, d0, d1 = FORMULA(target, q0, q1)
                d2 = d1
            else:
                q2 = _parameter(p2, p2_row, row, col, inside, in_row, LAYOUT2, MASKED, DTYPE)
                value, d0, d1, d2 = FORMULA(target, q0, q1, q2)
        if MASKED:
            value = tl.where(inside, value, 0.0)
        if DOWN and ROWS:
            tl.store(nll + row * pieces + piece, tl.sum(value, 1).to(tl.float64), mask=row < rows)
        else:
            of_nll += value
        w = row_weights(incoming, incoming_row, row, rows, weight, DTYPE)
        at = place(row, cols, col)
        if g0 is not None:
            store(g0, at, d0 * w, inside, MASKED)
        if g1 is not None:
            store(g1, at, d1 * w, inside, MASKED)
        if g2 is not None:
            store(g2, at, d2 * w, inside, MASKED)
        if sums1 is not None or columns1 is not None:
            of_1 += tl.where(inside, d1 * w, 0.0)
        if sums2 is not None or columns2 is not None:
            of_2 += tl.where(inside, d2 * w, 0.0)
    if VALUES:
        if not ROWS:
            tl.store(nll + block, tl.sum(tl.sum(of_nll, 1), 0).to(tl.float64))
        elif not DOWN:
            row = row_block * R + tl.arange(0, R)
            tl.store(nll + row * pieces + piece, tl.sum(of_nll, 1).to(tl.float64), mask=row < rows)
    if sums1 is not None:
        tl.store(sums1 + block, tl.sum(tl.sum(of_1, 1), 0).to(tl.float64))
    if sums2 is not None:
        tl.store(sums2 + block, tl.sum(tl.sum(of_2, 1), 0).to(tl.float64))
    col = piece * C + tl.arange(0, C)
    if columns1 is not None:
        tl.store(columns1 + row_block * cols + col, tl.sum(of_1, 0).to(tl.float64), mask=col < cols)
    if columns2 is not None:
        tl.store(columns2 + row_block * cols + col, tl.sum(of_2, 0).to(tl.float64), mask=col < cols)


@triton.jit
def _latent(
    q0, q1, q2, q3, h0, h1, h2, h3, q0_row, q1_row, q2_row, q3_row, rows, cols, pieces, block,
    incoming, incoming_row, weight, beta_dims, kl, weighted, columns,
    FORMULA: tl.constexpr, R: tl.constexpr, C: tl.constexpr, ROWS: tl.constexpr, VALUES: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    row_block, piece = block // pieces, block % pieces
    row, col = row_block * R + tl.arange(0, R), piece * C + tl.arange(0, C)
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    w = row_weights(incoming, incoming_row, row, rows, weight, DTYPE)
    beta = tl.full([1, C], 1.0, DTYPE)
    if beta_dims is not None:
        beta = load(beta_dims, col, col < cols, True, DTYPE)[None, :]
        w = w * beta
    first = load(q0, place(row, q0_row, col), inside, True, DTYPE)
    at = place(row, cols, col)
    if q1 is None:  # the KL itself was given
        value = first
        if h0 is not None:
            store(h0, at, w + tl.zeros([R, C], DTYPE), inside, True)
    else:
        second = load(q1, place(row, q1_row, col), inside, True, DTYPE)
        value, d0, d1, d2, d3 = latent_kl(first, second, q2, q3, q2_row, q3_row, row, col, inside, FORMULA, DTYPE)
        if h0 is not None:
            store(h0, at, d0 * w, inside, True)
        if h1 is not None:
            store(h1, at, d1 * w, inside, True)
        if h2 is not None:
            store(h2, at, d2 * w, inside, True)
        if h3 is not None:
            store(h3, at, d3 * w, inside, True)
    if VALUES:  # what lies outside was read as 0, and has a KL of 0
        if ROWS:
            at = row * pieces + piece
            tl.store(kl + at, tl.sum(value, 1).to(tl.float64), mask=row < rows)
            if weighted is not None:
                tl.store(weighted + at, tl.sum(value * beta, 1).to(tl.float64), mask=row < rows)
            if columns is not None:
                tl.store(columns + row_block * cols + col, tl.sum(value, 0).to(tl.float64), mask=col < cols)
        else:
            tl.store(kl + block, tl.sum(tl.sum(value * beta, 1), 0).to(tl.float64))


@triton.jit
def _finish(
    block, blocks, nll, kl, weighted, sums1, sums2, columns1, columns2, dims, totals, ticket,
    loss, terms, sums1_out, sums2_out, columns1_out, columns2_out,
    rec_weight, beta, pieces, row_blocks, cols, batch, kl_pieces, kl_row_blocks, latents,
    REDUCTION: tl.constexpr, ROWS: tl.constexpr, VALUES: tl.constexpr, NLL_PIECES: tl.constexpr,
    KL_PIECES: tl.constexpr, BLOCK: tl.constexpr, ALONE: tl.constexpr,
):  # fmt: skip
    """From partial sums to results. This is `block` of `blocks`, which share the rows and columns; ALONE: of one."""
    # Of no row infinite, so that 0 times it is NaN, as torch.mean has it. Before all else: a division of float64 is a
    # call, around which what is needed after it has to be kept.
    share = 1.0 / (tl.zeros([], tl.float64) + batch)
    if terms is not None:  # the loss, nll, kl, kl_per_dim
        nll_out = terms + 1
        kl_out = nll_out
        if nll is not None:
            kl_out += batch
    if VALUES:
        total = tl.zeros([], tl.float64)
        if ROWS:
            sums = tl.zeros([BLOCK], tl.float64)
            for start in range(block * BLOCK, batch, blocks * BLOCK):
                row = start + tl.arange(0, BLOCK).to(tl.int64)
                each = tl.zeros([BLOCK], tl.float64)
                if nll is not None:
                    of_nll = row_sums(nll, row, batch, pieces, NLL_PIECES)
                    each += rec_weight * of_nll
                    if terms is not None:
                        store(nll_out, row, of_nll, row < batch, True)
                if kl is not None:
                    of_kl = row_sums(kl, row, batch, kl_pieces, KL_PIECES)
                    if terms is not None:
                        store(kl_out, row, of_kl, row < batch, True)
                    if weighted is not None:
                        of_kl = row_sums(weighted, row, batch, kl_pieces, KL_PIECES)
                    each += beta * of_kl
                if REDUCTION == 0:
                    store(loss, row, each, row < batch, True)
                sums += tl.where(row < batch, each, 0.0)
            total += tl.sum(sums, 0)
        elif block == 0:
            if nll is not None:
                total += rec_weight * all_sum(nll, row_blocks * pieces, 1024)
            if kl is not None:
                total += beta * all_sum(kl, kl_row_blocks * kl_pieces, 1024)
        if REDUCTION != 2:
            total *= share
        if REDUCTION != 0 or terms is not None:
            if ALONE:
                _store_total(total, loss, terms, REDUCTION)
            else:
                tl.store(totals + block, total)
                if take_ticket(ticket, blocks):
                    _store_total(all_sum(totals, blocks, 1024), loss, terms, REDUCTION)
    if sums1 is not None:
        if block == 0:
            tl.store(sums1_out, all_sum(sums1, row_blocks * pieces, 1024).to(sums1_out.dtype.element_ty))
    if sums2 is not None:
        if block == 0:
            tl.store(sums2_out, all_sum(sums2, row_blocks * pieces, 1024).to(sums2_out.dtype.element_ty))
    if columns1 is not None:
        column_sums(columns1, columns1_out, row_blocks, cols, 1.0, block, blocks, 256)
    if columns2 is not None:
        column_sums(columns2, columns2_out, row_blocks, cols, 1.0, block, blocks, 256)
    if dims is not None:
        column_sums(dims, kl_out + batch, kl_row_blocks, latents, share, block, blocks, 256)


@triton.jit
def _store_total(total, loss, terms, REDUCTION: tl.constexpr):
    if REDUCTION != 0:
        tl.store(loss, total.to(loss.dtype.element_ty))
    if terms is not None:
        tl.store(terms, total.to(terms.dtype.element_ty))


@triton.jit(do_not_specialize=["rows", "run", "pieces", "row_blocks", "batch", "kl_pieces", "kl_row_blocks"])
def elbo_kernel(
    x, p0, p1, p2, g0, g1, g2, q0, q1, q2, q3, h0, h1, h2, h3,
    x_row, p0_row, p1_row, p2_row, q0_row, q1_row, q2_row, q3_row, incoming, incoming_row,
    nll, kl, weighted, sums1, sums2, columns1, columns2, dims, totals, ticket,
    loss, terms, sums1_out, sums2_out, columns1_out, columns2_out,
    rec_weight, rec_weight_factor, beta, beta_factor, beta_dims,
    rows, cols, run, pieces, row_blocks, batch, latents, kl_pieces, kl_row_blocks,
    FORMULA: tl.constexpr, COUNTS: tl.constexpr, N: tl.constexpr, LAYOUT1: tl.constexpr, LAYOUT2: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr, STEPS: tl.constexpr, DOWN: tl.constexpr, KL: tl.constexpr, KL_R: tl.constexpr,
    KL_C: tl.constexpr, ROWS: tl.constexpr, VALUES: tl.constexpr, REDUCTION: tl.constexpr, NLL_PIECES: tl.constexpr,
    KL_PIECES: tl.constexpr, BLOCK: tl.constexpr, FINISH: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    kl_blocks = kl_row_blocks * kl_pieces
    rec, of_kl = number(rec_weight, rec_weight_factor, DTYPE), number(beta, beta_factor, DTYPE)
    share = tl.full([], 1.0, DTYPE)
    if REDUCTION == 1:
        share = share / (tl.zeros([], DTYPE) + tl.maximum(batch, 1))
    if block < kl_blocks:
        if KL is not None:
            _latent(
                q0, q1, q2, q3, h0, h1, h2, h3, q0_row, q1_row, q2_row, q3_row, batch, latents, kl_pieces, block,
                incoming, incoming_row, of_kl * share, beta_dims, kl, weighted, dims,
                KL, KL_R, KL_C, ROWS, VALUES, DTYPE,
            )  # fmt: skip
    elif FORMULA is not None:
        block -= kl_blocks
        row_block, piece = block // pieces, block % pieces
        height = 1 if rows is None else rows
        end = cols if run is None else run
        if DOWN:
            full = (row_block + 1) * (R * STEPS) <= height and (piece + 1) * C <= end
        else:
            full = (row_block + 1) * R <= height and (piece + 1) * (C * STEPS) <= end
        if full:
            _likelihood(
                x, p0, p1, p2, g0, g1, g2, x_row, p0_row, p1_row, p2_row, height, cols, end, row_block, piece, block,
                pieces, incoming, incoming_row, rec * share, nll, sums1, sums2, columns1, columns2,
                FORMULA, COUNTS, N, LAYOUT1, LAYOUT2, R, C, STEPS, DOWN, ROWS, VALUES, False, DTYPE,
            )  # fmt: skip
        else:
            _likelihood(
                x, p0, p1, p2, g0, g1, g2, x_row, p0_row, p1_row, p2_row, height, cols, end, row_block, piece, block,
                pieces, incoming, incoming_row, rec * share, nll, sums1, sums2, columns1, columns2,
                FORMULA, COUNTS, N, LAYOUT1, LAYOUT2, R, C, STEPS, DOWN, ROWS, VALUES, True, DTYPE,
            )  # fmt: skip
    if FINISH:
        if take_ticket(ticket, kl_blocks + row_blocks * pieces):
            _finish(
                0, 1, nll, kl, weighted, sums1, sums2, columns1, columns2, dims, totals, ticket,
                loss, terms, sums1_out, sums2_out, columns1_out, columns2_out,
                rec, of_kl, pieces, row_blocks, cols, batch, kl_pieces, kl_row_blocks, latents,
                REDUCTION, ROWS, VALUES, NLL_PIECES, KL_PIECES, BLOCK, True,
            )  # fmt: skip


@triton.jit(do_not_specialize=["pieces", "row_blocks", "batch", "kl_pieces", "kl_row_blocks"])
def finish_kernel(
    nll, kl, weighted, sums1, sums2, columns1, columns2, dims, totals, ticket,
    loss, terms, sums1_out, sums2_out, columns1_out, columns2_out,
    rec_weight, rec_weight_factor, beta, beta_factor,
    cols, pieces, row_blocks, batch, latents, kl_pieces, kl_row_blocks,
    ROWS: tl.constexpr, VALUES: tl.constexpr, REDUCTION: tl.constexpr, NLL_PIECES: tl.constexpr,
    KL_PIECES: tl.constexpr, BLOCK: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """What the last program does, by many, where that is too much for one."""
    rec, of_kl = number(rec_weight, rec_weight_factor, DTYPE), number(beta, beta_factor, DTYPE)
    _finish(
        tl.program_id(0), tl.num_programs(0), nll, kl, weighted, sums1, sums2, columns1, columns2, dims, totals, ticket,
        loss, terms, sums1_out, sums2_out, columns1_out, columns2_out,
        rec, of_kl, pieces, row_blocks, cols, batch, kl_pieces, kl_row_blocks, latents,
        REDUCTION, ROWS, VALUES, NLL_PIECES, KL_PIECES, BLOCK, False,
    )  # fmt: skip
