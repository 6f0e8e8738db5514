"""Explains the weight of a term by sizes: of the batch, of x, of the latents, and of their axes.

    weight = own / ( the sizes that the loss measures * a constant of the loss that equals a size )

A size that the loss measures, as mean() does, is known from calls with other sizes. A constant is only a number. A
constant such as 1 / 784 must come from a size. A round constant such as 0.05 may also be a weight that somebody chose.
"""

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

from .fit import CLOSE

EXACT = 1e-5  # relative: for a constant, which has more digits than a weight that is measured in float32
ROUND = 2  # a number with so many digits may be a weight that somebody chose
NOUNS = {"x": "elements", "mu": "latent dims"}


class Size(NamedTuple):
    """A number that a constant of the loss may be: a size, or the size of the batch times another size."""

    number: int
    name: str  # of the number without the batch size; "" if it is the batch size alone
    batch: int = 0  # the power of the batch size in the number
    of_batch: str = ""  # the name of the batch size
    whole: bool = False  # whether the number is the size of the batch, of x or of the latents


NONE = Size(1, "")


@dataclass(frozen=True)
class Explanation:
    """Why a term has its weight.

    own       the factor that no size explains
    power     that of the batch size, as measured or as assumed
    averaged  the axes that were not measured, and that a mean explains
    constant  divides the term, or multiplies the term if `divides` is -1
    half      whether a factor 1/2 is missing
    doubt     a sentence about a round weight that equals a size
    unless    the end of the sentence that the weight lacks the batch size, if the weight may have it as a constant
    """

    own: float
    power: int
    averaged: tuple = ()
    constant: Size = NONE
    divides: int = 1
    half: bool = False
    doubt: str = ""
    unless: str = ""


@dataclass(frozen=True)
class Weight:
    """A weight of the sum over the axes of x or of mu, and what is measured of it."""

    value: float
    of: str  # "x" or "mu"
    batch: int  # the size of the batch
    shapes: dict  # {"x": the shape of x, "mu": the shape of mu}
    powers: dict  # {axis: the measured power of its size, or None}
    batch_powers: tuple  # the power of the batch size, or the powers to try, the likeliest first
    other_batch: int | None  # the power of the batch size in the other term
    halves: bool  # whether a factor 1/2 may be missing

    @property
    def sizes(self):
        """{axis: size} of every axis that is longer than 1."""
        return {(of, k): n for of, shape in self.shapes.items() for k, n in enumerate(shape) if k and n > 1}

    @property
    def lacks_batch(self):
        """Whether the other term is divided by the batch size, and this one is not."""
        return len(self.batch_powers) == 1 and self.other_batch not in (None, self.batch_powers[0])


def explain(weight):
    """The simplest Explanation of a Weight."""
    sizes, powers = weight.sizes, weight.powers
    rest = abs(weight.value) * math.prod(float(sizes[axis]) ** (p or 0) for axis, p in powers.items())
    unknown = [axis for axis in sizes if axis[0] == weight.of and powers[axis] is None]
    averages = [some for n in range(len(unknown) + 1) for some in itertools.combinations(unknown, n)]
    averages.sort(key=lambda some: len(some) not in (0, len(unknown)))  # a mean over all axes before one over a few
    constants = [(c, divides) for c in _constants(weight) for divides in (1, -1)]
    power = weight.batch_powers[0]
    fills = [(c, divides) for c, divides in constants if _fills(weight, c, divides, power)]
    alone = [(c, divides) for c, divides in fills if not c.name]
    own = rest * float(weight.batch) ** power
    doubt = ""
    for some, fewer in (([(NONE, 1), *alone], 1), (fills, 3), ([(NONE, 1), *constants], 3)):
        found, why = _whole(weight, rest, some, averages)
        found = found or _beside_own(weight, own, some, averages, fewer)
        if found is not None:
            return found
        doubt = doubt or why
    return Explanation(own, power, doubt=doubt, unless=_unless(weight, own, power))


def _unless(weight, own, power):
    """The other way to read a weight that lacks the batch size. The digits do not tell which way is right."""
    b = weight.batch
    simple = _digits(own) <= ROUND + 1 and _digits(own) < _digits(own * b)
    if not weight.lacks_batch or power > weight.other_batch or simple:
        return ""
    return f"unless the loss has {own:.4g} as {own * b:.4g} / {b}, where {b} is the size of this batch"


def _whole(weight, rest, constants, averages):
    """(the Explanation without a weight of its own, or None; the doubt about a round weight that equals a size)"""
    doubt = ""
    for constant, divides in constants:
        number = float(constant.number) ** divides
        cases = itertools.product(weight.batch_powers, (1, 2) if weight.halves else (1,))
        for averaged, (power, half) in itertools.product(averages, cases):
            scale = weight.batch**power * math.prod(weight.sizes[axis] for axis in averaged) / half
            if abs(rest * scale * number - 1) > (CLOSE if constant is NONE else EXACT):
                continue
            if _is_size(weight, constant, divides, power):
                return Explanation(1.0, power, averaged, constant, divides, half == 2), ""
            name = constant.name or constant.of_batch
            if divides > 0 and (constant.whole or name.endswith(f" of {weight.of}")):
                doubt = doubt or f"{1 / number:.4g} is 1 / {constant.number}, and {constant.number} is {name}"
    return None, doubt


def _beside_own(weight, own, constants, averages, fewer):
    """The Explanation by a size beside a weight of its own, or None. The size is told from the digits: without the
    size, the weight has so many digits fewer."""
    for (constant, divides), averaged in itertools.product(constants, averages):
        number = float(constant.number) ** divides * math.prod(weight.sizes[axis] for axis in averaged)
        digits = _digits(own * number)
        if number != 1.0 and digits <= ROUND + (fewer == 1) and digits <= _digits(own) - fewer:
            return Explanation(own * number, weight.batch_powers[0], averaged, constant, divides)
    return None


def _is_size(weight, constant, divides, power):
    """Whether a constant is a size for sure, and no weight that somebody chose."""
    if constant is NONE or _digits(float(constant.number) ** -divides) > ROUND:
        return True
    averaged = math.prod(weight.sizes[axis] for axis, p in weight.powers.items() if p == 1 and axis[0] == weight.of)
    undone = divides < 0 and constant.number == averaged  # mean() * 784 is a sum
    return undone or _fills(weight, constant, divides, power)


def _fills(weight, constant, divides, power):
    """Whether a constant gives this term the power of the batch size that the other term has."""
    return weight.lacks_batch and divides > 0 and constant.batch > 0 and power + constant.batch == weight.other_batch


def _digits(number):
    """The number of significant digits; 7 if there are more than six."""
    return next((n for n in range(1, 7) if abs(number - float(f"{number:.{n}g}")) <= 1e-6 * abs(number)), 7)


def _constants(weight):
    """The Sizes that a constant may be. A number that is two sizes has both names."""
    b, totals = weight.batch, {of: math.prod(shape[1:]) for of, shape in weight.shapes.items()}
    found = [Size(totals["x"], "the number of elements of x", whole=True)]
    found += [Size(totals["mu"], "the number of latent dims", whole=True)]
    others = ", or ".join(s.name for s in found if s.number == b)
    name = f"the size of this batch{f' (or {others})' if others else ''}"
    for of, shape in weight.shapes.items():
        axes = range(1, len(shape))
        for some in itertools.chain(*(itertools.combinations(axes, n) for n in range(1, len(axes)))):
            found.append(Size(math.prod(shape[k] for k in some), _axes(of, some)))
    batch = [Size(b, "", 1, name, whole=True), *(Size(b * s.number, s.name, 1, name) for s in found)]
    sizes: dict[int, Size] = {}
    first = batch if weight.lacks_batch or 1 not in weight.batch_powers else []
    for size in [*first, *found, *batch]:
        one = sizes.setdefault(size.number, size)
        if one.name != size.name and " (or " not in one.name and not one.batch and (size.name or size.of_batch):
            other = "the size of this batch" if size.number == b else size.name
            if size.number == b or not size.batch:
                sizes[size.number] = one._replace(name=f"{one.name} (or {other})")
    return [size for number, size in sizes.items() if number > 1]


def _axes(of, axes):
    numbers = " and ".join(map(str, axes))
    return f"the size of {'axis' if len(axes) == 1 else 'axes'} {numbers} of {of}"


# ---------------------------------------------------------------- in words


def text(weight, found):
    """How the loss reduces the term, in words, without the batch."""
    powers = {axis: int(axis in found.averaged) if p is None else p for axis, p in weight.powers.items()}
    parts, constant = [*_others(weight, powers), _reduced(weight, powers)], found.constant
    number, own = constant.number // weight.batch**constant.batch, math.prod(weight.shapes[weight.of][1:])
    if constant.name and found.divides < 0:
        parts.append(f"multiplied by a constant, {number}, which is {constant.name}")
    elif constant.name and number == own and not any(powers[axis] for axis in powers if axis[0] == weight.of):
        also = constant.name.partition(" (or ")[2].removesuffix(")")
        parts[-1] = f"averaged over the {number} {NOUNS[weight.of]} by a constant" + (f" (or {also})" if also else "")
    elif constant.name == "the number of elements of x":
        parts.insert(0, f"divided by the {number} elements of x (a constant of the loss)")
    elif constant.name:
        parts.insert(0, f"divided by a constant, {number}, which is {constant.name},")
    words = " and ".join(parts)
    if found.half and weight.of == "x":
        words = f"a squared error without its 1/2, {words}"
    if abs(found.own - 1) > CLOSE:
        words += f", with a weight of {math.copysign(found.own, weight.value):.4g}"
        if weight.of == "x" and weight.halves:
            words += f" ({found.own / 2:.4g} times the squared error)"
    return words


def _others(weight, powers):
    """The texts of the measured sizes of the other term that divide this one."""
    other = "mu" if weight.of == "x" else "x"
    sizes = {axis: n for axis, n in weight.sizes.items() if axis[0] == other}
    found = {axis: powers[axis] for axis in sizes if powers[axis]}
    if found and len(found) == len(sizes) and len(set(found.values())) == 1:
        noun = "elements of x" if other == "x" else "latent dims"
        return [_times(f"the {math.prod(sizes.values())} {noun}", next(iter(found.values())))]
    return [_times(f"the size of axis {axis[1]} of {other}, {sizes[axis]}", p) for axis, p in found.items()]


def _times(what, power):
    words = f"{'divided' if power > 0 else 'multiplied'} by {what}"
    return words if abs(power) == 1 else f"{words}, {abs(power)} times"


def _reduced(weight, powers):
    """The text of the sum or mean over the term's own axes."""
    sizes = {axis: n for axis, n in weight.sizes.items() if axis[0] == weight.of}
    kinds = {powers[axis] for axis in sizes} or {0}
    verbs = {0: "summed over", 1: "averaged over"}
    if len(kinds) == 1 and kinds <= set(verbs):
        return f"{verbs[kinds.pop()]} the {math.prod(weight.shapes[weight.of][1:])} {NOUNS[weight.of]}"
    texts = []
    for p in sorted(kinds):
        axes = [axis for axis in sizes if powers[axis] == p]
        numbers, each = (" and ".join(str(k) for _, k in axes), " x ".join(str(sizes[axis]) for axis in axes))
        where = f"{'axis' if len(axes) == 1 else 'axes'} {numbers} of {weight.of} ({each})"
        texts.append(f"{verbs[p]} {where}" if p in verbs else _times(f"the size of {where}", p))
    return " and ".join(texts)
