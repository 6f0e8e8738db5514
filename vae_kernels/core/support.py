"""The support of a likelihood, and what -log p can be, for those who look at values: the doctor and the Monitor."""

import math
from typing import Any

import torch

from ..formulas import Formula
from ..likelihoods import formula_of, name_of, options_by_name, options_of
from ..typing import LikelihoodLike

MASSES = ("bernoulli", "discretized_logistic")  # beside counts and levels: p(x) is a probability, not a density
LEVEL_ROUNDING = 1e-3  # levels
ROUNDING = 1e-3  # nats: how far below 0 the nll of a probability may come
MOST_RATE = 1e3  # nats for each latent dim; in float32 z has 24 bits, 17 nats


def limits(likelihood: LikelihoodLike, levels: int | None = None) -> tuple[float, float]:
    """The smallest and the largest value that x may have. levels: K, if it is known."""
    support = of(likelihood)
    if support is None:
        return -math.inf, math.inf
    named = {"counts": (0.0, math.inf), "levels": (0.0, math.inf if levels is None else levels - 1.0)}
    return named[support] if isinstance(support, str) else support


def expected(likelihood: LikelihoodLike) -> str:
    """The support in words: "[0, 1]"; "" for the whole line."""
    support = of(likelihood)
    if support is None:
        return ""
    named = {"counts": "counts: 0, 1, 2, ...", "levels": "levels: 0 to K - 1"}
    if isinstance(support, str):
        return named[support]
    steps = "" if steps_of(likelihood) in (None, 255) else f" in {steps_of(likelihood)} steps"
    return f"[{support[0]:g}, {support[1]:g}]{steps}"


def scaled(likelihood: LikelihoodLike, dtype: torch.dtype) -> bool:
    """Whether x of this dtype is read as a level of the support: as x/255, if the likelihood has 256 levels."""
    table = formula_of(likelihood).KIND == "segments"
    return dtype == torch.uint8 and not table and of(likelihood) not in ("counts", "levels")


def read(x: torch.Tensor, likelihood: LikelihoodLike, dtype: torch.dtype) -> torch.Tensor:
    """x as the likelihood reads x, in this dtype unless x is floating."""
    if not scaled(likelihood, x.dtype):
        return x if x.is_floating_point() else x.to(dtype)
    unit = x.to(dtype) / (steps_of(likelihood) or 255)
    low, high = of(likelihood) or (0.0, 1.0)
    return unit if (low, high) == (0.0, 1.0) else low + (high - low) * unit


def steps_of(likelihood: LikelihoodLike) -> int | None:
    """How many steps there are from the first level of x to the last, if x has levels between two ends; or None."""
    default = getattr(formula_of(likelihood), "OPTIONS", {}).get("levels")
    return None if default is None else options_by_name(likelihood).get("levels", default) - 1


def off_levels(x: torch.Tensor, likelihood: LikelihoodLike) -> torch.Tensor | None:
    """Where x is no level of the likelihood, with the rounding of float32. None if any x between two ends will do."""
    steps = steps_of(likelihood)
    if steps is None:
        return None
    low, high = limits(likelihood)
    level = (x.double() - low) / (high - low) * steps
    return (level - level.round()).abs() > LEVEL_ROUNDING


def whole(likelihood: LikelihoodLike) -> bool:
    """Whether x holds integers only."""
    return isinstance(of(likelihood), str)


def is_mass(likelihood: LikelihoodLike) -> bool:
    """Whether p(x) is a probability, so that -log p(x) is never negative. False if it is not known."""
    return whole(likelihood) or formula_of(likelihood).KIND == "pixel" or name_of(likelihood) in MASSES


def of(likelihood: LikelihoodLike) -> Any:
    """The support of the likelihood: that of its formula, or that of its options."""
    formula: Formula = formula_of(likelihood)
    made = getattr(formula, "support", None)
    return made(*options_of(likelihood)) if made else formula.SUPPORT
