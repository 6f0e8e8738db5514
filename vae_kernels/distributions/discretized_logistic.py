"""The discretized logistic distribution (formulas/discretized_logistic.py). logscale = log(scale).

A sample is a sample of the logistic distribution, moved to the nearest level.
"""

import torch
from torch.distributions import constraints

from .. import likelihoods
from ..core.ranges import count
from ..typing import Backend, LikelihoodLike
from .base import Value
from .of_scale import OfScale


class _Level(constraints.Constraint):
    """k / steps for k = 0 ... steps. A value may differ by 1/1000 of a level."""

    is_discrete = True

    def __init__(self, steps):
        self.steps = steps

    def check(self, value):
        level = value * self.steps
        return (value >= 0) & (value <= 1) & ((level - level.round()).abs() <= 1e-3)


class DiscretizedLogistic(OfScale):
    """DiscretizedLogistic(loc, scale) or DiscretizedLogistic(loc, logscale=...): formulas/discretized_logistic.py.

    loc and scale are in units of x, and x = k / (levels - 1) in float32 or float64. Divide pixels of uint8 by 255
    first.
    """

    likelihood: LikelihoodLike = "discretized_logistic"
    has_enumerate_support = True

    def __init__(
        self,
        loc: Value,
        scale: Value | None = None,
        validate_args: bool | None = None,
        *,
        logscale: Value | None = None,
        levels: int = 256,
        backend: Backend = "auto",
    ) -> None:
        self._steps = count("levels", levels, 2) - 1
        if levels != 256:
            self.likelihood = likelihoods.with_options(self.likelihood, (levels,))
        super().__init__(loc, scale, validate_args, logscale=logscale, backend=backend)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self):
        return _Level(self._steps)

    @property
    def mean(self):
        return self._formula.mean(self.loc, self.logscale, self._steps + 1)

    @property
    def mode(self):
        """The level nearest to loc, or an end of [0, 1], because an end has all the mass beyond it."""
        nearest = self._nearest(self.loc)
        levels = torch.stack((nearest, torch.zeros_like(nearest), torch.ones_like(nearest)))
        best = self._log_prob(levels).argmax(0, keepdim=True)
        return levels.gather(0, best).squeeze(0)

    @property
    def variance(self):
        """E[(x - c)^2] - (E[x] - c)^2, with the level c nearest to loc. The two expectations are sums over levels k of

            P(x >= k) (2 (k - c) - 1) for k > c,    P(x < k) (2 (c - k) + 1) for k <= c,

        and of the same probabilities, with the signs + and -. No sum has terms that cancel."""
        loc, scale, steps = self.loc, self.scale, self._steps
        centre = (self._nearest(loc) * steps).round()
        square, shift = torch.zeros_like(loc), torch.zeros_like(loc)
        for k in range(1, steps + 1):
            above = k > centre
            edge = (loc - (k - 0.5) / steps) / scale
            mass = torch.sigmoid(torch.where(above, edge, -edge))
            square = square + mass * torch.where(above, 2 * (k - centre) - 1, 2 * (centre - k) + 1)
            shift = shift + torch.where(above, mass, -mass)
        return (square - shift * shift) / steps**2

    def cdf(self, value):
        level = torch.floor(value * self._steps + 1e-3)
        inside = torch.sigmoid(((level + 0.5) / self._steps - self.loc) / self.scale)
        return torch.where(level < 0, 0, torch.where(level >= self._steps, 1, inside))

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's default, which is immutable
        with torch.no_grad():
            loc, scale = self.loc, self.scale
            u = torch.rand(self._extended_shape(sample_shape), dtype=loc.dtype, device=loc.device)
            return self._nearest(loc + scale * torch.logit(u))

    def enumerate_support(self, expand=True):
        values = torch.arange(self._steps + 1, dtype=self._dtype, device=self.loc.device) / self._steps
        values = values.view(-1, *[1] * len(self._batch_shape))
        return values.expand(-1, *self._batch_shape) if expand else values

    def _nearest(self, x):
        return (x * self._steps).round().clamp(0, self._steps) / self._steps
