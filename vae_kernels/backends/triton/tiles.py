"""How the kernels read and write a tile. The kernels compute in DTYPE, whatever the type of the tensor is.

A matrix has rows (samples) and columns. Row r begins `stride` elements after row r - 1; a stride of 0 repeats one row
for all samples. Addresses are int64. MASKED=False is for a tile that lies inside the matrix: without a mask, loads and
stores are 128 bits wide for any number of columns.
"""

import triton
import triton.language as tl

from .constants import FULL, PER_FEATURE, PER_SAMPLE

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def place(row, stride, col):
    """Offsets [R, C] of rows [R] (int64) and columns [C]."""
    return (row * stride)[:, None] + col[None, :]


@triton.jit
def row_of_x(row, x_rows):
    """The rows of x, and of a weight of x, that stand beside these rows of the parameters. x_rows: how many rows x has.
    They are repeated in their order (core/draws.py). None: x has as many rows as the parameters."""
    if x_rows is None:
        return row
    else:
        return row % x_rows


@triton.jit
def divided_by_255(k):
    """k / 255 for a byte k, rounded once: 1 / 255 is the sum of two numbers of k's type. That takes one instruction
    less than csrc/scalar.h, which must also be right where there is no fma."""
    if k.dtype == tl.float64:
        return tl.fma(k, 0.00392156862745098, k * 5.442269728554689e-20)
    else:
        return tl.fma(k, 0.003921568859368563, k * -2.319175823606301e-10)


@triton.jit
def load(ptr, at, mask, MASKED: tl.constexpr, DTYPE: tl.constexpr, COUNTS: tl.constexpr = False):
    """What lies outside the mask is read as 0. An unsigned byte k is read as k / 255, unless it is a count."""
    value = tl.load(ptr + at, mask=mask, other=0) if MASKED else tl.load(ptr + at)
    if ptr.dtype.element_ty == tl.uint8 and not COUNTS:
        return divided_by_255(value.to(DTYPE))
    else:
        return value.to(DTYPE)


@triton.jit
def load_against(ptr, stride, row, col, rows, end, LAYOUT: tl.constexpr, MASKED: tl.constexpr, DTYPE: tl.constexpr):
    """A parameter or a weight in one of the Layouts, for the tile of these rows and columns. The result broadcasts to
    the tile. A mask of bool is not converted."""
    TYPE: tl.constexpr = tl.int1 if ptr.dtype.element_ty == tl.int1 else DTYPE
    if LAYOUT == FULL:
        inside = (row < rows)[:, None] & (col < end)[None, :]
        return load(ptr, place(row, stride, col), inside, MASKED, TYPE)
    elif LAYOUT == PER_FEATURE:
        return load(ptr, col, col < end, MASKED, TYPE)[None, :]
    elif LAYOUT == PER_SAMPLE:
        return load(ptr, row * stride, row < rows, MASKED, TYPE)[:, None]
    else:
        return tl.load(ptr).to(TYPE)


@triton.jit
def weighted(value, weight):
    """The value times its weight, and exactly 0 where the weight is 0, even if the value is NaN. Without a weight
    (None) the value itself."""
    if weight is None:
        return value
    elif weight.dtype == tl.int1:
        return tl.where(weight, value, 0.0)
    else:
        return tl.where(weight != 0.0, value * weight, 0.0)


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
    """[R, 1]: the incoming gradient of each row times the weight (a scalar). Without an incoming gradient it is 1."""
    ones = (row * 0 + 1).to(DTYPE)
    if incoming is None:
        return (ones * weight)[:, None]
    else:
        read = tl.load(incoming + row * incoming_stride, mask=row < rows, other=0)
        return (read.to(DTYPE) * weight)[:, None]


@triton.jit
def all_equal(incoming, incoming_stride, first, rows, value, R: tl.constexpr, DTYPE: tl.constexpr):
    """Whether the incoming gradients of R rows, or of those that there are, all equal the value."""
    row = first + tl.arange(0, R)
    read = tl.load(incoming + row * incoming_stride, mask=row < rows, other=0).to(DTYPE)
    return tl.sum(((read != value) & (row < rows)).to(tl.int32), 0) == 0


@triton.jit
def scalar_weight(ptr, factor, DTYPE: tl.constexpr):
    """The weight of a term: the factor, times the 0-d tensor if there is one."""
    if ptr is None:
        return tl.full([], 1.0, DTYPE) * factor
    else:
        return tl.load(ptr).to(DTYPE) * factor
