"""What fused_elbo(..., return_terms=True) gives."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch.utils._pytree import GetAttrKey, register_pytree_node

Layout = tuple[bool, bool, tuple[int, ...]]
"""How terms lie in one flat tensor: whether there is an nll, whether there is a kl, and the shape [B, latent dims], or
[B] without a kl_per_dim."""


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
    """The loss and its terms, in nats; all but `loss` are detached.

    loss        0-d, or [B] with reduction="none": rec_weight * nll + sum_d beta_d * kl_d, reduced
    nll         [B]: -log p(x|z), unweighted
    kl          [B]: KL(q(z|x) || p(z)), unweighted
    kl_per_dim  the latent dims: the mean over the batch of each dimension's KL; None where `kl=` gave only sums

    A dataclass, and a node of torch's pytrees whose leaves are the tensors: DDP, FSDP2, torch.func and torch.export
    find the tensors in it.
    """

    loss: torch.Tensor
    nll: torch.Tensor
    kl: torch.Tensor
    kl_per_dim: torch.Tensor | None

    # The kernels write all terms into one tensor. It takes more time to make three tensors of the one tensor than to
    # compute what is in it. So the terms are cut out of the one tensor when somebody first asks for one of them.
    _packed: ClassVar[tuple[torch.Tensor, Layout] | None] = None

    if TYPE_CHECKING:  # a backend has None for a term that a request lacks, and tree_map puts anything here

        def __init__(self, loss: Any, nll: Any, kl: Any, kl_per_dim: Any) -> None: ...

    def __post_init__(self) -> None:
        for name in _CUT:
            term = self.__dict__[name]
            if isinstance(term, torch.Tensor) and term.requires_grad:
                object.__setattr__(self, name, term.detach())

    @staticmethod
    def of_packed(loss: torch.Tensor, packed: torch.Tensor, layout: Layout) -> ElboTerms:
        """Terms that lie in one flat tensor, as packed() gives them."""
        terms = object.__new__(ElboTerms)
        object.__setattr__(terms, "loss", loss)
        object.__setattr__(terms, "_packed", (packed, layout))
        return terms

    if not TYPE_CHECKING:  # a type checker that sees this method takes every misspelt name for an attribute

        def __getattr__(self, name):
            """Python calls this where a term is not cut out yet."""
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
        """The loss, or its mean where it is [B], nll, kl and kl_per_dim in one flat tensor; and how they lie there."""
        if self._packed is not None:
            return self._packed
        nll, kl, dims = self.parts()
        rows = len(kl if nll is None else nll)
        flat = [self.loss.detach().mean().view(1), *[t.flatten() for t in self.parts() if t is not None]]
        return torch.cat(flat), (nll is not None, kl is not None, (rows, *(() if dims is None else dims.shape)))


_NAMES = [field.name for field in fields(ElboTerms)]


def _flatten(terms: ElboTerms) -> tuple[list[Any], list[str]]:
    """The leaves and their names; a term that is None is no leaf, since torch.func.vmap refuses one."""
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
    serialized_type_name="vae_kernels.ElboTerms",  # of a graph that torch.export has saved
    flatten_with_keys_fn=_flatten_with_keys,
)
