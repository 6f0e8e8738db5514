"""The likelihood with a weight for each element: by hand and ours.

The weight is no input of a case, because no contender gives the weight a gradient: `weight_of` draws the weight.
"""

import functools
import math

import torch
import torch.nn.functional as F

from .. import functional
from . import rivals

PARTS = {"masked nll": torch.bool, "weighted nll": torch.float32}
"""The part of a case -> the dtype of the weight."""


@functools.lru_cache(maxsize=4)
def weight_of(case):
    """[batch, dims]: one of five elements is missing; the others have weights around 1, or True."""
    g = torch.Generator().manual_seed(1)
    observed = torch.rand(case.batch, case.dims, generator=g) > 0.2
    return (observed * (0.5 + torch.rand(observed.shape, generator=g))).to(PARTS[case.part])


def _bce_with_logits(x, logits):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none")


def _mse_loss(x, loc):
    return 0.5 * (F.mse_loss(loc, x, reduction="none") + rivals.LOG_2PI)


def _gaussian_formula(x, loc, logvar):
    return 0.5 * ((x - loc).square() * torch.exp(-logvar) + logvar + rivals.LOG_2PI)


def _laplace_formula(x, loc, logscale):
    return (x - loc).abs() * torch.exp(-logscale) + logscale + math.log(2)


EACH = {
    ("bernoulli", 1): _bce_with_logits,
    ("gaussian", 1): _mse_loss,
    ("gaussian", 2): _gaussian_formula,
    ("laplace", 2): _laplace_formula,
    ("zinb", 3): rivals.zinb_of_each,
}
"""(likelihood, number of parameters) -> (x, *params) -> -log p of each element, as one writes it."""


def by_hand(case):
    """{name: objective}: the loss of each element, times the weight."""
    each = EACH.get((case.likelihood, case.outputs))
    if each is None:
        return {"plain formula": ours(case, "torch")}

    weight = weight_of(case)  # a compiler would trace a call in the function, and draw the weight each time

    def nll(params, x, mu, logvar):
        wide_x, *wide = rivals.widened(x, params, case.likelihood)
        return (each(wide_x, *wide) * weight.to(x.device)).sum() / len(x), None

    return {each.__name__.strip("_"): nll}


def ours(case, backend):
    """The objective: nll with its weight."""

    weight = weight_of(case)

    def nll(params, x, mu, logvar):
        recon = params[0] if len(params) == 1 else params
        options = {"likelihood": case.likelihood, "reduction": "mean", "backend": backend}
        return functional.nll(recon, x, weight=weight.to(x.device), **options), None

    return nll
