"""The Poisson distribution (formulas/poisson.py). log_rate = log(rate)."""

from typing import Any

import torch
from torch.distributions import Poisson as TorchPoisson
from torch.distributions import constraints

from ..typing import Backend
from .base import FusedDistribution, Value, log_of, nonnegative, parameter, real


class Poisson(FusedDistribution):
    """Poisson(rate) or Poisson(log_rate=...): formulas/poisson.py. A rate of 0 has a gradient of 0."""

    likelihood = "poisson"
    forms = ((("rate",), ("log_rate",)),)
    torch_class, torch_forms = TorchPoisson, (("rate",),)
    arg_constraints = {"rate": nonnegative, "log_rate": real}
    support = constraints.nonnegative_integer

    def __init__(
        self,
        rate: Value | None = None,
        validate_args: bool | None = None,
        *,
        log_rate: Value | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__({"rate": rate, "log_rate": log_rate}, backend, validate_args)

    @parameter
    def rate(given: Any):
        return torch.exp(given.log_rate)

    @parameter
    def log_rate(given: Any):
        return log_of(given.rate)

    @property
    def mean(self):
        return self.rate
