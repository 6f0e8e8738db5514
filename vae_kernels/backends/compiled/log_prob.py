"""log p of each term with autograd.

The gradients take no kernel of their own. They are the gradients of the sum over all elements of log p times a weight,
and the weight is the incoming gradient. Where the incoming gradient is 0, the gradient is exactly 0.
"""

import functools

import torch

from ...core import layout
from ...core.objective import Objective, Reduction, Settings
from ...formulas import PIXEL, POSITION, SEGMENTS
from .. import reference
from . import segments
from .autograd import Function, apply, as_weight, by_reference, in_place, mask, mode_of
from .objective import with_defaults
from .pixel import log_prob_of_pixels
from .schemas import KERNELS, flat


def log_prob(likelihood, x, params, options=(), kernels="compiled"):
    """log p of each term. Shapes and layouts are those of the schema."""
    if likelihood in PIXEL:
        return log_prob_of_pixels(likelihood, x, params[0], options, kernels)
    if likelihood in SEGMENTS:
        return segments.log_prob(x, params, options[0], kernels)
    function = _OfPositions if likelihood in POSITION else _LogProb
    arguments = likelihood, options, x, *with_defaults(likelihood, params, options)
    return apply(function, mode_of(kernels), *arguments)


class _LogProb(Function):
    @staticmethod
    def forward(ctx, *arguments):
        mode, likelihood, options, x, *params = arguments
        ctx.mode, ctx.likelihood, ctx.options = mode, likelihood, options
        ctx.save_for_backward(x, *params)
        return KERNELS[mode.kernels]["log_prob"](likelihood, x, params)

    @staticmethod
    def backward(ctx, grad):
        x, *params = ctx.saved_tensors
        _, _, _, of_x, *needed = ctx.needs_input_grad
        if of_x or torch.is_grad_enabled():  # is_grad_enabled: a second derivative may be wanted
            return None, None, None, *_by_reference(ctx, grad, (x, *params))
        settings = Settings(ctx.likelihood, len(params), -1.0, 1.0, 0.0, 0, Reduction.SUM, False)
        request = Objective(settings, x, None, None, as_weight(grad, x), None, None, tuple(params), ())
        arguments = *flat(settings, request.tensors()), mask(needed)
        grads = KERNELS[ctx.mode.kernels]["elbo_backward"](_one(grad), *arguments)
        return None, None, None, None, *in_place(grads, needed)


class _OfPositions(Function):
    """The forward pass saves the two numbers of each position that position.py saves."""

    @staticmethod
    def forward(ctx, *arguments):
        mode, likelihood, options, x, logits = arguments
        _, top_and_total = KERNELS[mode.kernels]["position"](likelihood, x, logits, None)
        ctx.mode, ctx.likelihood, ctx.options = mode, likelihood, options
        ctx.save_for_backward(x, logits, top_and_total)
        top, total = (_in_order_of(x, t) for t in top_and_total)
        level = x.long().clamp(0, logits.shape[1] - 1)  # where x is no level, the total is NaN
        chosen = logits.gather(1, level.unsqueeze(1)).squeeze(1)
        return (chosen.to(total.dtype) - top) - total.log()

    @staticmethod
    def backward(ctx, grad):
        x, logits, top_and_total = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, None, None, *_by_reference(ctx, grad, (x, logits))
        minus = -_one(grad).expand(x.shape[:1])
        position_backward = KERNELS[ctx.mode.kernels]["position_backward"]
        of_logits = position_backward(minus, ctx.likelihood, x, logits, as_weight(grad, x), top_and_total)
        return None, None, None, None, of_logits


def _by_reference(ctx, grad, tensors):
    terms = functools.partial(_terms, ctx.likelihood, ctx.options)
    return by_reference(terms, tensors, ctx.needs_input_grad[3:], (grad,))


def _terms(likelihood, options, tensors):
    return (reference.log_prob(likelihood, tensors[0], tuple(tensors[1:]), options),)


def _one(grad):
    return torch.ones((), dtype=grad.dtype, device=grad.device)


def _in_order_of(x, t):
    """t [B, positions], whose positions lie in the memory order of x, in the shape of x."""
    order = layout.outer_first(x.stride()[1:])
    shape = [x.shape[1 + d] for d in order]
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return t.view(x.shape[0], *shape).permute(0, *(1 + d for d in inverse))
