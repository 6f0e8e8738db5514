"""The first look: the data, the parameters, the latents and the outputs, before any number is judged.

The functions of this file find facts. first.py makes verdicts of the facts.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from .. import conditions, functional
from ..core import support, weights
from ..likelihoods import Mixed, by_name, formula_of, name_of
from . import columns

FAR = 100.0  # z times this number: an output that is bounded by a sigmoid stays within [0, 1] there too
FAR_DRAWS = 64


class Column(NamedTuple):
    """A column of a table, and the difference between its largest and its smallest value."""

    number: int
    range: float


@dataclass(frozen=True)
class Values:
    """What x holds, as the likelihood reads x: the observed elements.

    low, high       the smallest and the largest value
    spread          the standard deviation of all values; for a table, of the columns on the whole line
    support         the interval, "counts", "levels", or None for the whole line; expected is the same in words
    below, above    the shares of the values below and above the support
    fractions       for counts and levels, the share of the values that are not integers, or not one of the levels; else
                    0
    largest_byte    the largest x, if x is uint8 and read as x/255; else None
    narrow, wide    the columns with the smallest and the largest range. None if x is no table [N, D] on the whole line,
                    or if fewer than two columns vary
    """

    low: float
    high: float
    spread: float
    support: object
    expected: str
    below: float
    above: float
    fractions: float
    largest_byte: int | None
    narrow: Column | None
    wide: Column | None


@dataclass(frozen=True)
class Outputs:
    """The first parameter that the decoder gives, as the decoder gives it.

    name, low, high     its name, and its range over the posterior's z
    far_low, far_high   its range where z is 100 times as large
    reacts              whether the output changes with z
    levels              K, if the parameter has the logits of K levels; else None
    given               the names of all parameters that the decoder gives
    """

    name: str
    low: float
    high: float
    far_low: float
    far_high: float
    reacts: bool
    levels: int | None
    given: tuple[str, ...]


@dataclass(frozen=True)
class Pass:
    """One pass through the model. broken: "", or a sentence about the first number that is not finite; the pass then
    ends there. nll, kl: [N], float64, on the CPU. outputs: None if the pass ended before the decoder."""

    broken: str
    nll: torch.Tensor
    kl: torch.Tensor
    outputs: Outputs | None


def read(x, likelihood):
    """x as the likelihood reads x, in floating point."""
    return support.read(x, likelihood, torch.float32)


def mask_of(weight, data, likelihood):
    """The mask of the elements of data, in its shape."""
    if isinstance(likelihood, Mixed) and not likelihood.codes and likelihood.width != len(likelihood.columns):
        raise ValueError(
            "weight: got a mask, expected None with a one-hot table: the numbers of a category have one term, and the "
            "doctor looks at single elements; with Mixed(columns, codes=True) a mask of cells is possible"
        )
    weights.check_mask("weight", weight, data, "data")
    if formula_of(likelihood).KIND == "pixel":
        raise ValueError(
            f"weight: got a mask, expected None: likelihood={name_of(likelihood)!r} has one term for all channels of a "
            "pixel, and the doctor looks at single elements"
        )
    return weight.expand(data.shape)


def values_of(x, likelihood, weight=None, levels=None):
    """The Values of x [N, ...]. levels: K of a likelihood with levels, if K is known."""
    of = formula_of(likelihood).SUPPORT
    data = read(x, likelihood)
    seen = data.flatten() if weight is None else data[weight]
    low, high = (v.item() for v in seen.aminmax())
    least, most = support.limits(likelihood, levels)
    off = support.off_levels(seen, likelihood)
    if off is None and support.whole(likelihood) and data.is_floating_point():
        off = seen != seen.round()
    spread, numbers = seen, []
    if isinstance(likelihood, Mixed):  # codes, counts and one-hot numbers have scales of their own
        numbers = columns.numbers_of(likelihood)
        data, weight = data[:, numbers], None if weight is None else weight[:, numbers]
        spread = data.flatten() if weight is None else data[weight]
    narrow, wide = _columns(data, weight) if of is None and x.dim() == 2 else (None, None)
    if isinstance(likelihood, Mixed) and narrow is not None and wide is not None:
        of_x = likelihood.plan.column_of_x
        narrow, wide = (column._replace(number=of_x[numbers[column.number]]) for column in (narrow, wide))
    return Values(
        low=low,
        high=high,
        spread=spread.double().std(correction=0).item() if spread.numel() else 1.0,
        support=of,
        expected=support.expected(likelihood),
        below=_share(seen < least),
        above=_share(seen > most),
        fractions=0.0 if off is None else _share(off),
        largest_byte=round(255 * high) if support.scaled(likelihood, x.dtype) and _of_8_bits(likelihood) else None,
        narrow=narrow,
        wide=wide,
    )


def _of_8_bits(likelihood):
    """Whether uint8 is read as x / 255."""
    return support.limits(likelihood) == (0, 1) and support.steps_of(likelihood) in (None, 255)


def _share(mask):
    return mask.double().mean().item()


def _columns(data, weight):
    """The columns with the smallest and the largest range, of the columns that vary."""
    low, high = (data if weight is None else torch.where(weight, data, at) for at in (math.inf, -math.inf))
    ranges = (high.amax(0).double() - low.amin(0).double()).tolist()
    columns = [Column(i, r) for i, r in enumerate(ranges) if 0 < r < math.inf]
    if len(columns) < 2:
        return None, None
    return min(columns, key=lambda c: c.range), max(columns, key=lambda c: c.range)


def place(bad):
    """The place of the first True in a mask [N, ...], in words: "sample 3, place (0, 5)"."""
    sample, *rest = torch.unravel_index(bad.flatten().int().argmax(), bad.shape)
    where = tuple(int(i) for i in rest)
    return f"sample {int(sample)}" + (f", place {where}" if where else "")


def broken_parameter(model):
    """A sentence about the first parameter or buffer that is not finite, or ""."""
    for kind, tensors in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in tensors:
            bad = ~tensor.isfinite()
            if bad.any():
                what = _not_finite(tensor, bad)
                return f"{int(bad.sum())} of the {bad.numel()} elements of the {kind} {name} are not finite: {what}"
    return ""


def _not_finite(tensor, bad):
    """The kinds of numbers that are not finite: "nan", "inf" or "nan and inf"."""
    kinds = [("nan", tensor.isnan()), ("inf", tensor == math.inf), ("-inf", tensor == -math.inf)]
    return " and ".join(name for name, found in kinds if found.any())


def _first(what, tensor, first_row):
    """A sentence about the first element [B, ...] of a batch that is not finite, or "". first_row: the number of the
    batch's first sample."""
    bad = ~tensor.isfinite()
    if not bad.any():
        return ""
    sample, *rest = torch.unravel_index(bad.flatten().int().argmax(), bad.shape)
    value = tensor[(sample, *rest)].item()
    dims = [int(i) for i in rest]
    where = f" {dims[0] if len(dims) == 1 else tuple(dims)}" if dims else ""
    return f"{what}{where} of sample {first_row + int(sample)} is {value}; {_share(bad):.1%} of its batch is not finite"


def one_pass(model, x, weight=None, batch_size=256, generator=None, condition=None):
    """The Pass of a model in evaluation mode on x [N, ...], with a mask of its elements or without, and with the
    condition of a conditional model."""
    batches = x.split(batch_size)
    weights = [None] * len(batches) if weight is None else weight.split(batch_size)
    each = conditions.split(condition, batch_size, len(x))
    nll, kl, outputs, row = [], [], None, 0
    broken = broken_parameter(model)
    for part, w, c in zip(batches, weights, each, strict=True):
        if broken:
            break
        broken, found, nll_of, kl_of = _batch(model, part, w, c, generator, row)
        outputs = _joined(outputs, found)
        nll.append(nll_of)
        kl.append(kl_of)
        row += len(part)
    if broken:
        return Pass(broken, torch.empty(0), torch.empty(0), outputs)
    return Pass("", torch.cat(nll), torch.cat(kl), outputs)


def _batch(model, x, weight, condition, generator, row):
    """(broken, Outputs, nll [B], kl [B]) of a batch. row: the number of its first sample."""
    mu, logvar = model.encode(x, condition=condition)
    if broken := _first("mu of latent", mu, row) or _first("logvar of latent", logvar, row):
        return broken, None, None, None
    prior = conditions.prior_of(model.prior, condition)
    z, kl = functional.sample_kl(mu, logvar, prior=prior, generator=generator, backend=model.backend)
    if broken := _first("the KL", kl, row):
        text = f"{broken}; logvar is between {logvar.min().item():.3g} and {logvar.max().item():.3g}"
        return text, None, None, None
    recon = _decoded(model, z, x, condition)
    given = by_name(recon, model.likelihood)
    for name, parameter in given.items():
        if broken := _first(f"the decoder's {name}", parameter, row):
            return broken, None, None, None
    outputs = _outputs(model, z, x, condition, given)
    options = {"likelihood": model.likelihood, "obs_logvar": model.obs_logvar, "backend": model.backend}
    nll = functional.nll(recon, x, weight=weight, **options)
    return _first("the nll", nll, row), outputs, nll.double().cpu(), kl.double().cpu()


def _decoded(model, z, x, condition):
    return model.decode(z, x if model.autoregressive else None, condition=condition)


def _outputs(model, z, x, condition, given):
    """The Outputs of one batch. given: {name: parameter} of the decoder."""
    name, near = next(iter(given.items()))
    few = conditions.rows_of(condition, slice(FAR_DRAWS))
    recon = _decoded(model, FAR * z[:FAR_DRAWS], x[:FAR_DRAWS], few)
    far = next(iter(by_name(recon, model.likelihood).values())).nan_to_num(nan=0.0)
    low, high, far_low, far_high = (end.item() for end in (*near.aminmax(), *far.aminmax()))
    levels = near.shape[1] if formula_of(model.likelihood).KIND == "position" else None
    reacts = not torch.equal(far, near[:FAR_DRAWS])
    return Outputs(name, low, high, far_low, far_high, reacts, levels, tuple(given))


def _joined(before, new):
    """The Outputs of two parts of the data."""
    if before is None or new is None:
        return before or new
    low, far_low = min(before.low, new.low), min(before.far_low, new.far_low)
    high, far_high = max(before.high, new.high), max(before.far_high, new.far_high)
    return Outputs(new.name, low, high, far_low, far_high, before.reacts or new.reacts, new.levels, new.given)
