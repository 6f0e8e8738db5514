"""A likelihood of the position kind with autograd: K logits of a position become one term."""

import torch

from ...formulas import POSITION
from .autograd import Function, apply, mode_of
from .schemas import KERNELS


def position(x, logits, likelihood, kernels="compiled"):
    """-log p(x | logits) of each sample, [B]; x [B, ...] integers, logits [B, K, ...], likelihood of POSITION."""
    return apply(_Position, mode_of(kernels), likelihood, x, logits)


class _Position(Function):
    """The forward pass saves two numbers for each position. With them the softmax of a logit is one exponential."""

    @staticmethod
    def forward(ctx, *arguments):
        mode, likelihood, x, logits = arguments
        nll, top_and_total = KERNELS[mode.kernels]["position"](likelihood, x, logits)
        ctx.mode, ctx.likelihood = mode, likelihood
        ctx.save_for_backward(x, logits, top_and_total)
        return nll

    @staticmethod
    def backward(ctx, grad):
        x, logits, top_and_total = ctx.saved_tensors
        if torch.is_grad_enabled():  # of a higher order
            nll = POSITION[ctx.likelihood].nll(x, logits.to(grad.dtype)).flatten(1).sum(1)
            (of_logits,) = torch.autograd.grad(nll, logits, grad, create_graph=True)
        else:
            of_logits = KERNELS[ctx.mode.kernels]["position_backward"](grad, ctx.likelihood, x, logits, top_and_total)
        return None, None, None, of_logits
