"""Rounding of exact numbers, in Python's integers alone."""

import math
from fractions import Fraction


def to_float32(exact):
    """The float32 nearest to a Fraction, ties to even, subnormals and overflow included."""
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    ulp = Fraction(2) ** max(exponent - 23, -149)
    rounded = round(size / ulp) * ulp  # Python rounds a Fraction's ties to even
    return math.copysign(float(rounded) if rounded < 2**128 else math.inf, exact)


def to_float64(exact):
    """The float64 nearest to a Fraction: Python's division of integers is rounded once, subnormals included."""
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf
