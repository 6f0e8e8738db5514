"""The result of fused_elbo(..., return_terms=True)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch.utils._pytree import GetAttrKey, register_pytree_node

Layout = tuple[bool, bool, tuple[int, ...]]
"""The places of the terms in one flat tensor: whether there is an nll, whether there is a kl, and the shape
(B, *latent dims), which is (B,) without a kl_per_dim."""


class Places(NamedTuple):
    """Where the terms begin in one flat tensor, and the size of that tensor. The loss, or its mean, comes first."""

    nll: int
    kl: int
    kl_per_dim: int
    size: int


def places(layout: Layout) -> Places:
    """What is missing has no size."""
    with_nll, with_kl, (rows, *dims) = layout
    kl = 1 + rows * with_nll
    kl_per_dim = kl + rows * with_kl
    return Places(1, kl, kl_per_dim, kl_per_dim + (math.prod(dims) if dims else 0))


_CUT = ("nll", "kl", "kl_per_dim")


@dataclass(frozen=True, eq=False)
class ElboTerms:
    """The loss and its terms, in nats. All terms are detached; only `loss` has a gradient.

    loss        0-d, or [B] with reduction="none": rec_weight * nll + sum_d beta_d * kl_d, reduced
    nll         [B]: -log p(x|z), with weight and without rec_weight
    kl          [B]: KL(q(z|x) || p(z)), with latent_weight and without beta
    kl_per_dim  [latent dims]: the KL of each dimension, the mean over the batch; None if `kl=` gave only sums
    nll_per_column  [columns]: the nll of each column of a table (likelihoods.Mixed), the mean over the batch; or None
    log_weights  [K, B]: from iwae, log w_kb of each draw; or None
    effective_samples  [B]: from iwae, (sum_k w_kb)^2 / sum_k w_kb^2, between 1 and K (Kong 1992); or None

    ElboTerms is a dataclass and a node of torch's pytrees. The tensors are its leaves, so DDP, FSDP2, torch.func and
    torch.export find them.
    """

    loss: torch.Tensor
    nll: torch.Tensor
    kl: torch.Tensor
    kl_per_dim: torch.Tensor | None
    nll_per_column: torch.Tensor | None = None
    log_weights: torch.Tensor | None = None
    effective_samples: torch.Tensor | None = None

    # The kernels write all terms into one tensor. To cut three tensors out of this tensor takes more time than to
    # compute its values. So the terms are cut out when somebody first asks for a term.
    _packed: ClassVar[tuple[torch.Tensor, Layout] | None] = None

    if TYPE_CHECKING:  # a backend gives None for a term that the request lacks, and tree_map gives any object

        def __init__(
            self, loss: Any, nll: Any, kl: Any, kl_per_dim: Any, nll_per_column: Any = None, log_weights: Any = None,
            effective_samples: Any = None,
        ) -> None: ...  # fmt: skip

    def __post_init__(self) -> None:
        for name in _NAMES[1:]:
            term = self.__dict__[name]
            if isinstance(term, torch.Tensor) and term.requires_grad:
                object.__setattr__(self, name, term.detach())

    @staticmethod
    def of_packed(loss: torch.Tensor, packed: torch.Tensor, layout: Layout) -> ElboTerms:
        """ElboTerms of the flat tensor and the layout that packed() gives."""
        terms = object.__new__(ElboTerms)
        object.__setattr__(terms, "loss", loss)
        object.__setattr__(terms, "_packed", (packed, layout))
        return terms

    if not TYPE_CHECKING:  # with this method a type checker would accept every misspelt attribute

        def __getattr__(self, name):
            """Python calls this method for a term that is not cut out yet."""
            if name not in _CUT or self._packed is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            packed, layout = self._packed
            with_nll, with_kl, (_, *dims) = layout
            at = places(layout)
            object.__setattr__(self, "nll", packed[at.nll : at.kl] if with_nll else None)
            object.__setattr__(self, "kl", packed[at.kl : at.kl_per_dim] if with_kl else None)
            object.__setattr__(self, "kl_per_dim", packed[at.kl_per_dim :].view(dims) if dims else None)
            return self.__dict__[name]

    def parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """(nll, kl, kl_per_dim)"""
        return self.nll, self.kl, self.kl_per_dim

    def packed(self) -> tuple[torch.Tensor, Layout]:
        """One flat tensor of the loss (a loss [B] gives its mean), nll, kl and kl_per_dim; and its layout."""
        if self._packed is not None:
            return self._packed
        nll, kl, dims = self.parts()
        rows = len(kl if nll is None else nll)
        flat = [self.loss.detach().mean().view(1), *[t.flatten() for t in self.parts() if t is not None]]
        return torch.cat(flat), (nll is not None, kl is not None, (rows, *(() if dims is None else dims.shape)))


_NAMES = [field.name for field in fields(ElboTerms)]


def _flatten(terms: ElboTerms) -> tuple[list[Any], list[str]]:
    """The leaves and their names. A term that is None is no leaf: torch.func.vmap refuses None."""
    names = [name for name in _NAMES if getattr(terms, name) is not None]
    return [getattr(terms, name) for name in names], names


def _flatten_with_keys(terms: ElboTerms) -> tuple[list[tuple[Any, Any]], list[str]]:
    leaves, names = _flatten(terms)
    return [(GetAttrKey(name), leaf) for name, leaf in zip(names, leaves, strict=True)], names


def _unflatten(leaves: Any, names: Any) -> ElboTerms:
    return ElboTerms(**dict.fromkeys(_NAMES) | dict(zip(names, leaves, strict=True)))


register_pytree_node(
    ElboTerms,
    _flatten,
    _unflatten,
    serialized_type_name="vae_kernels.ElboTerms",  # the name in a graph that torch.export saves
    flatten_with_keys_fn=_flatten_with_keys,
)
