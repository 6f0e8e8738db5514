"""An fma in numpy, a b + c rounded once, for Triton's interpreter (interpreter.py)."""

from fractions import Fraction

import numpy as np
from exact import to_float64


def fma(a, b, c):
    """a b + c element by element, rounded once to nearest, in the type of c. The arrays broadcast to one another.

    The types are float16, float32 or float64. Zeros, subnormals, infinities and NaN follow IEEE 754.
    """
    arrays = np.broadcast_arrays(a, b, c)
    shape, dtype = arrays[2].shape, arrays[2].dtype
    a, b, c = (t.ravel().astype(np.float64) for t in arrays)
    with np.errstate(all="ignore"):
        # The product of two numbers of 24 bits is exact in float64. If the sum is rounded to odd, a second rounding to
        # 24 bits gives the right result, because 53 >= 24 + 2: Boldo & Melquiond 2008 (vae_kernels/core/noise.py).
        fused = fma_float64(a, b, c) if dtype == np.float64 else sum_to_odd(a * b, c)
        return fused.astype(dtype).reshape(shape)


def fma_float64(a, b, c):
    """The emulated FMA of the same paper, for arrays of one dimension.

    The method is right where no step overflows or underflows. The few other elements are computed one by one with
    fractions.
    """
    plain = a * b + c
    high, low = exact_product(a, b)
    upper, lower = exact_sum(c, low)
    upper, rest = exact_sum(high, upper)
    fused = upper + sum_to_odd(rest, lower)
    fused = np.where(fused == 0, plain, fused)  # plain has the right sign of a 0
    size = np.abs([a, b, c])
    safe = (size < 2.0**500).all(0) & ((size[:2] == 0).any(0) | (np.abs(high) > 2.0**-900))
    fused = np.where(safe, fused, plain)
    for at in np.flatnonzero(~safe & np.isfinite(size).all(0)):
        exact = Fraction(a[at]) * Fraction(b[at]) + Fraction(c[at])
        fused[at] = to_float64(exact) if exact else plain[at]
    return fused


def sum_to_odd(a, b):
    """a + b in float64, rounded to odd: an inexact sum becomes the neighbour whose last bit is 1."""
    total, error = exact_sum(a, b)
    bits = total.view(np.int64)
    even_and_inexact = (bits & 1 == 0) & (error != 0) & np.isfinite(total)
    away_from_zero = np.where(np.signbit(error) == np.signbit(total), 1, -1)
    return np.where(even_and_inexact, bits + away_from_zero, bits).view(np.float64)


def exact_sum(a, b):
    """(s, e): s is the rounded a + b, and s + e = a + b exactly (Knuth's TwoSum)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def exact_product(a, b):
    """(p, e): p is the rounded a b, and p + e = a b exactly (Dekker's product)."""
    product = a * b
    (a1, a2), (b1, b2) = halves(a), halves(b)
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def halves(a):
    """Two numbers of at most 26 bits whose sum is a (Veltkamp)."""
    scaled = a * (2.0**27 + 1)
    high = scaled - (scaled - a)
    return high, a - high
