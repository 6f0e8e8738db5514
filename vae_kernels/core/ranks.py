"""Means over the batch of all ranks of a process group (torch.distributed), for `group=`."""

from typing import Any

import torch

from . import dtensor


def batch_mean(name: str, t: torch.Tensor, group: Any) -> torch.Tensor:
    """The mean of t [B, ...] over dimension 0; over the samples of all ranks, if there is a group.

    The ranks may have different numbers of samples, and a rank may have none. The mean is differentiable: the backward
    pass sums the incoming gradients of the ranks, so each rank has to run the backward pass.
    """
    if group is None:
        return t.mean(0)
    _check(name, t, group)
    # the number of samples is sent beside the sums: 16 bits cannot hold the number
    wide = t.to(torch.promote_types(t.dtype, torch.float32))
    own = torch.cat([wide.sum(0).flatten(), wide.new_full((1,), len(t))])
    total: Any = _Sum.apply(own, group)
    return (total[:-1] / total[-1]).view(t.shape[1:]).to(t.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the ranks. torch.distributed.nn has deprecated its own, and what it names instead is private."""

    @staticmethod
    def forward(ctx, own, group):
        ctx.group = group
        total = own.clone()
        torch.distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, grad):  # type: ignore[override]
        return _Sum.apply(grad, ctx.group), None


def _check(name, t, group):
    if not torch.distributed.is_available() or not isinstance(group, torch.distributed.ProcessGroup):
        expected = "None or a torch.distributed.ProcessGroup that has this rank"
        raise TypeError(f"group: got {type(group).__name__}, expected {expected}")
    if dtensor.any_of((t,)):
        raise TypeError(f"group: given beside a DTensor, {name}, whose mean is over all ranks already; expected None")
