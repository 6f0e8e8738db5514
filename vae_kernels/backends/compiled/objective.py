"""The objective with autograd. One pass computes the loss, and the gradients for an expected incoming gradient."""

import math
from typing import Any

import torch

from ...core.objective import WITHOUT_KERNEL, Objective, Reduction, factor_of, restored
from ...core.terms import ElboTerms
from ...formulas import ALL, PIXEL, POSITION, SEGMENTS, is_row
from .. import reference
from . import expected
from .autograd import Function, apply, by_reference, gradients_of, in_place, mask, mode_of
from .pixel import pixel
from .position import position
from .schemas import KERNELS, flat
from .segments import segments

_OF_TWO_OPS = {*POSITION, *PIXEL, *SEGMENTS}


def elbo(objective, kernels="compiled"):
    """The loss that the request asks for, or ElboTerms, by the ops. Shapes and layouts are those of the schema."""
    # Unpacked once, and named one by one: this function and _Elbo.forward take most of a small call's time.
    settings, x, rec_weight, beta, weight, latent_weight, nats, params, latent, log_total = objective
    if settings.likelihood in _OF_TWO_OPS:
        return _elbo_of_two_ops(objective, kernels)
    row = is_row(settings.likelihood, log_total)
    if params:
        params = with_defaults(settings.likelihood, params, settings.options)
        if len(params) > settings.parameters:
            settings = settings._replace(parameters=len(params))
    mode = mode_of(kernels)
    if settings.reduction == Reduction.NONE:
        incoming, never = expected.of(settings, params, mode, row), _HALF
    else:
        incoming, never = 1.0, _NEVER_ONE_PASS[mode.compiling]
    if not torch.is_grad_enabled():
        incoming = None
    for t in (*params, *latent):
        if t.dtype in never:
            incoming = None
    tensors = x, rec_weight, beta, weight, latent_weight, nats, *params, *latent, log_total
    out = apply(_Elbo, mode, (settings, incoming), *tensors)
    if not settings.terms:
        return out
    shape = latent[0].shape if latent else params[0].shape[:1]
    loss, packed = out
    return ElboTerms.of_packed(loss, packed, (len(params) > 0, len(latent) > 0, shape))


def with_defaults(likelihood, params, options):
    """The kernels read 0 for a parameter that is left out. Another default of the formula is given as a tensor, and so
    are the options, as further parameters."""
    formula: Any = ALL[likelihood]
    numbers = formula.numbers(*options) if options else ()
    if len(params) == len(formula.PARAMETERS) and not numbers:
        return params
    defaults = [*(formula.DEFAULTS[name] for name in formula.PARAMETERS[len(params) :]), *numbers]
    if not any(defaults):
        return params
    dtype, device = reference.compute_dtype(*params), params[0].device
    return *params, *(torch.full((), value, dtype=dtype, device=device) for value in defaults)


# {compiling: storage types whose gradients are never computed in the pass of the loss}. In eager mode bfloat16 is not
# among them: an incoming gradient of 1, or of another power of two, does not round the bfloat16 a second time.
_HALF = torch.float16, torch.bfloat16
_NEVER_ONE_PASS = {False: (torch.float16,), True: _HALF}


class _Elbo(Function):
    """The forward pass computes the gradients too, for an incoming gradient that it expects.

    With a scalar loss it expects 1. If another incoming gradient comes, the backward pass multiplies the gradients by
    it. With a loss per sample it expects what expected.py says. If another incoming gradient comes, the backward pass
    computes the gradients again, and does not multiply them: so their bits are the same either way.

    In two more cases the backward pass computes the gradients: with float16 storage, where an unscaled gradient
    underflows; and with bfloat16 storage, where the product would be rounded a second time.
    """

    @staticmethod
    def forward(ctx, *arguments):
        mode, (settings, incoming), *tensors = arguments
        _, _, of_x, of_rec_weight, of_beta, of_weight, of_latent_weight, of_nats, *needed = ctx.needs_input_grad
        need = ahead = mask(needed)
        # No kernel has the gradients of these: the reference then gives all gradients.
        if incoming is None or of_x or of_rec_weight or of_beta or of_weight or of_latent_weight or of_nats:
            ahead, incoming = 0, 1.0
        terms = settings.terms
        out = KERNELS[mode.kernels]["elbo"](*flat(settings, tensors), ahead, terms, incoming)
        # A saved tensor lives as long as the graph. An attribute can be given away earlier: in eager mode the gradient
        # that leaves the backward pass then has one owner, and autograd need not copy it.
        grads = out[1 + terms :]
        if grads and settings.balance is not None:
            grads = _balanced(grads, settings.balance, needed)
        ctx.mode, ctx.settings, ctx.need = mode, settings, need
        ctx.incoming = incoming if grads else None
        if mode.compiling:
            ctx.save_for_backward(*tensors, *grads)
        else:
            ctx.save_for_backward(*tensors)
            ctx.grads = grads
        if not terms:
            return out[0]
        ctx.mark_non_differentiable(out[1])
        if not mode.compiling:
            ctx.set_materialize_grads(False)  # else the backward pass makes zeros for the terms
        return out[0], out[1]

    @staticmethod
    def backward(ctx, grad, *_):
        create_graph = torch.is_grad_enabled()
        grads, needed = None, ctx.needs_input_grad
        if not create_graph:
            if ctx.settings.reduction == Reduction.NONE:
                grads = expected.ahead(ctx, grad)
            elif ctx.incoming is not None:
                grads = _rescaled(ctx, grad)
        if grads is None:
            tensors = ctx.saved_tensors[: len(needed) - _NO_TENSORS]
            if create_graph or any(needed[_NO_TENSORS:_FIRST]):
                settings = ctx.settings._replace(terms=False)
                loss = lambda tensors: (reference.elbo(restored(settings, tensors)),)  # noqa: E731
                return None, None, *by_reference(loss, tensors, needed[_NO_TENSORS:], (grad,))
            grads = KERNELS[ctx.mode.kernels]["elbo_backward"](grad, *flat(ctx.settings, tensors), ctx.need)
            if ctx.settings.balance is not None:
                grads = _balanced(grads, ctx.settings.balance, needed[_FIRST:])
        return in_place(grads, needed)


def _balanced(grads, balance, needed):
    """The gradients of mu, logvar and the prior, as far as they are needed, times their shares."""
    shares = 1 - balance, 1 - balance, balance, balance, 1
    wanted = [share for share, n in zip(shares, needed, strict=True) if n]
    return [share * g for share, g in zip(wanted, grads, strict=True)]


_NO_TENSORS = 2  # arguments of _Elbo before the tensors
_FIRST = _NO_TENSORS + WITHOUT_KERNEL  # the first argument whose gradient a kernel computes


def _rescaled(ctx, grad):
    """The gradients of forward() times the incoming gradient. None if the product would round a bfloat16 twice."""
    if ctx.mode.compiling:
        saved = ctx.saved_tensors[len(ctx.needs_input_grad) - _NO_TENSORS :]
        return [(grad * g).to(g.dtype) for g in saved]
    grads, keep = gradients_of(ctx)
    if type(grad) is not torch.Tensor:  # a fake tensor of torch, which has no value to read
        return [g * grad for g in grads]
    if grad.is_cuda:  # never wait for the device: this would cost more than a second rounding of a bfloat16
        if keep:
            return [g * grad for g in grads]
        ctx.grads = None
        KERNELS[ctx.mode.kernels]["rescale_"](grads, grad)
        return grads
    scale = grad.item()
    if scale != 1:
        power_of_two = math.frexp(scale)[0] in (0.0, 0.5)
        if not power_of_two and any(g.dtype == torch.bfloat16 for g in grads):
            return None
    if keep:
        return [g * scale for g in grads]
    ctx.grads = None
    return grads if scale == 1 else [g.mul_(scale) for g in grads]


def _elbo_of_two_ops(objective, kernels):
    """The loss from two ops: one for the likelihood of positions, pixels or columns, and one for the latent term."""
    settings, x, rec_weight, beta, weight, latent_weight, nats, params, latent, _ = objective
    kl = kl_per_dim = per_column = None
    if settings.likelihood in SEGMENTS:
        nll, each = segments(objective, kernels)
        per_column = each.mean(0) if settings.terms else None
    elif settings.likelihood in PIXEL:
        nll = pixel(x, params[0], weight, settings, kernels)
    else:
        nll = position(x, params[0], weight, settings.likelihood, kernels)
    loss = nll if rec_weight is None and settings.rec_weight == 1 else factor_of(settings.rec_weight, rec_weight) * nll
    if latent:
        alone = settings._replace(likelihood="", parameters=0, reduction=Reduction.NONE, options=())
        of_latent = elbo(Objective(alone, None, None, beta, None, latent_weight, nats, (), latent), kernels)
        if settings.terms:
            _, kl, kl_per_dim = of_latent.parts()
            of_latent = of_latent.loss
        loss = loss + of_latent
    if settings.reduction != Reduction.NONE:
        loss = loss.mean() if settings.reduction == Reduction.MEAN else loss.sum()
    return ElboTerms(loss, nll.to(loss.dtype), kl, kl_per_dim, per_column) if settings.terms else loss
