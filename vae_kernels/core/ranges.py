"""Checks of Python numbers and flags: each raises ValueError or TypeError that names the argument."""

import sys
from numbers import Real


def number(name, value):
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Real)):  # a number of numpy is a Real
        raise TypeError(f"{name}: got {type(value).__name__}, expected a number or a tensor")
    value = value if isinstance(value, int) else float(value)
    if not -sys.float_info.max <= value <= sys.float_info.max:
        got = value if isinstance(value, float) else f"an integer of {value.bit_length()} bits"
        raise ValueError(f"{name}: got {got}, expected a finite number")


def count(name, value, least=0):
    """An integer >= least."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: got {type(value).__name__}, expected an integer")
    if value < least:
        raise ValueError(f"{name}: got {value}, expected an integer >= {least}")
    return value


def fraction(name, value, most_included=True):
    """A number in [0, 1], or in [0, 1)."""
    number(name, value)
    if not (0 <= value <= 1 if most_included else 0 <= value < 1):
        raise ValueError(f"{name}: got {value}, expected a number in [0, 1{']' if most_included else ')'}")
    return value


def positive(name, value):
    number(name, value)
    if value <= 0:
        raise ValueError(f"{name}: got {value}, expected a number > 0")
    return value


def flag(name, value):
    if not isinstance(value, bool):
        raise TypeError(f"{name}: got {type(value).__name__}, expected True or False")
