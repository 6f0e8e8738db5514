"""Rounds exact numbers, with Python's integers only."""

import math
from fractions import Fraction


def to_float32(exact):
    """The float32 that is nearest to a Fraction, with ties to even. Subnormal numbers and overflow are right too."""
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    ulp = Fraction(2) ** max(exponent - 23, -149)
    rounded = round(size / ulp) * ulp  # Python rounds a Fraction with ties to even
    return math.copysign(float(rounded) if rounded < 2**128 else math.inf, exact)


def to_float64(exact):
    """The float64 that is nearest to a Fraction: Python rounds a division of integers once, for subnormal results
    too."""
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf
