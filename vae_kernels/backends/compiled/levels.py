"""The likelihood over levels with autograd: row-wise log-sum-exp forward, softmax minus one-hot backward."""

import torch

from ...formulas import LEVELS
from .autograd import Function, apply, mode_of
from .schemas import KERNELS


def levels(x, logits, likelihood, kernels="compiled"):
    """-log p(x | logits) of each sample, [B]; x [B, ...] integers, logits [B, K, ...], likelihood a name in LEVELS."""
    return apply(_Levels, mode_of(kernels), likelihood, x, logits)


class _Levels(Function):
    """What is kept of the forward pass is two numbers a position, from which a logit's softmax is one exponential."""

    @staticmethod
    def forward(ctx, *arguments):
        mode, likelihood, x, logits = arguments
        nll, top_and_total = KERNELS[mode.kernels]["levels"](x, logits)
        ctx.mode, ctx.likelihood = mode, likelihood
        ctx.save_for_backward(x, logits, top_and_total)
        return nll

    @staticmethod
    def backward(ctx, grad):
        x, logits, top_and_total = ctx.saved_tensors
        if torch.is_grad_enabled():  # of a higher order
            nll = LEVELS[ctx.likelihood].nll(x, logits.to(grad.dtype)).flatten(1).sum(1)
            (of_logits,) = torch.autograd.grad(nll, logits, grad, create_graph=True)
        else:
            of_logits = KERNELS[ctx.mode.kernels]["levels_backward"](grad, x, logits, top_and_total)
        return None, None, None, of_logits
