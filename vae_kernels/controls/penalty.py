"""Functions of the KL. core/penalty.py has the formulas, because `free_bits=` of fused_elbo needs them too."""

import torch

from .. import functional
from ..core.penalty import UNITS, capacity, free_bits
from ..typing import Backend, PriorLike

__all__ = ["UNITS", "capacity", "free_bits", "kl_per_dim"]


def kl_per_dim(
    mu: torch.Tensor, logvar: torch.Tensor, *, prior: PriorLike = None, backend: Backend = "auto"
) -> torch.Tensor:
    """The KL of each sample and latent dimension, in nats, of the shape of mu: what "per_dim" and "per_group" need.

    This is gaussian_kl(mu, logvar, prior=prior, per_dim=True), with its arguments, dtypes and errors.
    """
    return functional.gaussian_kl(mu, logvar, prior=prior, per_dim=True, backend=backend)
