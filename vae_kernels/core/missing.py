"""Missing parts of x, where a model or an estimator takes x and the weight of its terms: what the networks see."""

import torch

from ..formulas import SEGMENTS
from ..likelihoods import name_of
from . import segments, weights


def seen(x, weight, likelihood, mask=False):
    """x with 0 where the weight of the likelihood's terms is 0, after the checks of both. mask: the weight must be a
    mask. Without a weight, x itself."""
    if weight is None:
        return x
    table = name_of(likelihood) in SEGMENTS
    if table:
        segments.check_target(x, likelihood)
    terms, name = (segments.terms(x, likelihood.plan), "the terms") if table else (x, "x")
    if mask:
        weights.check_mask("weight", weight, terms, name)
    else:
        weights.check("weight", weight, terms, name, "rec_weight")
    if table and weight.dim():
        numbers = torch.tensor(likelihood.plan.column_of_x, device=weight.device)
        weight = weight.expand(*weight.shape[:-1], terms.shape[1])[..., numbers]
    return weights.filled(x, weight)
