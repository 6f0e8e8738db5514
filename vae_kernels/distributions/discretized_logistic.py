"""The discretized logistic distribution of 8-bit levels (formulas/discretized_logistic.py). logscale = log(scale).

A sample is a sample of the logistic distribution, moved to the nearest level.
"""

import torch
from torch.distributions import constraints

from .of_scale import OfScale

LEVELS = 255  # the levels are k / 255, k = 0 ... 255


class _Level(constraints.Constraint):
    """k / 255 for k = 0 ... 255. A value may differ by 1/1000 of a level."""

    is_discrete = True

    def check(self, value):
        level = value * LEVELS
        return (value >= 0) & (value <= 1) & ((level - level.round()).abs() <= 1e-3)


class DiscretizedLogistic(OfScale):
    """DiscretizedLogistic(loc, scale) or DiscretizedLogistic(loc, logscale=...): formulas/discretized_logistic.py.

    loc and scale are in units of x, and x = k / 255 in float32 or float64. Pixels of uint8 are divided by 255 before.
    """

    likelihood = "discretized_logistic"
    support = _Level()
    has_enumerate_support = True

    @property
    def mode(self):
        """The level nearest to loc, or an end of [0, 1], which has all the mass beyond."""
        nearest = _nearest(self.loc)
        levels = torch.stack((nearest, torch.zeros_like(nearest), torch.ones_like(nearest)))
        best = self._log_prob(levels).argmax(0, keepdim=True)
        return levels.gather(0, best).squeeze(0)

    @property
    def variance(self):
        """E[(x - c)^2] - (E[x] - c)^2, with the level c nearest to loc. The two expectations are sums over levels k of

            P(x >= k) (2 (k - c) - 1) for k > c,    P(x < k) (2 (c - k) + 1) for k <= c,

        and of the same probabilities, with the signs + and -. No sum has terms that cancel."""
        loc, scale = self.loc, self.scale
        centre = (_nearest(loc) * LEVELS).round()
        square, shift = torch.zeros_like(loc), torch.zeros_like(loc)
        for k in range(1, LEVELS + 1):
            above = k > centre
            edge = (loc - (k - 0.5) / LEVELS) / scale
            mass = torch.sigmoid(torch.where(above, edge, -edge))
            square = square + mass * torch.where(above, 2 * (k - centre) - 1, 2 * (centre - k) + 1)
            shift = shift + torch.where(above, mass, -mass)
        return (square - shift * shift) / LEVELS**2

    def cdf(self, value):
        level = torch.floor(value * LEVELS + 1e-3)
        inside = torch.sigmoid(((level + 0.5) / LEVELS - self.loc) / self.scale)
        return torch.where(level < 0, 0, torch.where(level >= LEVELS, 1, inside))

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's default, which is immutable
        with torch.no_grad():
            loc, scale = self.loc, self.scale
            u = torch.rand(self._extended_shape(sample_shape), dtype=loc.dtype, device=loc.device)
            return _nearest(loc + scale * torch.logit(u))

    def enumerate_support(self, expand=True):
        values = torch.arange(LEVELS + 1, dtype=self._dtype, device=self.loc.device) / LEVELS
        values = values.view(-1, *[1] * len(self._batch_shape))
        return values.expand(-1, *self._batch_shape) if expand else values


def _nearest(x):
    return (x * LEVELS).round().clamp(0, LEVELS) / LEVELS
