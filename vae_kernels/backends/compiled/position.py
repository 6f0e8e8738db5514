"""A likelihood of the position kind with autograd: K logits of a position become one term."""

import functools

import torch

from .. import reference
from .autograd import Function, apply, by_reference, mode_of
from .schemas import KERNELS


def position(x, logits, weight, likelihood, kernels="compiled"):
    """-log p(x | logits) of each sample, [B]; x [B, ...] integers, logits [B, K, ...], a likelihood of the position
    kind. The weight of each position is in one of the Layouts against x, or None."""
    return apply(_Position, mode_of(kernels), likelihood, x, weight, logits)


class _Position(Function):
    """The forward pass saves two numbers for each position. With them the softmax of a logit is one exponential."""

    @staticmethod
    def forward(ctx, *arguments):
        mode, likelihood, x, weight, logits = arguments
        nll, top_and_total = KERNELS[mode.kernels]["position"](likelihood, x, logits, weight)
        ctx.mode, ctx.likelihood = mode, likelihood
        ctx.save_for_backward(x, weight, logits, top_and_total)
        return nll

    @staticmethod
    def backward(ctx, grad):
        x, weight, logits, top_and_total = ctx.saved_tensors
        weight_needs, logits_need = ctx.needs_input_grad[3:]
        if weight_needs or torch.is_grad_enabled():  # is_grad_enabled: a second derivative may be wanted
            nll = functools.partial(_nll, ctx.likelihood, x, grad.dtype)
            return None, None, None, *by_reference(nll, (weight, logits), ctx.needs_input_grad[3:], (grad,))
        position_backward = KERNELS[ctx.mode.kernels]["position_backward"]
        of_logits = position_backward(grad, ctx.likelihood, x, logits, weight, top_and_total) if logits_need else None
        return None, None, None, None, of_logits


def _nll(likelihood, x, dtype, tensors):
    weight, logits = tensors
    return (reference.nll(x, (logits,), likelihood, weight, dtype),)
