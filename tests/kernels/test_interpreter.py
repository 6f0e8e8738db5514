"""tl.fma in Triton's interpreter rounds a b + c once, whichever Triton is installed (support/interpreter.py)."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from exact import to_float32, to_float64
from fused import fma
from known import BACKENDS

DTYPES = {np.float32: (to_float32, np.uint32, 24, -149), np.float64: (to_float64, np.uint64, 53, -1074)}


def in_triton(a, b, c):
    """tl.fma of three arrays [n] in the interpreter."""
    if "triton" not in BACKENDS:
        pytest.skip("triton's interpreter cannot be run here")
    triton = pytest.importorskip("triton")
    import triton.language as tl

    def kernel(a, b, c, out, N: tl.constexpr):
        at = tl.arange(0, N)
        tl.store(out + at, tl.fma(tl.load(a + at), tl.load(b + at), tl.load(c + at)))

    inputs = [torch.from_numpy(np.array(t)) for t in (a, b, c)]
    out = torch.empty_like(inputs[0])
    triton.jit(kernel)[(1,)](*inputs, out, len(out))
    return out.numpy()


@pytest.fixture(params=[fma, in_triton], ids=["fused.py", "triton"])
def fused(request):
    return request.param


@pytest.fixture(params=DTYPES, ids=["float32", "float64"])
def dtype(request):
    return request.param


def check(fused, *inputs):
    """Compares the results, which are finite, with the exact values bit by bit, and returns the exact values."""
    inputs = [t[: len(inputs[0]) // 64 * 64] for t in inputs]
    ours = np.concatenate([fused(*parts) for parts in zip(*(np.split(t, len(t) // 64) for t in inputs), strict=True)])
    to_float, bits, *_ = DTYPES[ours.dtype.type]
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(*inputs, strict=True)]
    with np.errstate(all="ignore"):
        zeros = inputs[0] * inputs[1] + inputs[2]  # where the exact result is 0, IEEE arithmetic gives its sign
    expected = np.array([to_float(e) if e else z for e, z in zip(exact, zeros, strict=True)], ours.dtype)
    np.testing.assert_array_equal(ours.view(bits), expected.view(bits))
    return exact


def test_any_bits(fused, dtype):
    bits = DTYPES[dtype][1]
    a, b, c = np.random.default_rng(0).integers(0, 2 ** (8 * bits().nbytes), (3, 2048), dtype=bits).view(dtype)
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    check(fused, a[finite], b[finite], c[finite])


@pytest.mark.parametrize("gap", [0, 1, 23, 24, 26, 52, 53, 54, 60, 106, 110])
def test_product_and_addend_of_like_size(fused, dtype, gap):
    rng = np.random.default_rng(gap)
    a, b, c = (rng.uniform(1, 2, (3, 64)) * rng.choice([-1, 1], (3, 64))).astype(dtype)
    scale = dtype(2.0**-gap)
    check(fused, a, b, c * scale)
    check(fused, a, b, c / scale)
    check(fused, a, b, -(a * b))  # the exact result is the rounding error of the product


def test_rounding_twice_is_seen(fused, dtype):
    """a b + c is so near the midpoint of two neighbouring numbers that a sum in a wider type rounds it to the midpoint.
    An fma that rounds twice then gives the wrong neighbour."""
    digits = DTYPES[dtype][2]
    k = np.arange(1, 65)
    a = (1 + k * 2.0 ** (1 - digits)).astype(dtype)  # a b = 1 - k^2 2^(2 - 2 digits), just below 1
    b = (1 - k * 2.0 ** (1 - digits)).astype(dtype)
    c = (2.0**digits + 2.0 * (k % 7)).astype(dtype)  # here two neighbouring numbers differ by 2
    exact = check(fused, a, b, c)
    assert all(e.denominator > 1 for e in exact)
    check(fused, a, -b, -c)


def test_subnormal_and_huge(fused, dtype):
    lowest = DTYPES[dtype][3]
    rng = np.random.default_rng(1)
    root, sizes = 2.0 ** (lowest / 2), 2.0 ** rng.integers(lowest + 1, lowest + 40, 128)
    a, b = (rng.uniform(-1, 1, (2, 128)) * root * 2.0 ** rng.integers(-3, 12, (2, 128))).astype(dtype)
    c = (rng.uniform(-1, 1, 128) * sizes).astype(dtype)
    smallest = Fraction(float(np.finfo(dtype).tiny))
    assert sum(0 < abs(e) < smallest for e in check(fused, a, b, c)) > 20
    largest = np.full(64, np.finfo(dtype).max, dtype)
    one = np.linspace(1, 1.0001, 64).astype(dtype)
    check(fused, largest, -one, largest)
    check(fused, largest, one, largest)  # the result is infinite
    check(fused, largest, one, -largest)
    check(fused, largest, one + 1, -largest)  # the product is infinite, but the result is finite


def test_zeros_infinities_and_nan(fused, dtype):
    values = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], dtype)
    grid = [g.ravel() for g in np.meshgrid(values, values, values)]
    grid = [np.concatenate([g, np.zeros(512 - len(g), dtype)]) for g in grid]
    with np.errstate(all="ignore"):
        expected = grid[0] * grid[1] + grid[2]  # with these values nothing is rounded
    ours = fused(*grid)
    np.testing.assert_array_equal(ours, expected)
    assert (np.signbit(ours) == np.signbit(expected))[~np.isnan(expected)].all()
