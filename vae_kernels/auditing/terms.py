"""Explains the weight of each term by sizes: of the batch, of x, of the latents, and of their axes.

    weight = own / ( the sizes that the loss measures * the constants of the loss that equal sizes )

A size that the loss measures, as mean() does, is known from a call with another size. A constant is not: it is only a
number. A constant such as 1 / 784 must come from a size. A round constant such as 0.05 may also be a weight of its own.
"""

import itertools
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from .fit import CLOSE

ROUND = 2  # a number with so many digits may be a weight that somebody chose


class Size(NamedTuple):
    """A number that a constant of the loss may be: a size, or the size of the batch times another size."""

    number: int
    name: str  # of the number without the batch size; "" if it is the batch size alone
    batch: int = 0  # the power of the batch size in the number
    of_batch: str = "the size of this batch"


@dataclass(frozen=True)
class Term:
    """Why a term of a loss has its weight.

    text       how the loss reduces the term, without the batch
    own        the factor that no size explains
    power      the weight is proportional to B^-power, in batches of another size; None: not measured
    constant   a constant of the loss that equals this power of the batch size, which divides the term
    names      what this constant is
    half       whether a factor 1/2 is missing, of a squared error or of the KL
    doubt      a sentence about a round weight that equals a size
    """

    text: str
    own: float | torch.Tensor
    power: int | None
    constant: int = 0
    names: str = ""
    half: bool = False
    doubt: str = ""

    @property
    def batch(self):
        """The whole power of the size of this batch."""
        return (self.power or 0) + self.constant


def of(reading):
    """The Terms of the reconstruction and of the KL."""
    gaussian = reading.likelihood.name == "gaussian" and reading.obs_logvar is None
    if reading.weight or reading.latent_weight:
        rec = _weighted(
            reading, reading.rec_weight, reading.rec_power, reading.kl_power, _of_elements(reading), gaussian
        )
    else:
        rec = _explained(reading, "x", gaussian, reading.kl_power)
    if isinstance(reading.kl_weight, torch.Tensor):
        power = _assumed(reading, reading.kl_power)
        return rec, Term("weighted by dimension", reading.kl_weight * reading.sizes["B"] ** power, reading.kl_power)
    if reading.weight or reading.latent_weight:
        kl = _weighted(reading, reading.kl_weight, reading.kl_power, rec.batch, _of_latents(reading), False)
    else:
        kl = _explained(reading, "mu", rec.half, rec.batch)
    if rec.half and kl.half and isinstance(rec.own, float):
        kl = replace(kl, text=f"without its 1/2, {kl.text}")
    return rec, kl


def _assumed(reading, power):
    """The power of the batch size; if it was not measured, that of the mean."""
    return (0 if reading.per_sample else 1) if power is None else power


# ---------------------------------------------------------------- a loss without weights


def _explained(reading, of, halves, other_batch):
    """The Term over the axes of x or of mu. halves: whether a factor 1/2 may be missing. other_batch: the power of the
    batch size in the other term."""
    which = 0 if of == "x" else 1
    weight, power = ((reading.rec_weight, reading.rec_power), (reading.kl_weight, reading.kl_power))[which]
    if not weight:
        return Term("absent", 0.0, power)
    sizes = {(name, k): n for name, shape in (("x", reading.x_shape), ("mu", reading.mu_shape))
             for k, n in enumerate(shape) if k and n > 1}  # fmt: skip
    powers = {axis: reading.axes.get(axis, (None, None))[which] for axis in sizes}
    measured = {axis: p for axis, p in powers.items() if p is not None}
    rest = abs(weight) * math.prod(float(sizes[axis]) ** p for axis, p in measured.items())
    open_axes = [axis for axis in sizes if axis[0] == of and powers[axis] is None]
    batches = [power] if power is not None else [0] if reading.per_sample else [1, 0, 2]
    found = _search(reading, rest, batches, open_axes, sizes, measured, halves, other_batch, of)
    own, batch, averaged, constant, divides, half, doubt = found
    powers = {axis: measured.get(axis, int(axis in averaged)) for axis in sizes}
    text = _divided(constant, divides, powers, sizes, of, reading) + _reduced(of, powers, sizes, reading)
    if half and of == "x":
        text = f"a squared error without its 1/2, {text}"
    if abs(own - 1) > CLOSE:
        text += f", with a weight of {math.copysign(own, weight):.4g}"
    return Term(
        text,
        math.copysign(own, weight),
        power if power is not None else batch if _is_one(own) else None,
        constant.batch * divides if constant else 0,
        constant.of_batch if constant and constant.batch else "",
        half,
        doubt,
    )


def _is_one(number):
    return abs(number - 1) <= CLOSE


def _search(reading, rest, batches, open_axes, sizes, measured, halves, other_batch, of):
    """(own, power of the batch, averaged axes, constant or None, 1 if the constant divides or -1, half, doubt): the
    simplest explanation of a weight."""
    b = float(reading.sizes["B"])
    lacks = other_batch is not None and len(batches) == 1 and batches[0] != other_batch
    averages = [c for n in (len(open_axes), *range(len(open_axes))) for c in itertools.combinations(open_axes, n)]
    averages.sort(key=lambda c: len(c) not in (0, len(open_axes)))
    constants = [(None, 1)] + [(c, d) for c in _constants(reading, lacks or 1 not in batches) for d in (1, -1)]
    doubt = ""
    for constant, divides in constants:
        for averaged, batch, half in itertools.product(averages, batches, (1, 2) if halves else (1,)):
            scale = b**batch * math.prod(sizes[axis] for axis in averaged) / half
            number = constant.number**divides if constant else 1.0
            if not _is_one(rest * scale * number):
                continue
            told = constant is None or _digits(1 / number) > ROUND or _undoes(constant, divides, of, measured, sizes)
            told = told or (
                lacks and divides > 0 and constant.batch and batch + divides * constant.batch == other_batch
            )
            if told:
                return 1.0, batch, averaged, constant, divides, half == 2, ""
            name = constant.name or constant.of_batch
            share = f" is 1 / {constant.number}, and {constant.number}" if divides > 0 else ""
            doubt = doubt or f"{1 / number:.4g}{share} is {name}"
    # a weight of its own beside a size: the size is told from the digits that it explains
    own = rest * b ** batches[0]
    for constant, divides in constants:
        for averaged in averages:
            number = (constant.number**divides if constant else 1.0) * math.prod(sizes[axis] for axis in averaged)
            digits = _digits(own * number)
            fills = (
                lacks and divides > 0 and constant is not None and batches[0] + divides * constant.batch == other_batch
            )
            if number != 1.0 and digits <= ROUND and digits <= _digits(own) - (0 if fills else 3):
                return own * number, batches[0], averaged, constant, divides, False, ""
    return own, batches[0], (), None, 1, False, doubt


def _digits(number):
    """The number of significant digits; 7 if there are more than six."""
    return next((n for n in range(1, 7) if abs(number - float(f"{number:.{n}g}")) <= 1e-6 * abs(number)), 7)


def _undoes(constant, divides, of, measured, sizes):
    """Whether a constant undoes a mean over the term's own axes: mean() * 784 is a sum."""
    averaged = math.prod(sizes[axis] for axis, p in measured.items() if p == 1 and axis[0] == of)
    return divides < 0 and averaged > 1 and constant.number == averaged


def _constants(reading, batch_first):
    """The Sizes that a constant may be, without doubles: a number that is two sizes has both names."""
    b = reading.sizes["B"]
    found = [
        Size(reading.sizes["D"], "the number of elements of x"),
        Size(reading.sizes["L"], "the number of latent dims"),
    ]
    for of, shape in (("x", reading.x_shape), ("mu", reading.mu_shape)):
        axes = range(1, len(shape))
        for n in range(1, len(axes)):
            found += [
                Size(math.prod(shape[k] for k in some), _axes(of, some)) for some in itertools.combinations(axes, n)
            ]
    same = [s.name for s in found[:2] if s.number == b]
    batch = [Size(b, "", 1, " and ".join(["the size of this batch", *same[:1]]))]
    batch += [Size(b * s.number, s.name, 1) for s in found]
    sizes: dict[int, Size] = {}
    for size in [*batch, *found] if batch_first else [*found, *batch]:
        one = sizes.setdefault(size.number, size)
        if one.name != size.name and " or " not in one.name and not one.batch and not size.batch:
            sizes[size.number] = one._replace(name=f"{one.name}, or {size.name}")
    return [size for number, size in sizes.items() if number > 1]


def _axes(of, axes):
    numbers = " and ".join(filter(None, (", ".join(map(str, axes[:-1])), str(axes[-1]))))
    return f"the size of axis {numbers} of {of}" if len(axes) == 1 else f"the size of axes {numbers} of {of} together"


def _divided(constant, divides, powers, sizes, of, reading):
    """The text of the sizes that divide or multiply the term besides its own axes."""
    texts = []
    other = "mu" if of == "x" else "x"
    noun = {"x": "elements of x", "mu": "latent dims"}
    foreign = {axis: p for axis, p in powers.items() if axis[0] == other and p}
    if foreign and len(foreign) == sum(axis[0] == other for axis in sizes) and len(set(foreign.values())) == 1:
        total = math.prod(sizes[axis] for axis in foreign)
        texts.append(_times(f"the {total} {noun[other]}", next(iter(foreign.values()))))
    else:
        texts += [_times(f"the size of axis {axis[1]} of {other}, {sizes[axis]}", p) for axis, p in foreign.items()]
    if constant is not None and constant.name:
        number = constant.number // reading.sizes["B"] ** constant.batch
        whole = {"the number of elements of x": noun["x"], "the number of latent dims": noun["mu"]}.get(constant.name)
        what = (
            f"the {number} {whole} (a constant of the loss)"
            if whole
            else f"a constant, {number}, which is {constant.name}"
        )
        texts.append(f"{'divided' if divides > 0 else 'multiplied'} by {what}")
    return "".join(f"{text}, " for text in texts)


def _times(what, power):
    verb = "divided by" if power > 0 else "multiplied by"
    return f"{verb} {what}" + ("" if abs(power) == 1 else f", {abs(power)} times")


def _reduced(of, powers, sizes, reading):
    """The text of the sum or mean over the term's own axes."""
    own = {axis[1]: p for axis, p in powers.items() if axis[0] == of}
    total = reading.sizes["D" if of == "x" else "L"]
    noun = "elements" if of == "x" else "latent dims"
    verbs = {0: "summed over", 1: "averaged over"}
    kinds = set(own.values()) or {0}
    if len(kinds) == 1 and kinds <= set(verbs):
        return f"{verbs[kinds.pop()]} the {total} {noun}"
    texts = []
    for p in sorted(kinds):
        axes = [k for k, q in own.items() if q == p]
        numbers = " x ".join(str(sizes[(of, k)]) for k in axes)
        where = f"{'axis' if len(axes) == 1 else 'axes'} {' and '.join(map(str, axes))} of {of} ({numbers})"
        texts.append(f"{verbs[p]} {where}" if p in verbs else f"{_times(f'the size of {where}', p)}")
    return " and ".join(texts)


# ---------------------------------------------------------------- a loss with weights of elements or latents


def _weighted(reading, weight, power, other_batch, texts, halves):
    """The Term of a loss that takes weights. texts: pairs (the value of a weight, how the loss then reduces the term)."""
    b = reading.sizes["B"]
    rest = weight * b ** _assumed(reading, power)
    tries = [(v, t, False) for v, t in texts]
    tries += [(2 * v, f"a squared error without its 1/2, {t}", True) for v, t in texts] if halves else []
    for constant in (0, 1):
        for value, text, half in tries:
            if abs(abs(rest) * b**constant - value) <= CLOSE * value:
                name = "the size of this batch" if constant else ""
                return Term(text, math.copysign(1.0, rest), power, constant, name, half)
    return Term(f"with a weight of {rest:.4g}" if rest else "absent", rest, power)


def _of_latents(reading):
    """The texts of a sum over the latent dimensions."""
    d, n, observed, latents = (reading.sizes[name] for name in ("D", "L", "O", "P"))
    texts = [(1, f"summed over the {n} latent dims"), (1 / n, f"averaged over the {n} latent dims")]
    if abs(latents - n) > CLOSE * n:
        sums = f"summed over the {n} latent dims with their weights, {latents:.4g} a sample in this batch"
        count = f"divided by the latent weights' sum, {latents:.4g} a sample in this batch"
        texts = [(1, sums), (1 / latents, count), (1 / n, f"{sums}, and divided by {n}")]
        texts += [(n / latents, f"{count}, and multiplied by {n}")]
    return [*texts, (1 / d, f"divided by the {d} elements of x"), (1 / observed, f"divided by {_count(reading)}")]


def _of_elements(reading):
    """The texts of a sum over the elements."""
    d, observed = reading.sizes["D"], reading.sizes["O"]
    if abs(observed - d) <= CLOSE * d:
        return [(1, f"summed over the {d} elements"), (1 / d, f"averaged over the {d} elements")]
    those, count = f"the {d} elements with their weights", _count(reading)
    if reading.masked:
        those = f"the {_which(reading)} elements, {observed:.4g} of {d}"
    return [
        (1, f"summed over {those}"),
        (1 / observed, f"divided by {count}"),
        (1 / d, f"summed over {those}, and divided by all {d}"),
        (d / observed, f"divided by {count}, and multiplied by all {d}"),
    ]


def _count(reading):
    """What a mean over the elements that count is divided by."""
    d, observed = reading.sizes["D"], reading.sizes["O"]
    if reading.masked:
        return f"the number of {_which(reading)} elements, {observed:.4g} of {d} a sample in this batch"
    return f"the weights' sum, {observed:.4g} a sample in this batch"


def _which(reading):
    return "missing" if reading.likelihood.scaling == "inverted" else "observed"
