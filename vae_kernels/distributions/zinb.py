"""The zero-inflated negative binomial distribution (formulas/zinb.py): with probability `gate` a count is dropped to 0.

The negative binomial has the forms of negative_binomial.py. The dropout has four names:

    Pyro          gate, gate_logits
    scvi-tools    zi_logits
    here          dropout_logits
"""

from typing import Any

import torch
from torch.distributions import constraints

from ..typing import Backend
from .base import Value, logit_of, parameter, real
from .negative_binomial import CONSTRAINTS, FORMS, NegativeBinomial, NegativeBinomialForms


class ZeroInflatedNegativeBinomial(NegativeBinomialForms):
    """A form of NegativeBinomial, and gate, gate_logits, zi_logits or dropout_logits: formulas/zinb.py."""

    likelihood = "zinb"
    forms = (FORMS, (("gate",), ("gate_logits",), ("zi_logits",), ("dropout_logits",)))
    arg_constraints = CONSTRAINTS | {
        "gate": constraints.unit_interval,
        "gate_logits": real,
        "zi_logits": real,
        "dropout_logits": real,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self,
        total_count: Value | None = None,
        probs: Value | None = None,
        logits: Value | None = None,
        validate_args: bool | None = None,
        *,
        gate: Value | None = None,
        gate_logits: Value | None = None,
        zi_logits: Value | None = None,
        dropout_logits: Value | None = None,
        mu: Value | None = None,
        theta: Value | None = None,
        log_mean: Value | None = None,
        log_inverse_dispersion: Value | None = None,
        backend: Backend = "auto",
    ) -> None:
        given = {"total_count": total_count, "probs": probs, "logits": logits, "mu": mu, "theta": theta}
        given |= {"log_mean": log_mean, "log_inverse_dispersion": log_inverse_dispersion}
        given |= {"gate": gate, "gate_logits": gate_logits, "zi_logits": zi_logits, "dropout_logits": dropout_logits}
        super().__init__(given, backend, validate_args)

    @parameter
    def gate(given: Any):
        return torch.sigmoid(given.dropout_logits)

    @parameter
    def gate_logits(given: Any):
        return given.dropout_logits

    @parameter
    def zi_logits(given: Any):
        return given.dropout_logits

    @parameter
    def dropout_logits(given: Any):
        if "gate" in given:
            return logit_of(given.gate)
        return given.gate_logits if "gate_logits" in given else given.zi_logits

    @property
    def counts(self) -> NegativeBinomial:
        """The negative binomial distribution of a count that is not dropped."""
        given = {name: t for name, t in self._tensors.items() if name in CONSTRAINTS}
        return NegativeBinomial(**given, backend=self.backend, validate_args=False).expand(self._batch_shape)

    @property
    def mean(self):
        return torch.sigmoid(-self.dropout_logits) * self.mu

    @property
    def variance(self):
        kept = torch.sigmoid(-self.dropout_logits)
        return kept * (self.counts.variance + self.gate * self.mu.square())

    @property
    def mode(self):
        mode = self.counts.mode
        return torch.where(self._log_prob(mode) > self._log_prob(torch.zeros_like(mode)), mode, 0)

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's default, which is immutable
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            dropped = torch.bernoulli(self.gate.expand(shape)).bool()
            return torch.where(dropped, 0, self.counts.sample(sample_shape))
