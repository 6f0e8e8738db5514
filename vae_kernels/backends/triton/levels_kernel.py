"""The likelihood over levels: log-sum-exp and value of each position, and the gradient of its logits.

A program has P positions of one row, and goes through their levels L at a time: all at once, where they are not many.
Level k of position s of row b is at b logits_row + s logits_pitch + k level_pitch.

The totals lie behind the tops, at an address that depends on the batch. The kernels are compiled for any alignment of
it, so that one kernel serves all batches.
"""

import triton
import triton.language as tl

from .tiles import all_sum, load, store


@triton.jit
def _positions(positions, pieces, P: tl.constexpr):
    """The row, and its positions."""
    program = tl.program_id(0).to(tl.int64)
    return program // pieces, program % pieces * P + tl.arange(0, P)


@triton.jit
def _level_of(x, at, inside, levels):
    """[P] int32: -1 where x is no level, and outside."""
    level = tl.load(x + at, mask=inside, other=0).to(tl.int64)
    return tl.where(inside & (level >= 0) & (level < levels), level, -1).to(tl.int32)


@triton.jit(do_not_specialize_on_alignment=["total_out"])
def levels_kernel(
    x, logits, values, top_out, total_out, x_row, x_pitch, logits_row, logits_pitch, level_pitch, positions, pieces,
    levels,
    ADD: tl.constexpr, VALUE: tl.constexpr, P: tl.constexpr, L: tl.constexpr, LOWEST: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    row, s = _positions(positions, pieces, P)
    inside = s < positions
    first = row * logits_row + s * logits_pitch
    top, total = tl.full([P], LOWEST, DTYPE), tl.zeros([P], DTYPE)  # not -inf, which some logits are
    for start in range(0, levels, L):
        k = start + tl.arange(0, L).to(tl.int64)
        mask = inside[:, None] & (k < levels)[None, :]
        tile = tl.load(logits + first[:, None] + (k * level_pitch)[None, :], mask=mask, other=float("-inf"))
        top, total = ADD(top, total, tile.to(DTYPE))
    level = _level_of(x, row * x_row + s * x_pitch, inside, levels)
    logit = load(logits, first + level * level_pitch, level >= 0, True, DTYPE)
    total = tl.where(level >= 0, total, float("nan"))
    at = row * positions + s
    store(values, at, VALUE(top, total, logit), inside, True)
    store(top_out, at, top, inside, True)
    store(total_out, at, total, inside, True)


@triton.jit
def sum_kernel(values, nll, positions):
    """A row's values, added up in float64 in a fixed order."""
    row = tl.program_id(0).to(tl.int64)
    tl.store(nll + row, all_sum(values + row * positions, positions, 1024).to(nll.dtype.element_ty))


@triton.jit(do_not_specialize_on_alignment=["total_in"])
def levels_backward_kernel(
    grad, x, logits, top_in, total_in, out, grad_row, grad_pitch, x_row, x_pitch, logits_row, logits_pitch,
    level_pitch, out_row, out_pitch, positions, pieces, levels,
    SOFTMAX: tl.constexpr, RECIPROCAL: tl.constexpr, P: tl.constexpr, L: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    row, s = _positions(positions, pieces, P)
    inside = s < positions
    first, first_out = row * logits_row + s * logits_pitch, row * out_row + s * out_pitch
    weight = load(grad, row * grad_row + s * grad_pitch, inside, True, DTYPE)
    level = _level_of(x, row * x_row + s * x_pitch, inside, levels)
    at = row * positions + s
    top = load(top_in, at, inside, True, DTYPE)
    scale = weight * RECIPROCAL(tl.load(total_in + at, mask=inside, other=1.0))
    for start in range(0, levels, L):
        k = start + tl.arange(0, L)
        mask = inside[:, None] & (k < levels)[None, :]
        of_k = (k.to(tl.int64) * level_pitch)[None, :]
        tile = load(logits, first[:, None] + of_k, mask, True, DTYPE)
        value = SOFTMAX(tile, top[:, None], scale[:, None])
        value -= tl.where(level[:, None] == k[None, :], weight[:, None], 0.0)
        store(out, first_out[:, None] + of_k, value, mask, True)


def of_rows(kernel):
    """The same kernel for rows of one position, whose batch is the number of positions: one kernel for all of them."""
    return triton.jit(
        kernel.fn,
        do_not_specialize=["positions", "pieces"],
        do_not_specialize_on_alignment=["total_out" if "total_out" in kernel.arg_names else "total_in"],
    )


levels_of_rows_kernel, levels_of_rows_backward_kernel = of_rows(levels_kernel), of_rows(levels_backward_kernel)
