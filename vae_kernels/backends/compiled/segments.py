"""A table of columns with autograd. One pass computes each column's nll, and the gradients for an incoming gradient of
the samples that it expects (expected.py)."""

import functools

import torch

from .. import reference
from . import expected
from .autograd import Function, apply, by_reference, in_place, mask, mode_of
from .schemas import KERNELS


def segments(objective, kernels="compiled"):
    """-log p(x | packed, logscale): of each sample [B], and of each column [B, C], which has no gradient."""
    settings, x, (packed, logscale), weight = objective.settings, objective.x, objective.params, objective.weight
    mode = mode_of(kernels)
    incoming = expected.of(settings, objective.params, mode, True)
    if packed.dtype in _HALF or not torch.is_grad_enabled():
        incoming = None
    (columns,) = settings.options
    table = columns.table(packed.device)
    return apply(_Segments, mode, (settings, incoming), table, x, weight, packed, logscale)


_HALF = torch.float16, torch.bfloat16  # a gradient of 16 bits is rounded once, for the incoming gradient that came
_FIRST = 3  # arguments of _Segments before the tensors that may get a gradient


class _Segments(Function):
    @staticmethod
    def forward(ctx, *arguments):
        mode, (settings, incoming), table, x, weight, packed, logscale = arguments
        of_x, of_weight, *needed = ctx.needs_input_grad[_FIRST:]
        need = mask(needed)
        ahead = 0 if incoming is None or of_x or of_weight else need
        out = KERNELS[mode.kernels]["segments"](
            x, packed, logscale, weight, table, ahead, 1.0 if incoming is None else incoming
        )
        nll, terms, *grads = out
        ctx.mode, ctx.settings, ctx.need = mode, settings, need
        ctx.incoming = incoming if grads else None
        if grads:  # never while a compiler traces: expected.py expects nothing then
            ctx.grads = grads
        ctx.save_for_backward(table, x, weight, packed, logscale)
        ctx.mark_non_differentiable(terms)
        ctx.set_materialize_grads(False)
        return nll, terms

    @staticmethod
    def backward(ctx, grad, *_):
        if grad is None:
            return (None,) * (_FIRST + 4)
        needed, create_graph = ctx.needs_input_grad[_FIRST:], torch.is_grad_enabled()
        grads = None
        if ctx.incoming is not None and not create_graph:
            grads = expected.ahead(ctx, grad)
        if grads is None:
            table, *tensors = ctx.saved_tensors
            if create_graph or any(needed[:2]):
                nll = functools.partial(_nll, *ctx.settings.options, grad.dtype)
                return (None,) * _FIRST + by_reference(nll, tensors, needed, (grad,))
            x, weight, packed, logscale = tensors
            backward = KERNELS[ctx.mode.kernels]["segments_backward"]
            grads = backward(grad, x, packed, logscale, weight, table, ctx.need)
        return (None,) * (_FIRST + 2) + in_place(grads, needed[2:])


def _nll(columns, dtype, tensors):
    x, weight, *params = tensors
    return (reference.nll_of_columns(x, params, weight, dtype, columns).sum(1),)


class _LogProb(Function):
    """log p of each column. Its gradients are those of the sum of the terms times a weight, the incoming gradient."""

    @staticmethod
    def forward(ctx, *arguments):
        mode, columns, table, x, packed, logscale = arguments
        _, terms = KERNELS[mode.kernels]["segments"](x, packed, logscale, None, table, 0, 1.0)
        ctx.mode, ctx.columns = mode, columns
        ctx.save_for_backward(table, x, packed, logscale)
        return -terms

    @staticmethod
    def backward(ctx, grad):
        table, *tensors = ctx.saved_tensors
        of_x, *needed = ctx.needs_input_grad[_FIRST:]
        if of_x or torch.is_grad_enabled():  # is_grad_enabled: a second derivative may be wanted
            log_p = functools.partial(_log_p, ctx.columns)
            return (None,) * _FIRST + by_reference(log_p, tensors, (of_x, *needed), (grad,))
        x, packed, logscale = tensors
        minus = grad.new_full((), -1.0).expand(x.shape[:1])
        weight = grad.contiguous()
        backward = KERNELS[ctx.mode.kernels]["segments_backward"]
        grads = backward(minus, x, packed, logscale, weight, table, mask(needed))
        return (None,) * (_FIRST + 1) + in_place(grads, needed)


def _log_p(columns, tensors):
    return (reference.log_prob(columns.likelihood, tensors[0], tuple(tensors[1:]), (columns,)),)


def log_prob(x, params, columns, kernels="compiled"):
    """log p of each column, [B, C]."""
    table = columns.table(params[0].device)
    return apply(_LogProb, mode_of(kernels), columns, table, x, *params)
