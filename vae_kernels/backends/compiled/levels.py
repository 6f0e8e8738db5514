"""The likelihood over levels with autograd: row-wise log-sum-exp forward, softmax minus one-hot backward."""

import torch

from ...formulas import LEVELS
from .schemas import KERNELS


def levels(x, logits, likelihood, kernels="compiled"):
    """-log p(x | logits) of each sample, [B]; x [B, ...] integers, logits [B, K, ...], likelihood a name in LEVELS."""
    compiling = torch.compiler.is_compiling()
    if compiling and kernels == "triton":
        kernels = "triton ops"
    return (_Levels.apply if compiling else _apply_levels)(kernels, likelihood, x, logits)


class _Levels(torch.autograd.Function):
    """What is kept of the forward pass is two numbers a position, from which a logit's softmax is one exponential."""

    @staticmethod
    def forward(ctx, kernels, likelihood, x, logits):
        nll, top_and_total = KERNELS[kernels]["levels"](x, logits)
        ctx.kernels, ctx.likelihood = kernels, likelihood
        ctx.save_for_backward(x, logits, top_and_total)
        return nll

    @staticmethod
    def backward(ctx, grad):
        x, logits, top_and_total = ctx.saved_tensors
        if torch.is_grad_enabled():  # of a higher order
            nll = LEVELS[ctx.likelihood].nll(x, logits.to(grad.dtype)).flatten(1).sum(1)
            (of_logits,) = torch.autograd.grad(nll, logits, grad, create_graph=True)
        else:
            of_logits = KERNELS[ctx.kernels]["levels_backward"](grad, x, logits, top_and_total)
        return None, None, None, of_logits


_apply_levels = super(torch.autograd.Function, _Levels).apply  # as _apply_elbo  # pyright: ignore
