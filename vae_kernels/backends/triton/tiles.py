"""What the kernels share: reading a tile in the compute type, and adding up what the programs left behind.

A matrix has rows (samples) and columns; row r begins `stride` elements after row r - 1; stride 0 repeats one row for
all. Addresses are int64. MASKED=False is the path of a tile that lies wholly inside: no mask, so that loads and stores
are 128 bits wide whatever the number of columns is.
"""

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def place(row, stride, col):
    """Offsets [R, C] of rows [R] (int64) and columns [C]."""
    return (row * stride)[:, None] + col[None, :]


@triton.jit
def load(ptr, at, mask, MASKED: tl.constexpr, DTYPE: tl.constexpr, COUNTS: tl.constexpr = False):
    value = tl.load(ptr + at, mask=mask, other=0) if MASKED else tl.load(ptr + at)
    if ptr.dtype.element_ty == tl.uint8 and not COUNTS:  # levels: x / 255
        return value.to(DTYPE) * 0.00392156862745098
    else:
        return value.to(DTYPE)


@triton.jit
def _narrow(value, DTYPE: tl.constexpr):
    if INTERPRETED and tl.bfloat16 == DTYPE:  # a GPU rounds to nearest; the interpreter of Triton 3.9 cuts off
        bits = value.to(tl.float32).to(tl.uint32, bitcast=True)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return value.to(DTYPE)


@triton.jit
def store(ptr, at, value, mask, MASKED: tl.constexpr):
    value = _narrow(value, ptr.dtype.element_ty)
    if MASKED:
        tl.store(ptr + at, value, mask=mask)
    else:
        tl.store(ptr + at, value)


@triton.jit
def row_weights(incoming, incoming_stride, row, rows, weight, DTYPE: tl.constexpr):
    """[R, 1]: the incoming gradient of each row, 1 where there is none, times the weight (a scalar)."""
    ones = (row * 0 + 1).to(DTYPE)
    if incoming is None:
        return (ones * weight)[:, None]
    else:
        read = tl.load(incoming + row * incoming_stride, mask=row < rows, other=0)
        return (read.to(DTYPE) * weight)[:, None]


@triton.jit
def number(ptr, factor, DTYPE: tl.constexpr):
    """A weight: the 0-d tensor, where there is one, times the factor."""
    if ptr is None:
        return tl.full([], 1.0, DTYPE) * factor
    else:
        return tl.load(ptr).to(DTYPE) * factor


@triton.jit
def latent_kl(
    mu, logvar, prior_mu, prior_logvar, prior_mu_row, prior_logvar_row, row, col, inside,
    KL: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """The KL of tiles mu and logvar to a prior that is read here, None for N(0, 1); and its derivatives by all four."""
    if prior_mu is None:
        value, d0, d1, d2, d3 = KL(mu, logvar, None, None)
    else:
        third = load(prior_mu, place(row, prior_mu_row, col), inside, True, DTYPE)
        fourth = load(prior_logvar, place(row, prior_logvar_row, col), inside, True, DTYPE)
        value, d0, d1, d2, d3 = KL(mu, logvar, third, fourth)
    return value, d0, d1, d2, d3


# ---------------------------------------------------------------- sums of float64 partial sums, in a fixed order


@triton.jit
def take_ticket(ticket, blocks):
    """True for the last of the launch's programs to come here; it finds what all the others have stored."""
    tl.debug_barrier()  # all of this program's stores are before its ticket
    last = tl.atomic_add(ticket, 1, sem="acq_rel") == blocks - 1
    if last:
        tl.store(ticket, 0)  # for the next launch, or the next replay of a graph
    return last


@triton.jit
def row_sums(part, row, rows, pieces, PIECES: tl.constexpr):
    """[R]: the sums of the rows' `pieces` partial sums."""
    total = tl.zeros([row.shape[0], PIECES], tl.float64)
    for start in range(0, pieces, PIECES):
        piece = start + tl.arange(0, PIECES)
        inside = (row < rows)[:, None] & (piece < pieces)[None, :]
        total += tl.load(part + place(row, pieces, piece), mask=inside, other=0.0, cache_modifier=".cg")
    return tl.sum(total, 1)


@triton.jit
def all_sum(part, n, BLOCK: tl.constexpr):
    """The sum of n partial sums, a scalar."""
    total = tl.zeros([BLOCK], tl.float64)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        total += tl.load(part + i, mask=i < n, other=0.0, cache_modifier=".cg")
    return tl.sum(total, 0)


@triton.jit
def column_sums(part, out, row_blocks, cols, factor, block, blocks, BLOCK: tl.constexpr):
    """out [cols]: the factor times the sums over row_blocks of part [row_blocks, cols]; of this block's columns."""
    for start in range(block * BLOCK, cols, blocks * BLOCK):
        col = start + tl.arange(0, BLOCK).to(tl.int64)
        total = tl.zeros([BLOCK], tl.float64)
        at = col
        for _ in range(row_blocks):
            total += tl.load(part + at, mask=col < cols, other=0.0, cache_modifier=".cg")
            at += cols
        tl.store(out + col, (total * factor).to(out.dtype.element_ty), mask=col < cols)
