# pyright: reportMissingImports=false
"""What the training steps of modules.py share: the outputs of single layers, and log p(x | z) of each cell.

A training step is recognised by enabled gradients, not by module.training: scvi-tools leaves a trained or loaded model
in evaluation mode, and Lightning (>= 2.2) does not change the mode when it trains this model again.
"""

from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn.functional import linear, one_hot, softplus

from ...functional import nll
from ...typing import Backend, LikelihoodName, Recon

LIKELIHOODS: dict[str, LikelihoodName] = {"zinb": "zinb", "nb": "negative_binomial", "poisson": "poisson"}
"""gene_likelihood of scvi-tools -> likelihood of this package. "normal" is not supported."""

# The log size of a cell without counts, beside softplus. It is not -inf, because -inf * 0 is NaN. A mean of exp(-80)
# acts like a mean of 0, and no cell with a count has so small a size.
_NO_COUNTS = -80.0


class Observed:
    """p(x | z) of this package, where the loss of scvi-tools expects a distribution or its parameters."""

    def __init__(
        self, likelihood: LikelihoodName, params: Recon, backend: Backend, log_total: torch.Tensor | None = None
    ) -> None:
        self.likelihood: LikelihoodName = likelihood
        self.params = params
        self.log_total = log_total
        self.backend: Backend = backend

    def nll(self, x: torch.Tensor) -> torch.Tensor:
        """-log p(x | z) of each cell, [B], in nats."""
        return nll(self.params, x, likelihood=self.likelihood, log_total=self.log_total, backend=self.backend)

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x | z), [B, 1]: already summed over the genes, so that scvi-tools' .sum(-1) gives log p of a cell."""
        return -self.nll(x).unsqueeze(-1)


def is_step(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether generative(*args, **kwargs) belongs to a training step: gradients, and one sample for each cell."""
    return torch.is_grad_enabled() and not args and kwargs.get("transform_batch") is None and kwargs["z"].dim() == 2


@contextmanager
def outputs_of(**layers):
    """A dict that gets the last output of each layer while the context is open."""
    seen = {}
    handles = [
        layer.register_forward_hook(lambda _, inputs, output, name=name: seen.__setitem__(name, output))
        for name, layer in layers.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class Means(NamedTuple):
    """The means of the counts of a cell: the likelihood's first parameter, and its log_total or None."""

    first: torch.Tensor
    log_total: torch.Tensor | None


def means(logits, log_size, *, softmax):
    """size * softmax(logits), where the soft-max belongs to our op, or size * softplus(logits)."""
    if softmax:
        return Means(logits, log_size)
    return Means(_log_softplus(logits) + log_size.clamp(min=_NO_COUNTS), None)


def log_inverse_dispersion(module, dispersion, tensors, by_cell=None):
    """px_r of scvi-tools before its exp: [G] for "gene", else [B, G]. by_cell is px_r of "gene-cell"."""
    if dispersion == "gene":
        return module.px_r
    if dispersion == "gene-cell":
        return by_cell
    key, number = {"gene-batch": ("batch", "n_batch"), "gene-label": ("labels", "n_labels")}[dispersion]
    chosen = one_hot(tensors[key].squeeze(-1).long(), getattr(module, number))
    return linear(chosen.to(module.px_r.dtype), module.px_r)


def _log_softplus(a):
    """log(log(1 + exp(a))). For a <= -17 it is a itself, to float32 accuracy; there softplus(a) may be 0."""
    return torch.where(a > -17, softplus(a.clamp(min=-17)).log(), a)
