"""The usual loss of a batch, its mean or its sum: the likelihood, and the KL. The KL is given for each sample, or is
that of the posterior to N(0, I). One autograd function computes both, unless PyTorch has an operation for the
likelihood and the batch is small: Python would then take longer than the operation."""

import functools

import torch

from ...core.objective import Reduction, restored
from ...formulas.kl import lean_gaussian_kl
from .. import reference
from ..compiled.autograd import Function, by_reference, gradients_of
from .likelihood import OF_BATCH, Term, at_once, computed, is_lean, sum_at_once
from .matrices import multiplied, of_parameters


def is_usual(objective):
    """Whether loss() computes the objective: both weights are plain numbers, and nothing but the loss is wanted."""
    settings, x, rec_weight, beta, weight, latent_weight, _, params, latent, log_total = objective
    if settings.reduction == Reduction.NONE or settings.terms or settings.floor or x is None:
        return False
    if rec_weight is not None or beta is not None or latent_weight is not None or log_total is not None:
        return False
    if len(latent) == 4 or (len(latent) == 1 and latent[0].dim() > 1):
        return False
    return x.shape[0] == params[0].shape[0] > 0 and is_lean(settings.likelihood, x, weight)


def loss(objective):
    """The loss that a usual objective asks for, 0-d, in the compute dtype."""
    settings, x, params, latent = objective.settings, objective.x, objective.params, objective.latent
    total = None if objective.weight is not None else sum_at_once(settings.likelihood, x, params)
    if total is not None and len(latent) < 2:
        of_nll, of_kl = _factors(settings, x.shape[0])
        total = total if of_nll == 1 else total * of_nll
        return total.add(latent[0].sum(), alpha=of_kl) if latent else total
    given = objective.x, objective.weight, *objective.params, *objective.latent
    return _Loss.apply_eager(objective.settings, torch.is_grad_enabled(), *given)


class _Loss(Function):
    """The gradients are made in the forward pass, and the backward pass multiplies them by what comes in."""

    @staticmethod
    def forward(ctx, *arguments):
        ctx.settings, gradients, x, weight, *others = arguments
        ctx.save_for_backward(x, weight, *others)
        settings = ctx.settings
        n = settings.parameters
        wanted = ctx.needs_input_grad[4 : 4 + n] if gradients else (False,) * n
        term = Term(settings.likelihood, settings.options, OF_BATCH, gradients)
        given = term, x, weight, others[:n], wanted
        total, grads = at_once(*given) or computed(*given)
        of_nll, of_kl = _factors(settings, x.shape[0])
        total, latent, excess = total.mul_(of_nll), others[n:], None
        if len(latent) == 1:
            total = total.add(latent[0].sum(), alpha=of_kl)
        elif latent:
            dtype = reference.compute_dtype(*latent)
            twice, excess = lean_gaussian_kl(*[t if t.dtype is dtype else t.to(dtype) for t in latent])
            total = total.add(twice.sum(), alpha=0.5 * of_kl)
        ctx.grads = grads, excess
        return total

    @staticmethod
    def backward(ctx, grad):
        saved, settings = ctx.saved_tensors, ctx.settings
        if torch.is_grad_enabled():  # a second derivative may be wanted
            of_tensors = functools.partial(_reference, settings)
            return None, None, *by_reference(of_tensors, saved, ctx.needs_input_grad[2:], (grad,))
        (grads, excess), keep = gradients_of(ctx)
        if not keep:
            ctx.grads = None
        number = grad.item() if grad.is_cpu and not torch._C._len_torch_dispatch_stack() else grad
        of_nll, of_kl = [number * factor for factor in _factors(settings, saved[0].shape[0])]
        n = 2 + settings.parameters
        params, latent = saved[2:n], saved[n:]
        made = of_parameters(params, multiplied(grads, of_nll, keep))
        if excess is not None:
            mu, logvar = latent
            made += mu * of_kl, (excess * (0.5 * of_kl)).to(logvar.dtype)
        elif latent:
            made.append((grad * _factors(settings, saved[0].shape[0])[1]).to(latent[0].dtype).expand(latent[0].shape))
        return None, None, None, None, *made


def _factors(settings, batch):
    """The factors of the sum of all nll, and of all KL, in the loss."""
    by = 1 if settings.reduction == Reduction.SUM else batch
    return settings.rec_weight / by, settings.beta / by


def _reference(settings, tensors):
    x, weight, *others = tensors
    return (reference.elbo(restored(settings, (x, None, None, weight, None, None, *others, None))),)
