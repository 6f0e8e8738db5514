"""The categorical distribution of the levels 0..K-1 (formulas/categorical.py), with K logits in the last dimension.

vk.log_prob has the levels in dimension 1; this class has the form of torch.distributions.
"""

from typing import Any

import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import constraints

from ..densities import log_prob
from ..typing import Backend
from .base import FusedDistribution, check_values, log_of, parameter


class Categorical(FusedDistribution):
    """Categorical(probs) or Categorical(logits=...), [..., K]: formulas/categorical.py.

    probs need not sum to 1, as in torch. A level with probability 0 has a gradient of 0. The attribute logits has the
    given logits, which torch normalises. mean and variance are those of the level as a number, which torch gives as
    NaN.
    """

    likelihood = "categorical"
    forms = ((("probs",), ("logits",)),)
    torch_class, torch_forms = TorchCategorical, (("logits",), ("probs",))
    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(
        self,
        probs: torch.Tensor | None = None,
        logits: torch.Tensor | None = None,
        validate_args: bool | None = None,
        *,
        backend: Backend = "auto",
    ) -> None:
        for name, t in (("probs", probs), ("logits", logits)):
            if t is not None and (not isinstance(t, torch.Tensor) or t.dim() == 0 or t.shape[-1] == 0):
                came = f"shape {tuple(t.shape)}" if isinstance(t, torch.Tensor) else type(t).__name__
                raise ValueError(f"{name}: got {came}, expected a tensor [..., K] with K >= 1")
        shares = None if probs is None else probs / probs.sum(-1, keepdim=True)
        super().__init__({"probs": shares, "logits": logits}, backend, validate_args)
        if self._validate_args and probs is not None:  # the shares of negative numbers may look like probabilities
            check_values("probs", probs, constraints.independent(constraints.nonnegative, 1))

    @classmethod
    def from_recon(cls, parameters, **options):
        return cls(logits=parameters["logits"].movedim(1, -1), **options)

    @parameter
    def probs(given: Any):
        return torch.softmax(given.logits, -1)

    @parameter
    def logits(given: Any):
        return log_of(given.probs)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self):
        return constraints.integer_interval(0, self._levels - 1)

    @property
    def _levels(self):
        return next(iter(self._tensors.values())).shape[-1]

    def _log_prob(self, value):
        value = value if not value.is_floating_point() else value.long()
        (logits,) = self._kernel_parameters()
        shape = torch.broadcast_shapes(value.shape, self._batch_shape)
        if shape != self._batch_shape:  # many values for one row of logits: the softmax is computed once
            table = torch.log_softmax(logits, -1).expand(*shape, -1)
            return table.gather(-1, value.long().expand(shape).unsqueeze(-1)).squeeze(-1)
        sizes = shape or (1,)
        logits = logits.expand(*sizes, -1).movedim(-1, 1)
        terms = log_prob(logits, value.expand(sizes), likelihood=self.likelihood, backend=self.backend)
        return terms if shape else terms.reshape(())

    @property
    def mean(self):
        return self.probs @ self._numbers()

    @property
    def variance(self):
        return (self.probs * (self._numbers() - self.mean.unsqueeze(-1)).square()).sum(-1)

    def _numbers(self):
        return torch.arange(self._levels, dtype=self._dtype, device=self.probs.device)
