"""Free bits: a unit of the KL costs at least so many nats, and has no gradient below that (core/penalty.py).

The programs of elbo_kernel compute gradients as if there were no free bits, since no program knows the KL of a unit.
When the launch has ended, close_kernel writes 0 to the gradients of the units below the floor. It finds the KL of a
sample among the partial sums. A unit of the batch is `width` latent dimensions side by side, and its KL is a mean over
all samples. unit_costs computes these means: in the last program of elbo_kernel or, where there is more to add up, in
the last program of strips_kernel.
"""

import math
from typing import Any, NamedTuple

import triton
import triton.language as tl

from ...core.objective import KlFloor
from .grid import power_of_two
from .launch import Launch
from .partial_sums import column_sums, row_sums
from .tickets import take_ticket
from .tiles import place, scalar_weight


@triton.jit
def nats_of(weights, DTYPE: tl.constexpr):
    return scalar_weight(weights.nats, weights.nats_factor, DTYPE).to(tl.float64)


@triton.jit
def cost(kl, nats):
    """What units with this KL cost. A NaN costs NaN."""
    return tl.where(kl <= nats, nats, kl)


@triton.jit
def unit_costs(
    sums, row_blocks, cols, share, parts, weights,
    UNITS: tl.constexpr, WIDTH: tl.constexpr, AT_ONCE: tl.constexpr, DIMS: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """By one program: the KL of each unit, and what all units cost together. The mean of the KL of a latent dimension
    is share times the sum of its column of `sums`, [row_blocks, cols]."""
    column_sums(sums, parts.dims, row_blocks, cols, share, 0, 1, DIMS)
    tl.debug_barrier()
    nats = nats_of(weights, DTYPE)
    ROWS: tl.constexpr = 256 // AT_ONCE
    costs = tl.zeros([ROWS], tl.float64)
    for start in range(0, UNITS, ROWS):
        unit = start + tl.arange(0, ROWS)
        kl = row_sums(parts.dims, unit, UNITS, WIDTH, AT_ONCE)
        tl.store(parts.units + unit, kl, mask=unit < UNITS)
        costs += tl.where(unit < UNITS, cost(kl, nats), 0.0)
    tl.store(parts.cost, tl.sum(costs, 0))
    tl.debug_barrier()


@triton.jit(do_not_specialize=["row_blocks", "height", "strips", "batch"])
def strips_kernel(
    parts, weights, ticket, row_blocks, cols, height, strips, batch,
    UNITS: tl.constexpr, WIDTH: tl.constexpr, AT_ONCE: tl.constexpr, DIMS: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Adds up the partial sums of strips, each of `height` row blocks. The last program adds up the strips."""
    share = 1.0 / (tl.zeros([], tl.float64) + batch)
    programs = tl.num_programs(0)
    strip, block = tl.program_id(0).to(tl.int64) % strips, tl.program_id(0) // strips
    first = strip * height
    column_sums(
        parts.kl_per_dim + first * cols, parts.strips + strip * cols, tl.minimum(row_blocks - first, height), cols,
        1.0, block, programs // strips, DIMS,
    )  # fmt: skip
    if take_ticket(ticket, programs):
        unit_costs(parts.strips, strips, cols, share, parts, weights, UNITS, WIDTH, AT_ONCE, DIMS, DTYPE)


@triton.jit(do_not_specialize=["rows", "pieces"])
def close_kernel(
    grads, parts, weights, rows, cols, pieces,
    R: tl.constexpr, C: tl.constexpr, WIDTH: tl.constexpr, PIECES: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Writes 0 to the gradients of the units below the floor. WIDTH is None where a sample is a unit."""
    block = tl.program_id(0).to(tl.int64)
    row, col = block // pieces * R + tl.arange(0, R), block % pieces * C + tl.arange(0, C)
    if WIDTH is None:
        kl = row_sums(parts.kl, row, rows, pieces, PIECES)[:, None]
    else:
        kl = tl.load(parts.units + col // WIDTH, mask=col < cols, other=0.0)[None, :]
    closed = (kl <= nats_of(weights, DTYPE)) & (row < rows)[:, None] & (col < cols)[None, :]
    at, zeros = place(row, cols, col), tl.zeros([R, C], DTYPE)
    for i in tl.static_range(5):
        if grads[i] is not None:
            tl.store(grads[i] + at, zeros.to(grads[i].dtype.element_ty), mask=closed)


class FreeBits(NamedTuple):
    """The units of a request: whether a sample is a unit; or how many units of the batch there are, and how many latent
    dimensions one has. Without free bits all are None."""

    of_sample: Any = None
    units: Any = None
    width: Any = None


def free_bits(floor, latent):
    """The FreeBits of a request. floor: a number of KlFloor; latent: the shape of the latents."""
    if floor == KlFloor.NONE:
        return FreeBits()
    if floor == KlFloor.PER_SAMPLE:
        return FreeBits(of_sample=True)
    dims = latent[1:]
    split = {KlFloor.PER_DIM: len(dims), KlFloor.PER_GROUP: 1, KlFloor.PER_BATCH_MEAN: 0}[floor]
    return FreeBits(units=math.prod(dims[:split]), width=math.prod(dims[split:]))


class Strips(NamedTuple):
    """The strips of the partial sums of a batch, and the programs that add up one strip."""

    height: Any
    strips: Any
    programs: Any


def strips_of(tiles):
    """The Strips of the latents' tiles: about as many as each has row blocks."""
    height = power_of_two(math.isqrt(tiles.row_blocks))
    return Strips(height, -(-tiles.row_blocks // height), max(1, -(-tiles.cols // 256)))


def strips_launch(tiles, results, shared):
    height, strips, programs = strips_of(tiles)
    fixed = {"row_blocks": tiles.row_blocks, "cols": tiles.cols, "height": height, "strips": strips}
    fixed |= {"UNITS": results.UNITS, "WIDTH": results.WIDTH, "AT_ONCE": results.UNIT, "DIMS": results.DIMS}
    return Launch(strips_kernel, strips * programs, fixed | shared, ("parts", "weights", "ticket"))


def close_launch(tiles, results, dtype):
    fixed = {"rows": tiles.rows, "cols": tiles.cols, "pieces": tiles.pieces, "R": tiles.r, "C": tiles.c}
    fixed |= {"WIDTH": results.WIDTH, "PIECES": min(power_of_two(tiles.pieces), 64)}
    return Launch(close_kernel, tiles.blocks, fixed | dtype, ("grads", "parts", "weights"))
