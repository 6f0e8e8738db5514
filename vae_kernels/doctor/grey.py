"""Grey values under a likelihood of 0 and 1: the loss is then a cross entropy, and no log-likelihood."""

import torch

from ..core.weights import filled
from ..likelihoods import name_of

OF_TWO_VALUES = ("bernoulli",)  # a probability for x = 0 and x = 1 only, though other x in [0, 1] are taken


def grey_share(x, likelihood, weight=None):
    """The share of the observed elements of x that this likelihood reads as neither 0 nor 1. 0.0 for a likelihood that
    is a density, or a probability, of all x in its support."""
    if name_of(likelihood) not in OF_TWO_VALUES:
        return 0.0
    top = 255 if x.dtype == torch.uint8 else 1
    grey = (x > 0) & (x < top)
    observed = grey.numel() if weight is None else int((weight != 0).sum())
    return int(filled(grey, weight).sum()) / observed
