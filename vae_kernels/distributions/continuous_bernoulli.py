"""The continuous Bernoulli distribution (formulas/continuous_bernoulli.py), a density on [0, 1].

Let a = |logits|. Let t be x or 1 - x, so that the logits make t = 0 the more likely end. Then t has the exponential
distribution with rate a, cut off at 1:

    P(T <= t) = expm1(-a t) / expm1(-a)        t = -log1p(q expm1(-a)) / a

Near a = 0 both are 0 / 0; at a = 0 itself the first two terms of the series by a stand in their place.
"""

import torch
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import constraints

from ..formulas import series
from .of_logits import OfLogits


class ContinuousBernoulli(OfLogits):
    """ContinuousBernoulli(probs) or ContinuousBernoulli(logits=...): formulas/continuous_bernoulli.py.

    probs is sigmoid(logits), as in torch; it is not the mean. No interval around probs = 1/2 is cut out, so torch's
    argument `lims` has no counterpart.
    """

    likelihood = "continuous_bernoulli"
    torch_class = TorchContinuousBernoulli
    support = constraints.unit_interval
    has_rsample = True

    @property
    def mode(self):
        return (self.logits > 0).to(self.logits.dtype)

    @property
    def variance(self):
        return series.truncated_variance(self.logits)

    def cdf(self, value):
        size, at_zero, positive = self._sides()
        value = value.clamp(0, 1)  # nothing lies outside
        below = torch.expm1(-size * value) / torch.expm1(-size)
        whole = torch.where(positive, torch.exp(-size * (1 - value)) * below, below)
        return torch.where(at_zero, value * (1 + 0.5 * self.logits * (value - 1)), whole)

    def icdf(self, value):
        size, at_zero, positive = self._sides()
        t = -torch.log1p(torch.where(positive, 1 - value, value) * torch.expm1(-size)) / size
        near = value * (1 + 0.5 * self.logits * (1 - value))
        return torch.where(at_zero, near, torch.where(positive, 1 - t, t))

    def rsample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's default, which is immutable
        shape = self._extended_shape(sample_shape)
        return self.icdf(torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))

    def _sides(self):
        """(|logits|, but 1 where logits are 0; where logits are 0; where logits are positive)"""
        logits = self.logits
        at_zero = logits == 0
        return torch.where(at_zero, 1, logits.abs()), at_zero, logits > 0
