"""The Bernoulli distribution of a product of three sigmoids (formulas/bernoulli_product.py), as in PeakVI."""

import math

import torch
from torch.distributions import constraints

from ..typing import Backend
from .base import FusedDistribution, Value, always_given, real


class BernoulliProduct(FusedDistribution):
    """BernoulliProduct(logits, sample_logits, feature_logits): formulas/bernoulli_product.py.

    A factor that is left out is 1: its logit is infinite. log_prob is exact where the product is near 0 and near 1.
    With validate_args=False it also takes values between 0 and 1.
    """

    likelihood = "bernoulli_product"
    forms = ((("logits",),), (("sample_logits",),), (("feature_logits",),))
    arg_constraints = {"logits": real, "sample_logits": real, "feature_logits": real}
    support = constraints.boolean
    has_enumerate_support = True

    def __init__(
        self,
        logits: Value,
        sample_logits: Value = math.inf,
        feature_logits: Value = math.inf,
        validate_args: bool | None = None,
        *,
        backend: Backend = "auto",
    ) -> None:
        given = {"logits": logits, "sample_logits": sample_logits, "feature_logits": feature_logits}
        super().__init__(given, backend, validate_args)

    logits = always_given("logits")
    sample_logits = always_given("sample_logits")
    feature_logits = always_given("feature_logits")

    @property
    def mode(self):
        return (self.mean > 0.5).to(self._dtype)

    @property
    def variance(self):
        return self.mean * (1 - self.mean)

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's default, which is immutable
        with torch.no_grad():
            return torch.bernoulli(self.mean.expand(self._extended_shape(sample_shape)))

    def entropy(self):
        return -self._log_prob(self.mean)  # log p is linear in x, so E[log p(x)] = log p(E[x])

    def enumerate_support(self, expand=True):
        values = torch.arange(2, dtype=self._dtype, device=self._device)
        values = values.view(2, *[1] * len(self._batch_shape))
        return values.expand(2, *self._batch_shape) if expand else values
