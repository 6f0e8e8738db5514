"""The Bernoulli distribution (formulas/bernoulli.py). logits = log(probs / (1 - probs))."""

from typing import Any

import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import constraints

from ..typing import Backend
from .base import FusedDistribution, Value, logit_of, parameter, real


class Bernoulli(FusedDistribution):
    """Bernoulli(probs) or Bernoulli(logits=...): formulas/bernoulli.py.

    With validate_args=False, log_prob also takes values between 0 and 1, as vk.log_prob does. probs may be exactly 0
    or 1, and their gradient there is 0, as in torch. The logarithm of an impossible value is then the most negative
    finite number.
    """

    likelihood = "bernoulli"
    forms = ((("probs",), ("logits",)),)
    torch_class, torch_forms = TorchBernoulli, (("logits",), ("probs",))
    arg_constraints = {"probs": constraints.unit_interval, "logits": real}
    support = constraints.boolean
    has_enumerate_support = True

    def __init__(
        self,
        probs: Value | None = None,
        logits: Value | None = None,
        validate_args: bool | None = None,
        *,
        backend: Backend = "auto",
    ) -> None:
        super().__init__({"probs": probs, "logits": logits}, backend, validate_args)

    @parameter
    def probs(given: Any):
        return torch.sigmoid(given.logits)

    @parameter
    def logits(given: Any):
        return logit_of(given.probs)

    @property
    def mean(self):
        return self.probs

    def entropy(self):
        return -self._log_prob(self.probs)  # log p is linear in x, so E[log p(x)] = log p(E[x])
