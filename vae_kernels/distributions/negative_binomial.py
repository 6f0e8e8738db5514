"""The negative binomial distribution (formulas/negative_binomial.py) in the forms of torch, scvi-tools and ours.

torch.distributions     total_count, and logits or probs: the logits of a success; x is the number of successes
scvi-tools              mu, theta
here                    log_mean, log_inverse_dispersion

theta = total_count = exp(log_inverse_dispersion)        mu = exp(log_mean) = total_count exp(logits)
"""

from typing import Any

import torch
from torch.distributions import NegativeBinomial as TorchNegativeBinomial
from torch.distributions import constraints

from ..typing import Backend
from .base import FusedDistribution, Value, log_of, logit_of, nonnegative, parameter, positive, real

FORMS = (
    ("total_count", "probs"),
    ("total_count", "logits"),
    ("mu", "theta"),
    ("log_mean", "log_inverse_dispersion"),
)
CONSTRAINTS = {
    "total_count": positive,
    "probs": constraints.half_open_interval(0.0, 1.0),
    "logits": real,
    "mu": nonnegative,
    "theta": positive,
    "log_mean": real,
    "log_inverse_dispersion": real,
}


class NegativeBinomialForms(FusedDistribution):
    """The parameters of the negative binomial, which the zero-inflated one has too."""

    @parameter
    def total_count(given: Any):
        return given.theta

    @parameter
    def probs(given: Any):
        return torch.sigmoid(given.logits)

    @parameter
    def logits(given: Any):
        return logit_of(given.probs) if "probs" in given else given.log_mean - given.log_inverse_dispersion

    @parameter
    def mu(given: Any):
        return given.total_count * torch.exp(given.logits) if "total_count" in given else torch.exp(given.log_mean)

    @parameter
    def theta(given: Any):
        return given.total_count if "total_count" in given else torch.exp(given.log_inverse_dispersion)

    @parameter
    def log_mean(given: Any):
        return log_of(given.mu) if "mu" in given else given.logits + given.log_inverse_dispersion

    @parameter
    def log_inverse_dispersion(given: Any):
        return torch.log(given.theta)


class NegativeBinomial(NegativeBinomialForms):
    """NegativeBinomial(total_count, probs), (total_count, logits=...), (mu=..., theta=...) or (log_mean=...,
    log_inverse_dispersion=...): formulas/negative_binomial.py. A mean of 0 has a gradient of 0."""

    likelihood = "negative_binomial"
    forms = (FORMS,)
    torch_class, torch_forms = TorchNegativeBinomial, (("total_count", "logits"), ("total_count", "probs"))
    arg_constraints = CONSTRAINTS
    support = constraints.nonnegative_integer

    def __init__(
        self,
        total_count: Value | None = None,
        probs: Value | None = None,
        logits: Value | None = None,
        validate_args: bool | None = None,
        *,
        mu: Value | None = None,
        theta: Value | None = None,
        log_mean: Value | None = None,
        log_inverse_dispersion: Value | None = None,
        backend: Backend = "auto",
    ) -> None:
        given = {"total_count": total_count, "probs": probs, "logits": logits, "mu": mu, "theta": theta}
        given |= {"log_mean": log_mean, "log_inverse_dispersion": log_inverse_dispersion}
        super().__init__(given, backend, validate_args)

    @property
    def mean(self):
        return self.mu

    @property
    def variance(self):
        return self.mu + self.mu * (self.mu / self.theta)
