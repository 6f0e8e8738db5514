"""The lean backend: plain PyTorch with few operations, for a device without kernels of ours.

    likelihood.py   the likelihood of a batch with its gradients, in one pass
    usual.py        the usual loss: the likelihood and the KL from one autograd function
    sample.py       the sample and its KL; the noise is the device's own

The formulas are those of vae_kernels/formulas: the function `lean_nll` of a formula gives the value and the derivatives
with few operations, and without autograd. A formula without this function, a likelihood of another kind than "element",
log_total, and a gradient of x or of a weight are computed as the reference computes them. So is everything while
torch.compile traces: a compiler makes fewer passes of the plain formulas. A second derivative is the reference's.
"""

import functools

import torch

from .. import reference
from ..reference import decomposition, mixture
from .likelihood import nll, terms
from .sample import sample_kl
from .usual import is_usual, loss

__all__ = ["decomposition", "elbo", "log_prob", "mixture", "sample_kl"]

_elbo = functools.partial(reference.elbo, nll_of_samples=nll)


def elbo(objective):
    """The loss that `objective` asks for, or ElboTerms. The dtype is the compute dtype."""
    if torch.compiler.is_compiling():
        return reference.elbo(objective)
    return loss(objective) if is_usual(objective) else _elbo(objective)


def log_prob(likelihood, x, params, options=()):
    """log p of each term, in the compute dtype."""
    found = None if torch.compiler.is_compiling() else terms(likelihood, x, params, options)
    return reference.log_prob(likelihood, x, params, options) if found is None else -found
