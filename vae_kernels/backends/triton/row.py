"""The row kind: a soft-max over the elements of a sample, before and behind the launch of objective_kernel.py.

    log_mean_j = (logit_j - top) + shift,    shift = log_total - log(total),    total = sum_j e^(logit_j - top)

row_kernel finds the top and the shift of each sample. With them, elbo_kernel reads a logit as the log-mean, and leaves
partial sums of G, the sum of the derivatives by the log-means of a sample. Then row_gradients_kernel finishes the
gradients:

    d/dlogit_j = d/dlog_mean_j - share_j G,    d/dlog_total = G,    share_j = e^(logit_j - top) / total

A sample is `counted` where n, the sum of x, takes the place of the total. Then G is 0, and elbo_kernel's derivatives
are the gradients. There are two such requests:

- A formula of the row kind is the formula of its elements, with n as the total, less the value of n itself as a count
  with the mean n.
- A formula with SUM_ALIKE, where all elements of a sample have one weight, is a row of that kind, and n as a count with
  the mean e^log_total. The derivative by log_total is the `slope` of that count.

What belongs to the count n is the `number` of the sample. elbo_kernel adds the number to the first element.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ...formulas import ALL
from . import maths
from .grid import Tiles, power_of_two
from .launch import Launch
from .partial_sums import row_sums
from .tiles import load, place, row_of_x, store
from .twins import DTYPES

TILE, WARPS = 4096, 8  # elements that a program of row_kernel reads at once
TOTALS = 64  # samples of a program of row_gradients_kernel that makes no gradient of logits


class Row(NamedTuple):
    """Numbers of each sample, [B], of the compute dtype, or None. `scale` is 1 / total."""

    top: Any = None
    shift: Any = None
    scale: Any = None
    number: Any = None
    slope: Any = None


NO_ROW = Row()


@triton.jit(do_not_specialize=["rows", "x_rows"])
def row_kernel(
    x, logits, log_total, out, x_row, logits_row, total_row, rows, cols, x_rows,
    NLL: tl.constexpr, R: tl.constexpr, C: tl.constexpr, LOWEST: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """A program has R samples, and goes through their elements, C at a time."""
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    here = row < rows
    top, total = tl.full([R], LOWEST, DTYPE), tl.zeros([R], DTYPE)  # not -inf, which some logits are
    count = tl.zeros([R], tl.float64)
    for start in range(0, cols, C):
        col = start + tl.arange(0, C)
        inside = here[:, None] & (col < cols)[None, :]
        tile = tl.load(logits + place(row, logits_row, col), mask=inside, other=float("-inf"))
        top, total = maths.add_exponentials(top, total, tile.to(DTYPE))
        if NLL is not None:
            at = place(row_of_x(row, x_rows), x_row, col)
            count += tl.sum(load(x, at, inside, True, DTYPE, True), 1).to(tl.float64)
    # The shift is rounded once: beside a large total an error of its last place is one of a large derivative.
    log_sum = tl.log(total.to(tl.float64))
    if log_total is not None:
        of_row = load(log_total, row * total_row, here, True, tl.float64)
    if NLL is not None:
        n, log_n = count.to(DTYPE), tl.log(count)
        of_itself, _ = NLL(n, log_n.to(DTYPE))
        number = tl.where(n == 0.0, 0.0, -of_itself)
        if out.slope is not None:
            value, slope = NLL(n, of_row.to(DTYPE))
            absent = (n == 0.0) & (of_row == float("-inf"))
            number += tl.where(absent, 0.0, value)
            store(out.slope, row, tl.where(absent, 0.0, slope), here, True)
        of_row = log_n
        store(out.number, row, number, here, True)
    store(out.top, row, top, here, True)
    store(out.shift, row, of_row - log_sum, here, True)
    if out.scale is not None:
        store(out.scale, row, maths.reciprocal(total), here, True)


@triton.jit
def log_means(logits, softmax, index, rows, MASKED: tl.constexpr, DTYPE: tl.constexpr):
    """A tile of logits as log-means; index has the samples of the tile."""
    top = load(softmax.top, index, index < rows, MASKED, DTYPE)[:, None]
    return (logits - top) + load(softmax.shift, index, index < rows, MASKED, DTYPE)[:, None]


@triton.jit
def present(
    result, target, log_mean, softmax, index, rows, col, N: tl.constexpr, MASKED: tl.constexpr, DTYPE: tl.constexpr
):  # fmt: skip
    """The result of a formula of N parameters, and 0 where both the mean and the count are 0: there the derivatives of
    the formula may be NaN. The first element of a sample has the number of the sample."""
    absent = (target == 0.0) & (log_mean == float("-inf"))
    value = tl.where(absent, 0.0, result[0])
    if softmax.number is not None:
        number = load(softmax.number, index, index < rows, MASKED, DTYPE)
        value += tl.where((col == 0)[None, :], number[:, None], 0.0)
    parts = (value,)
    for i in tl.static_range(N):
        parts = parts + (tl.where(absent, 0.0, result[i + 1]),)
    return parts


@triton.jit
def of_log_total(derivative, softmax, index, rows, col, MASKED: tl.constexpr, DTYPE: tl.constexpr):
    """What each element adds to the derivative of its sample by log_total. derivative: by the log-means."""
    if softmax.slope is not None:
        slope = load(softmax.slope, index, index < rows, MASKED, DTYPE)
        derivative = tl.where((col == 0)[None, :], slope[:, None], 0.0)
    return derivative


@triton.jit(do_not_specialize=["rows", "pieces"])
def row_gradients_kernel(
    logits, softmax, part, derivatives, out, total_out, logits_row, rows, cols, pieces, strips,
    PIECES: tl.constexpr, R: tl.constexpr, C: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """A program has a tile of R samples and C elements. `out` may be where the derivatives are."""
    program = tl.program_id(0).to(tl.int64)
    index, strip = program // strips * R + tl.arange(0, R), program % strips
    here = index < rows
    of_total = row_sums(part, index, rows, pieces, PIECES)
    if total_out is not None:
        if strip == 0:
            store(total_out, index, of_total, here, True)
    if out is not None:
        col = strip * C + tl.arange(0, C)
        inside, at = here[:, None] & (col < cols)[None, :], place(index, cols, col)
        tile = load(logits, place(index, logits_row, col), inside, True, DTYPE)
        top = load(softmax.top, index, here, True, DTYPE)
        factor = load(softmax.scale, index, here, True, DTYPE) * of_total.to(DTYPE)
        derivative = load(derivatives, at, inside, True, DTYPE)
        store(out, at, derivative - maths.exp_or_zero(tile - top[:, None]) * factor[:, None], inside, True)


class RowTerm:
    """The soft-max of a request of the row kind, for the launches.

    x, logits, log_total: the Described of each tensor; log_total is None for a formula of the row kind. name: of the
    likelihood. term: its LikelihoodTerm. one_weight: whether all elements of a sample have one weight. wanted: whether
    the gradients of the logits and of log_total are asked for.
    """

    def __init__(self, x, logits, log_total, name, term, one_weight, wanted, dtype):
        tiles = term.tiles
        rows, cols = tiles.rows, tiles.cols
        self.rows, self.dtype = rows, dtype
        of_logits, of_total = wanted
        alike = log_total is not None and one_weight and getattr(ALL[name], "SUM_ALIKE", False)
        counted = alike or log_total is None
        self.finishes = of_logits and not counted and rows * cols > 0
        # g - share G, where g is what elbo_kernel leaves: not rounded to 16 bits
        self.wide = (rows * cols,) if self.finishes and logits.dtype.itemsize < dtype.itemsize else None
        self.partial_sums = rows * tiles.pieces if self.finishes or of_total else None
        self.total_grad = log_total.shape if of_total else None
        self.members = True, True, self.finishes, counted, alike
        c = min(power_of_two(cols), TILE)
        fixed = {"x_row": x.strides[0], "logits_row": logits.strides[0], "rows": rows, "cols": cols, "R": TILE // c}
        fixed |= {"total_row": log_total.strides[0] if log_total else 0, "C": c, "LOWEST": torch.finfo(dtype).min}
        fixed |= {"NLL": term.formula if counted else None, "x_rows": term.x_rows, "DTYPE": DTYPES[dtype]}
        programs = max(1, -(-rows * c // TILE))
        self.statistics = Launch(row_kernel, programs, fixed, ("x", "logits", "log_total", "out"), WARPS)
        self.close = None
        if self.partial_sums is None:
            return
        # without logits there is little to do for a sample but to read its partial sums
        own = Tiles(rows, cols, most_steps=1) if self.finishes else Tiles(rows, 1, tile=TOTALS, most_steps=1)
        fixed = {"logits_row": logits.strides[0], "rows": rows, "cols": cols, "pieces": tiles.pieces, "R": own.r}
        fixed |= {"strips": own.pieces, "C": own.c, "PIECES": min(power_of_two(tiles.pieces), 16)}
        fixed |= {"DTYPE": DTYPES[dtype]}
        varying = "logits", "softmax", "part", "derivatives", "out", "total_out"
        self.close = Launch(row_gradients_kernel, own.blocks, fixed, varying)

    def __call__(self, x, logits, log_total, grads):
        """The Row; a tensor for the gradient of log_total, or None; and what elbo_kernel writes in place of `grads`."""
        device = logits.device
        # each begins at a multiple of 16 bytes, whatever the batch: for another alignment Triton compiles anew
        work = iter(torch.empty((sum(self.members), -(-self.rows // 4) * 4), dtype=self.dtype, device=device))
        softmax = Row(*[next(work) if there else None for there in self.members])
        self.statistics(x, logits, log_total, softmax)
        if self.wide:
            grads = torch.empty(self.wide, dtype=self.dtype, device=device), *grads[1:]
        total_grad = self.total_grad and torch.empty(self.total_grad, dtype=self.dtype, device=device)
        return softmax, total_grad, grads

    def finish(self, logits, softmax, part, written, grads, total_grad):
        if self.close:
            self.close(logits, softmax, part, written[0], grads[0] if self.finishes else None, total_grad)
