"""The normal distribution (formulas/gaussian.py). scale is the standard deviation, and logvar = 2 log(scale).

The kernel takes logvar. With scale, logvar has one rounding, which is a relative error of |log scale| 2^-23 at most in
the square of (x - loc) / scale. torch's own log_prob has the same rounding in its term log(scale). With logvar there is
none.
"""

import math
from typing import Any

import torch
from torch.distributions import Normal as TorchNormal
from torch.distributions import register_kl

from ..formulas.kl import gaussian_kl
from ..typing import Backend
from .base import FusedDistribution, Value, always_given, parameter, positive, real


class Normal(FusedDistribution):
    """Normal(loc, scale) or Normal(loc, logvar=...): formulas/gaussian.py. loc, scale and logvar broadcast."""

    likelihood = "gaussian"
    forms = ((("loc",),), (("scale",), ("logvar",)))
    torch_class, torch_forms = TorchNormal, (("loc", "scale"),)
    arg_constraints = {"loc": real, "scale": positive, "logvar": real}
    support = real
    has_rsample = True

    def __init__(
        self,
        loc: Value,
        scale: Value | None = None,
        validate_args: bool | None = None,
        *,
        logvar: Value | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__({"loc": loc, "scale": scale, "logvar": logvar}, backend, validate_args)

    loc = always_given("loc")

    @parameter
    def scale(given: Any):
        return torch.exp(0.5 * given.logvar)

    @parameter
    def logvar(given: Any):
        return 2 * torch.log(given.scale)

    def cdf(self, value):
        # erfc and not 1 + erf: far below loc the result is a small number and not 0
        return 0.5 * torch.erfc((self.loc - value) / self.scale * math.sqrt(0.5))

    def icdf(self, value):
        return self.loc + self.scale * torch.special.ndtri(value)


def _kl(p, q):
    return gaussian_kl(p.loc, p.logvar, q.loc, q.logvar)


@register_kl(Normal, Normal)
def _kl_of_ours(p, q):
    return _kl(p, q)


@register_kl(Normal, TorchNormal)
def _kl_to_torch(p, q):
    return _kl(p, Normal(q.loc, q.scale, validate_args=False))


@register_kl(TorchNormal, Normal)
def _kl_from_torch(p, q):
    return _kl(Normal(p.loc, p.scale, validate_args=False), q)
