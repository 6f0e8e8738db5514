"""The mixture of discretized logistics of a pixel (formulas/discretized_logistic_mixture.py), with the numbers of the
pixel in the last dimension.

vk.log_prob has the channels in dimension 1; this class has the form of torch.distributions: an event is the channels of
one pixel.
"""

from typing import Any

import torch
from torch.distributions import constraints

from .. import likelihoods
from ..densities import log_prob
from ..typing import Backend, LikelihoodLike
from .base import FusedDistribution, always_given


class _Level(constraints.Constraint):
    """low + k (high - low) / steps for k = 0 ... steps. A value may differ by 1/1000 of a level."""

    is_discrete = True

    def __init__(self, low, high, steps):
        self.low, self.span, self.steps = low, high - low, steps

    def check(self, value):
        level = (value - self.low) / self.span * self.steps
        nearest = level.round()
        return (nearest >= 0) & (nearest <= self.steps) & ((level - nearest).abs() <= 1e-3)


class DiscretizedLogisticMixture(FusedDistribution):
    """DiscretizedLogisticMixture(packed, components=10, ...), packed [..., P]: the options are those of
    vk.likelihoods.DiscretizedLogisticMixture.

    batch_shape is [...], and event_shape is (channels,). log_prob is the joint log-mass of the channels of a pixel. A
    sample draws a component, then one channel after another.
    """

    likelihood: LikelihoodLike = "discretized_logistic_mixture"
    forms = ((("packed",),),)
    arg_constraints = {"packed": constraints.real_vector}

    def __init__(
        self,
        packed: torch.Tensor,
        validate_args: bool | None = None,
        *,
        components: int = 10,
        levels: int = 256,
        channels: int = 3,
        x_range: tuple[float, float] = (0.0, 1.0),
        min_logscale: float | None = None,
        backend: Backend = "auto",
    ) -> None:
        options = components, levels, channels, x_range, min_logscale
        self.likelihood = likelihoods.with_options(type(self).likelihood, options)
        self._options = likelihoods.options_of(self.likelihood)  # as the object has them
        numbers = self._pixel_formula.sizes(*self._options)[1]
        if not isinstance(packed, torch.Tensor) or packed.dim() == 0 or packed.shape[-1] != numbers:
            came = f"shape {tuple(packed.shape)}" if isinstance(packed, torch.Tensor) else type(packed).__name__
            raise ValueError(f"packed: got {came}, expected a tensor [..., {numbers}], as {self.likelihood!r} has them")
        super().__init__({"packed": packed}, backend, validate_args)
        self._event_shape = torch.Size((channels,))

    @classmethod
    def from_recon(cls, parameters, **options):
        return cls(parameters["packed"].movedim(1, -1), **options)

    packed = always_given("packed")

    @property
    def _pixel_formula(self) -> Any:
        return self._formula

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self):
        low, high = self._pixel_formula.support(*self._options)
        return constraints.independent(_Level(low, high, self._options[1] - 1), 1)

    def _log_prob(self, value):
        (packed,) = self._kernel_parameters()
        sizes = torch.broadcast_shapes(value.shape[:-1], self._batch_shape) or (1,)
        recon, x = (t.expand(*sizes, t.shape[-1]).movedim(-1, 1) for t in (packed, value))
        terms = log_prob(recon, x, likelihood=self.likelihood, backend=self.backend).squeeze(1)
        return terms if value.dim() > 1 or self._batch_shape else terms.reshape(())

    @property
    def mean(self) -> Any:
        """The mean of the formula, exact for the first channel (formulas/discretized_logistic_mixture.py)."""
        packed = self.packed
        flat = packed.reshape(-1, packed.shape[-1])
        return self._formula.mean(flat, *self._options).reshape(*self._batch_shape, -1)

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's default, which is immutable
        with torch.no_grad():
            packed = self.packed.expand(*sample_shape, *self._batch_shape, -1)
            drawn = self._pixel_formula.sample(packed.reshape(-1, packed.shape[-1]), *self._options)
            return drawn.reshape(*packed.shape[:-1], -1)
