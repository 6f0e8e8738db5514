"""The support of a likelihood, and what -log p can be, for those who look at values: the doctor and the Monitor."""

import math
from typing import Any

import torch

from ..formulas import Formula
from ..likelihoods import formula_of, name_of
from ..typing import LikelihoodLike

MASSES = ("bernoulli", "discretized_logistic")  # beside counts and levels: p(x) is a probability, not a density
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
    return named[support] if isinstance(support, str) else f"[{support[0]:g}, {support[1]:g}]"


def scaled(likelihood: LikelihoodLike, dtype: torch.dtype) -> bool:
    """Whether x of this dtype is read as x/255."""
    table = formula_of(likelihood).KIND == "segments"
    return dtype == torch.uint8 and not table and of(likelihood) not in ("counts", "levels")


def whole(likelihood: LikelihoodLike) -> bool:
    """Whether x holds integers only."""
    return isinstance(of(likelihood), str)


def is_mass(likelihood: LikelihoodLike) -> bool:
    """Whether p(x) is a probability, so that -log p(x) is never negative. False if it is not known."""
    return whole(likelihood) or name_of(likelihood) in MASSES


def of(likelihood: LikelihoodLike) -> Any:
    """The SUPPORT of the likelihood's formula."""
    formula: Formula = formula_of(likelihood)
    return formula.SUPPORT
