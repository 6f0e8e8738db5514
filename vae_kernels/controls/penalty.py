"""Functions of the KL. The formulas are in core/penalty.py, because `free_bits=` of fused_elbo needs them too."""

import torch

from .. import functional
from ..core.penalty import UNITS, capacity, free_bits
from ..typing import Backend, PriorLike

__all__ = ["UNITS", "capacity", "free_bits", "kl_per_dim"]


def kl_per_dim(
    mu: torch.Tensor, logvar: torch.Tensor, *, prior: PriorLike = None, backend: Backend = "auto"
) -> torch.Tensor:
    """The KL of each sample and latent dimension, in nats, in the shape of mu: the `kl` for "per_dim" and "per_group".

    The result is gaussian_kl(mu, logvar, prior=prior, per_dim=True). gaussian_kl describes the arguments, the dtypes
    and the errors. This function has no `moments` and no `reduction`.
    """
    return functional.gaussian_kl(mu, logvar, prior=prior, per_dim=True, backend=backend)
