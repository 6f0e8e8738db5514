"""Why each term of a loss has its weight, in words."""

import math
from dataclasses import dataclass, replace

import torch

from . import sizes
from .fit import CLOSE


@dataclass(frozen=True)
class Term:
    """Why a term of a loss has its weight.

    text       how the loss reduces the term, without the batch
    own        the factor that no size explains
    power      the weight is proportional to B^-power, in batches of another size; None: not measured
    constant   a constant of the loss that equals this power of the batch size divides the term
    names      what this constant is
    half       whether a factor 1/2 is missing, of a squared error or of the KL
    doubt      a sentence about a round weight that equals a size
    unless     the end of the sentence that the weight lacks the batch size, if the weight may have it as a constant
    """

    text: str
    own: float | torch.Tensor
    power: int | None
    constant: int = 0
    names: str = ""
    half: bool = False
    doubt: str = ""
    unless: str = ""

    @property
    def batch(self):
        """The whole power of the size of this batch."""
        return (self.power or 0) + self.constant


def of(reading):
    """The Terms of the reconstruction and of the KL."""
    gaussian = reading.likelihood.name == "gaussian" and reading.obs_logvar is None
    weighted = reading.weight or reading.latent_weight
    if weighted:
        rec = _weighted(reading, reading.rec_weight, reading.rec_power, _of_elements(reading), gaussian)
    else:
        rec = _explained(reading, "x", gaussian, reading.kl_power)
    if isinstance(reading.kl_weight, torch.Tensor):
        own = reading.kl_weight * reading.sizes["B"] ** _assumed(reading, reading.kl_power)
        return rec, Term("weighted by dimension", own, reading.kl_power)
    if weighted:
        return rec, _weighted(reading, reading.kl_weight, reading.kl_power, _of_latents(reading), False)
    kl = _explained(reading, "mu", rec.half, rec.batch)
    return rec, replace(kl, text=f"without its 1/2, {kl.text}") if kl.half else kl


def _assumed(reading, power):
    """The power of the batch size; if it was not measured, that of the mean."""
    return (0 if reading.per_sample else 1) if power is None else power


def _explained(reading, of, halves, other_batch):
    """The Term of a loss without weights of elements and latents."""
    which = 0 if of == "x" else 1
    value, power = ((reading.rec_weight, reading.rec_power), (reading.kl_weight, reading.kl_power))[which]
    if not value:
        return Term("absent", 0.0, power)
    shapes = {"x": reading.x_shape, "mu": reading.mu_shape}
    axes = [(name, k) for name, shape in shapes.items() for k, n in enumerate(shape) if k and n > 1]
    weight = sizes.Weight(
        value=value,
        of=of,
        batch=reading.sizes["B"],
        shapes=shapes,
        powers={axis: reading.axes.get(axis, (None, None))[which] for axis in axes},
        batch_powers=(power,) if power is not None else (0,) if reading.per_sample else (1, 0, 2),
        other_batch=other_batch,
        halves=halves,
    )
    found = sizes.explain(weight)
    known = power is not None or abs(found.own - 1) <= CLOSE
    return Term(
        sizes.text(weight, found),
        math.copysign(found.own, value),
        found.power if known else None,
        found.constant.batch * found.divides,
        found.constant.of_batch,
        found.half,
        found.doubt,
        found.unless,
    )


# ---------------------------------------------------------------- a loss with weights of elements or latents


def _weighted(reading, weight, power, texts, halves):
    """The Term of a loss that takes weights. texts: pairs of a weight and of what the loss then does with the term."""
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
