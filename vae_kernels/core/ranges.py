"""Checks of Python numbers and flags: each raises ValueError or TypeError that names the argument."""

import sys
from collections.abc import Iterator
from numbers import Real
from typing import Any

import torch


def number(name, value):
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Real)):  # a number of numpy is a Real
        raise TypeError(f"{name}: got {type(value).__name__}, expected a number or a tensor")
    value = value if isinstance(value, int) else float(value)
    if not -sys.float_info.max <= value <= sys.float_info.max:
        got = value if isinstance(value, float) else f"an integer of {value.bit_length()} bits"
        raise ValueError(f"{name}: got {got}, expected a finite number")


def held(name, value, dtype):
    """A number that a tensor of this dtype holds."""
    number(name, value)
    if abs(value) > torch.finfo(dtype).max:
        raise ValueError(f"{name}: got {value}, expected a number that {dtype} holds")


def count(name: str, value: Any, least: int = 0) -> int:
    """An integer >= least."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: got {type(value).__name__}, expected an integer")
    if not least <= value < 2**63:
        got = value if abs(value) < 2**63 else f"an integer of {value.bit_length()} bits"
        raise ValueError(f"{name}: got {got}, expected an integer >= {least}{'' if value < least else ' and < 2^63'}")
    return value


def ints(name: str, values: Any, expected: str, one: bool = False) -> tuple[int, ...]:
    """A tuple of positive integers below 2^31, such as a shape. one: a single integer is a tuple of one."""
    values = (values,) if one and isinstance(values, int) else values
    if not isinstance(values, (tuple, list, range)):
        values = tuple(values) if isinstance(values, Iterator) else values
        if not isinstance(values, tuple):
            raise TypeError(f"{name}: got {_shown(values)}, expected {expected}")
    values = tuple(values)
    if any(isinstance(v, bool) or not isinstance(v, int) or not 1 <= v < 2**31 for v in values):
        raise ValueError(f"{name}: got ({', '.join(map(_shown, values))}), expected {expected}")
    return values


def _shown(value):
    plain = isinstance(value, (float, complex, str, bytes)) or (isinstance(value, int) and abs(value) < 2**63)
    return repr(value) if plain else type(value).__name__


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
