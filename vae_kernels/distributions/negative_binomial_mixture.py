"""The mixture of two negative binomial distributions of one inverse dispersion (formulas/negative_binomial_mixture.py).

scvi-tools    mu1, mu2, theta1, and mixture_logits or mixture_probs: of component 1
here          background_log_mean, foreground_log_mean, log_inverse_dispersion, mixture_logits: of the background
"""

from typing import Any

import torch
from torch.distributions import constraints

from ..typing import Backend
from .base import FusedDistribution, Value, log_of, logit_of, nonnegative, parameter, positive, real
from .negative_binomial import NegativeBinomial


class NegativeBinomialMixture(FusedDistribution):
    """NegativeBinomialMixture(mu1, mu2, theta1, mixture_logits) or (background_log_mean=..., foreground_log_mean=...,
    log_inverse_dispersion=..., mixture_logits=...), or mixture_probs: formulas/negative_binomial_mixture.py.

    The mode has no closed form: `mode` raises a NotImplementedError, as in torch's MixtureSameFamily."""

    likelihood = "negative_binomial_mixture"
    forms = (
        (("mu1", "mu2", "theta1"), ("background_log_mean", "foreground_log_mean", "log_inverse_dispersion")),
        (("mixture_logits",), ("mixture_probs",)),
    )
    arg_constraints = {
        "mu1": nonnegative,
        "mu2": nonnegative,
        "theta1": positive,
        "mixture_logits": real,
        "mixture_probs": constraints.unit_interval,
        "background_log_mean": real,
        "foreground_log_mean": real,
        "log_inverse_dispersion": real,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self,
        mu1: Value | None = None,
        mu2: Value | None = None,
        theta1: Value | None = None,
        mixture_logits: Value | None = None,
        validate_args: bool | None = None,
        *,
        mixture_probs: Value | None = None,
        background_log_mean: Value | None = None,
        foreground_log_mean: Value | None = None,
        log_inverse_dispersion: Value | None = None,
        backend: Backend = "auto",
    ) -> None:
        given = {"mu1": mu1, "mu2": mu2, "theta1": theta1}
        given |= {"background_log_mean": background_log_mean, "foreground_log_mean": foreground_log_mean}
        given |= {"log_inverse_dispersion": log_inverse_dispersion}
        given |= {"mixture_logits": mixture_logits, "mixture_probs": mixture_probs}
        super().__init__(given, backend, validate_args)

    @parameter
    def mu1(given: Any):
        return torch.exp(given.background_log_mean)

    @parameter
    def mu2(given: Any):
        return torch.exp(given.foreground_log_mean)

    @parameter
    def theta1(given: Any):
        return torch.exp(given.log_inverse_dispersion)

    @parameter
    def background_log_mean(given: Any):
        return log_of(given.mu1)

    @parameter
    def foreground_log_mean(given: Any):
        return log_of(given.mu2)

    @parameter
    def log_inverse_dispersion(given: Any):
        return torch.log(given.theta1)

    @parameter
    def mixture_logits(given: Any):
        return logit_of(given.mixture_probs)

    @parameter
    def mixture_probs(given: Any):
        return torch.sigmoid(given.mixture_logits)

    @property
    def components(self) -> tuple[NegativeBinomial, NegativeBinomial]:
        """The distributions of the background and of the foreground."""
        s, shape = self.log_inverse_dispersion, self._batch_shape
        background, foreground = (
            NegativeBinomial(log_mean=mean, log_inverse_dispersion=s, backend=self.backend, validate_args=False)
            for mean in (self.background_log_mean, self.foreground_log_mean)
        )
        return background.expand(shape), foreground.expand(shape)

    @property
    def variance(self):
        background, foreground = self.components
        share, rest = torch.sigmoid(self.mixture_logits), torch.sigmoid(-self.mixture_logits)
        within = share * background.variance + rest * foreground.variance
        return within + share * rest * (background.mean - foreground.mean).square()

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's default, which is immutable
        with torch.no_grad():
            background, foreground = (component.sample(sample_shape) for component in self.components)
            chosen = torch.bernoulli(self.mixture_probs.expand(background.shape)).bool()
            return torch.where(chosen, background, foreground)
