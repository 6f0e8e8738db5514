"""A likelihood of the pixel kind with autograd: P numbers and the C channels of a pixel become one term."""

import functools

import torch

from ...core import draws, layout
from ...core.objective import KlFloor, Settings
from ...formulas import PIXEL
from .. import reference
from . import expected
from .autograd import Function, apply, as_weight, by_reference, mode_of
from .schemas import KERNELS


def pixel(x, packed, weight, settings: Settings, kernels="compiled"):
    """-log p of each sample, [B]; x [B, C, ...], packed [B, P, ...]. The weight of each pixel is in one of the Layouts
    against the terms, [B, 1, ...], or None. The settings are those of the objective."""
    if x.dim() == 2:
        return _of_single_pixels(x, packed, weight, settings, kernels)
    mode, incoming = mode_of(kernels), None
    if torch.is_grad_enabled():
        if mode.compiling:  # the backward pass multiplies by what came, and rounds once
            incoming = 1.0 if settings.ahead and packed.dtype not in _HALF else None
        else:  # a floor of the KL is no matter of the likelihood
            incoming = expected.of(settings._replace(floor=KlFloor.NONE), (packed,), mode, False)
    return apply(_Pixel, mode, settings, incoming, x, weight, packed)


def log_prob_of_pixels(likelihood, x, packed, options, kernels="compiled"):
    """log p of each pixel, [B, 1, ...]. Kernels work on many pixels of a sample together. So samples of one pixel,
    [B, C] and [B, P], become the pixels of one sample."""
    if x.dim() > 2:
        return apply(_LogProb, mode_of(kernels), likelihood, options, x, packed)
    x, (packed,) = layout.likelihood(x.T[None], (packed.T[None],))
    return apply(_LogProb, mode_of(kernels), likelihood, options, x, packed)[0].T


def _of_single_pixels(x, packed, weight, settings, kernels):
    x, weight = draws.repeated(x, weight, packed.shape[0])  # else x would have fewer pixels than packed
    nll = -log_prob_of_pixels(settings.likelihood, x, packed, settings.options, kernels).squeeze(1)
    if weight is None:
        return nll
    weight = weight.expand(len(x), 1).squeeze(1).to(nll.dtype)
    return torch.where(weight != 0, weight * nll, 0.0)


_HALF = torch.float16, torch.bfloat16


def _numbers(likelihood, options):
    return PIXEL[likelihood].numbers(*options)


class _Pixel(Function):
    """As objective.py has the loss of each sample: the forward pass computes the gradient too, for the incoming
    gradient that expected.py expects. If another one comes, the backward pass computes the gradient. A compiler sees
    the gradient for 1, times the incoming gradient: it fuses the product into what follows."""

    @staticmethod
    def forward(ctx, *arguments):
        mode, settings, incoming, x, weight, packed = arguments
        ahead = incoming is not None and ctx.needs_input_grad[5] and not any(ctx.needs_input_grad[3:5])
        numbers = _numbers(settings.likelihood, settings.options)
        op = KERNELS[mode.kernels]["pixel"]
        nll, *grads = op(settings.likelihood, x, packed, weight, numbers, ahead, incoming if ahead else 1.0)
        ctx.mode, ctx.settings = mode, settings
        ctx.incoming = incoming if ahead else None
        if mode.compiling:
            ctx.save_for_backward(x, weight, packed, *grads)
        else:
            ctx.save_for_backward(x, weight, packed)
            ctx.grads = grads
        return nll

    @staticmethod
    def backward(ctx, grad):
        needed, tensors = ctx.needs_input_grad[3:], ctx.saved_tensors[:3]
        if any(needed[:2]) or torch.is_grad_enabled():  # is_grad_enabled: a second derivative may be wanted
            nll = functools.partial(_nll, ctx.settings, grad.dtype)
            return None, None, None, *by_reference(nll, tensors, needed, (grad,))
        grads = None
        if ctx.incoming is not None:
            grads = _rescaled(ctx, grad) if ctx.mode.compiling else expected.ahead(ctx, grad, _correct)
        if grads is None:
            grads = [KERNELS[ctx.mode.kernels]["pixel_backward"](grad, *_request(ctx))]
        return None, None, None, None, None, grads[0]


def _request(ctx):
    """(likelihood, x, packed, weight, options) as the ops take them."""
    x, weight, packed = ctx.saved_tensors[:3]
    likelihood, options = ctx.settings.likelihood, ctx.settings.options
    return likelihood, x, packed, weight, _numbers(likelihood, options)


def _correct(ctx, grads, grad):
    KERNELS[ctx.mode.kernels]["pixel_correct_"](*grads, grad, ctx.incoming, *_request(ctx))


def _rescaled(ctx, grad):
    ahead = ctx.saved_tensors[3]
    return [grad.view(-1, *[1] * (ahead.dim() - 1)) * ahead]


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
