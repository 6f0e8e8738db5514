"""The parameters probs and logits, which two families have: logits = log(probs / (1 - probs))."""

from typing import Any

import torch
from torch.distributions import constraints

from ..typing import Backend
from .base import FusedDistribution, Value, logit_of, parameter, real


class OfLogits(FusedDistribution):
    forms = ((("probs",), ("logits",)),)
    torch_forms = (("logits",), ("probs",))
    arg_constraints = {"probs": constraints.unit_interval, "logits": real}

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

    def entropy(self):
        return -self._log_prob(self.mean)  # log p is linear in x, so E[log p(x)] = log p(E[x])
