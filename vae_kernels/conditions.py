"""The condition c of a conditional model: a tensor, or a pytree of tensors (tuples, lists, dicts of tensors).

Dimension 0 of each tensor is the batch. A network, and a prior, gets the condition in one piece. This file checks the
batch, takes some of the samples, and repeats samples for K draws of z.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from .priors import ConditionalGaussian, Prior
from .sampling import reparameterize


def check(condition: Any, like: torch.Tensor, of: str) -> None:
    """Each tensor of the condition must have the batch and the device of `like`; `of` is the name of `like`.

    TypeError, ValueError: naming the argument, what came, and what is expected. None is no condition.
    """
    if condition is None:
        return
    if like.dim() == 0:
        raise ValueError(f"{of}: got a 0-d tensor, expected the batch as dimension 0")
    leaves, _ = tree_flatten(condition)
    if not leaves:
        raise ValueError(f"condition: got {condition!r}, expected at least one tensor")
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            raise TypeError(f"condition: got {type(leaf).__name__}, expected a tensor, or a pytree of tensors")
        if leaf.is_nested or leaf.layout is not torch.strided:
            raise TypeError("condition: got a nested or sparse tensor, expected dense ones")
        if leaf.dim() == 0 or leaf.shape[0] != like.shape[0]:
            expected = f"expected the batch of {of}, {like.shape[0]}, as dimension 0"
            raise ValueError(f"condition: got shape {tuple(leaf.shape)}, {expected}")
        if leaf.device != like.device:
            raise ValueError(f"condition: is on {leaf.device}, but {of} is on {like.device}; expected one device")


def rows_of(condition: Any, rows: slice | torch.Tensor) -> Any:
    """The condition of some of the samples; None if there is none."""
    return condition if condition is None else tree_map(lambda t: t[rows], condition)


def split(condition: Any, size: int, rows: int) -> Iterator[Any]:
    """The conditions of the batches that x.split(size) gives, for x with so many rows."""
    for start in range(0, rows, size):
        yield rows_of(condition, slice(start, start + size))


def copies(condition: Any, k: int) -> Any:
    """The condition k times, one copy after the other: [k B, ...], as z [K, B, ...] becomes z.flatten(0, 1). None if
    there is none."""
    return (
        condition
        if condition is None
        else tree_map(lambda t: t.expand(k, *t.shape).reshape(-1, *t.shape[1:]), condition)
    )


def prior_of(prior: Any, condition: Any) -> Any:
    """The prior under this condition: a ConditionalGaussian gives its pair (mu, logvar), any other prior is given
    back."""
    if not isinstance(prior, ConditionalGaussian):
        return prior
    if condition is None:
        raise TypeError("condition: got None, expected a tensor or a pytree of tensors: the prior needs its condition")
    return prior(condition)


def draws(prior, n, shape, like, condition, generator, backend) -> torch.Tensor:
    """n draws of the prior, [n, *shape]. shape may be None where the prior knows the shape of one z."""
    if isinstance(prior, Prior):
        return prior.sample(n, generator=generator)
    pair = prior_of(prior, condition)
    if pair is None:
        mu = logvar = like.new_zeros(n, *shape)
    else:
        shape = pair[0].shape if shape is None else (n, *shape)
        mu, logvar = (part.expand(shape) for part in pair)
    return reparameterize(mu, logvar, generator=generator, backend=backend)


def to(condition: Any, device: torch.device) -> Any:
    """The condition on this device."""
    return condition if condition is None else tree_map(lambda t: t.to(device), condition)
