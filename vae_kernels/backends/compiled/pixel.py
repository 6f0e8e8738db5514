"""A likelihood of the pixel kind with autograd: P numbers and the C channels of a pixel become one term."""

import functools

import torch

from ...core import layout
from ...core.objective import Settings
from ...formulas import PIXEL
from .. import reference
from . import expected
from .autograd import Function, apply, as_weight, by_reference, mode_of
from .schemas import KERNELS


def pixel(x, packed, weight, settings: Settings, kernels="compiled"):
    """-log p of each sample, [B]; x [B, C, ...], packed [B, P, ...]. The weight of each pixel is in one of the Layouts
    against the terms, [B, 1, ...], or None. The settings are those of the objective."""
    mode = mode_of(kernels)
    ahead = packed.is_cpu and kernels == "compiled" and torch.is_grad_enabled()  # no other kernel corrects a gradient
    incoming = expected.of(settings, (packed,), mode, False) if ahead else None
    return apply(_Pixel, mode, settings, incoming, x, weight, packed)


def log_prob_of_pixels(likelihood, x, packed, options, kernels="compiled"):
    """log p of each pixel, [B, 1, ...]."""
    return apply(_LogProb, mode_of(kernels), likelihood, options, x, packed)


def _numbers(likelihood, options):
    return PIXEL[likelihood].numbers(*options)


class _Pixel(Function):
    """As objective.py has the loss of each sample: the forward pass computes the gradient too, for the incoming
    gradient that expected.py expects. If another one comes, the backward pass computes the gradient."""

    @staticmethod
    def forward(ctx, *arguments):
        mode, settings, incoming, x, weight, packed = arguments
        ahead = incoming is not None and ctx.needs_input_grad[5] and not any(ctx.needs_input_grad[3:5])
        numbers = _numbers(settings.likelihood, settings.options)
        op = KERNELS[mode.kernels]["pixel"]
        nll, *grads = op(settings.likelihood, x, packed, weight, numbers, ahead, incoming if ahead else 1.0)
        ctx.mode, ctx.settings = mode, settings
        ctx.save_for_backward(x, weight, packed)
        ctx.grads, ctx.incoming = grads, incoming if ahead else None
        return nll

    @staticmethod
    def backward(ctx, grad):
        needed = ctx.needs_input_grad[3:]
        if any(needed[:2]) or torch.is_grad_enabled():  # is_grad_enabled: a second derivative may be wanted
            nll = functools.partial(_nll, ctx.settings, grad.dtype)
            return None, None, None, *by_reference(nll, ctx.saved_tensors, needed, (grad,))
        grads = None if ctx.incoming is None else expected.ahead(ctx, grad)
        if grads is None:
            x, weight, packed = ctx.saved_tensors
            likelihood, numbers = ctx.settings.likelihood, _numbers(ctx.settings.likelihood, ctx.settings.options)
            backward = KERNELS[ctx.mode.kernels]["pixel_backward"]
            grads = [backward(grad, likelihood, x, packed, weight, numbers)]
        return None, None, None, None, None, grads[0]


def _nll(settings, dtype, tensors):
    x, weight, packed = tensors
    return (reference.nll(x, (packed,), settings.likelihood, weight, dtype, options=settings.options),)


class _LogProb(Function):
    @staticmethod
    def forward(ctx, *arguments):
        mode, likelihood, options, x, packed = arguments
        ctx.mode, ctx.likelihood, ctx.options = mode, likelihood, options
        ctx.save_for_backward(x, packed)
        return KERNELS[mode.kernels]["pixel_log_prob"](likelihood, x, packed, _numbers(likelihood, options))

    @staticmethod
    def backward(ctx, grad):
        x, packed = ctx.saved_tensors
        if ctx.needs_input_grad[3] or torch.is_grad_enabled():
            terms = lambda t: (reference.log_prob(ctx.likelihood, t[0], (t[1],), ctx.options),)  # noqa: E731
            return None, None, None, *by_reference(terms, (x, packed), ctx.needs_input_grad[3:], (grad,))
        one = torch.ones((), dtype=grad.dtype, device=grad.device)
        weight = as_weight(grad, layout.terms_like(x, (packed,)))
        backward = KERNELS[ctx.mode.kernels]["pixel_backward"]
        of_packed = backward(-one, ctx.likelihood, x, packed, weight, _numbers(ctx.likelihood, ctx.options))
        return None, None, None, None, of_packed
