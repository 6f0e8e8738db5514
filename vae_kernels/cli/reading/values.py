"""Whether a likelihood takes these values. Values are never clamped, rescaled or guessed: an error says what to do."""

import numpy as np

from ...formulas import ELEMENT
from .. import UserError

COUNTS = [name for name, formula in ELEMENT.items() if formula.SUPPORT == "counts"]
FOR_COUNTS = f"--likelihood {', '.join(COUNTS[:-1])} or {COUNTS[-1]}"


def checked(values, likelihood, source):
    """`values` as uint8, float32 or signed integers, without a change of the values. UserError if `likelihood` cannot
    take the values."""
    if values.ndim < 2 or values.size == 0:
        raise UserError(
            f"{source}: has shape {values.shape}, expected rows of data: [N, D], [N, H, W] or with channels"
        )
    if len(values) < 2:
        raise UserError(f"{source}: has 1 row, expected at least 2: one to train on and one to test on")
    if values.dtype.kind not in "biuf":
        raise UserError(f"{source}: has dtype {values.dtype}, expected uint8 (0 to 255), bool or float")
    if ELEMENT[likelihood].SUPPORT == "counts":
        return _counts(values, likelihood, source)
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)  # 255 is read as 1
    if values.dtype == np.uint8:
        if values.min() == 0 and values.max() == 1:
            raise UserError(
                f"{source}: is uint8 and holds only 0 and 1, which are read as 0 and 1/255; save it as bool or float32"
            )
        return values
    return _floats(values, likelihood, source) if values.dtype.kind == "f" else _integers(values, source)


def _integers(values, source):
    """Integers are pixels or counts, and the file does not say which."""
    low, high = int(values.min()), int(values.max())
    pixels = ""
    if low >= 0 and high <= 255:
        pixels = "if these are pixels, save x.astype(np.uint8); "
    elif low >= 0 and high <= 65535:
        pixels = "if these are pixels of 16 bits, divide by 65535 and save as float32; "
    counts = f"if these are counts, take {FOR_COUNTS}; " if low >= 0 else ""
    remedy = f"{pixels}{counts}if these are numbers of another kind, save x.astype(np.float32)"
    raise UserError(
        f"{source}: has dtype {values.dtype} and values from {low} to {high}, expected uint8 (0 to 255), bool or "
        f"float; {remedy}"
    )


def _floats(values, likelihood, source):
    low, high = float(values.min()), float(values.max())  # both are NaN if a value is NaN
    support = ELEMENT[likelihood].SUPPORT
    limits = "finite" if support is None else f"in [{support[0]:g}, {support[1]:g}]"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{source}: has {_not_finite(values)}, expected {limits} for the {likelihood} likelihood")
    if support is not None and not (support[0] <= low and high <= support[1]):
        raise UserError(
            f"{source}: has values between {low:g} and {high:g}, expected {limits} for the {likelihood} likelihood; "
            + _rescale(low, high, values.ndim)
        )
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32, copy=False)
    if converted is not values and not np.isfinite(converted).all():
        raise UserError(f"{source}: has values between {low:g} and {high:g}, expected what float32 can hold")
    return converted


def _not_finite(values):
    """How many values are NaN or infinite, and where the first one is."""
    wrong = ~np.isfinite(values)
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    kind = "NaN" if np.isnan(values[first]) else "infinite"
    more = f"{wrong.sum()} of {values.size} values are not finite" if wrong.sum() > 1 else "one value is not finite"
    return f"values that are not finite: {more}, the first is {kind}, in row {first[0]} at {first[1:]}"


def _rescale(low, high, dims):
    if low >= 0 and high <= 255:
        return "if these are pixels from 0 to 255, divide by 255, or save x.astype(np.uint8) where all are whole"
    if low >= -1 and high <= 1:
        return "if these are pixels from -1 to 1, save (x + 1) / 2"
    other = "--likelihood gaussian" + (" --standardise" if dims == 2 else "")
    return f"rescale it first, or take {other}"


def _counts(values, likelihood, source):
    """Whole numbers >= 0, as the smallest signed integers that hold them; uint8 stays."""
    expected = f"expected whole counts for the {likelihood} likelihood"
    if values.dtype.kind == "f":
        if not np.isfinite(values.min() + values.max()):
            raise UserError(f"{source}: has {_not_finite(values)}, {expected}")
        broken = values != np.floor(values)
        if broken.any():
            first = tuple(int(i) for i in np.argwhere(broken)[0])
            remedy = "give raw counts, which are neither normalised nor logarithms"
            where = f"in row {first[0]} at {first[1:]}"
            raise UserError(f"{source}: has the value {float(values[first]):g} {where}, {expected}; {remedy}")
    low, high = values.min(), values.max()
    if low < 0:
        raise UserError(f"{source}: has values between {low:g} and {high:g}, {expected}")
    if values.dtype in (np.uint8, np.int16):
        return values
    if values.dtype == bool:
        return values.astype(np.uint8)
    if high > 2**31 - 1:
        raise UserError(f"{source}: has values up to {high:g}, expected counts below 2^31")
    return values.astype(np.int16 if high < 2**15 else np.int32)
