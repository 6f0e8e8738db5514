"""The sample and its KL with autograd. The backward pass draws the noise again."""

import functools

import torch

from ...core.objective import Draw
from .. import reference
from .autograd import Function, apply, by_reference, in_place, mask, mode_of
from .schemas import KERNELS


def sample_kl(draw, kernels="compiled"):
    """z and the KL that the request asks for, by the ops. Shapes and layouts are those of the schema."""
    mu, logvar, prior, rng, n_samples, with_kl, weight, _ = draw
    z, *kl = apply(_Sample, mode_of(kernels), rng, n_samples or 0, with_kl, weight, mu, logvar, *prior)
    return z, kl[0] if with_kl else None


class _Sample(Function):
    """The noise is not stored. The backward pass draws the noise again from the seed and the offset."""

    @staticmethod
    def forward(ctx, *arguments):
        mode, rng, n_samples, with_kl, weight, mu, logvar, *prior = arguments
        ctx.mode, ctx.n_samples = mode, n_samples
        ctx.save_for_backward(rng, weight, mu, logvar, *prior)
        ctx.set_materialize_grads(False)
        mu, logvar = reference.halves(mu, logvar)
        return tuple(KERNELS[mode.kernels]["sample"](mu, logvar, prior, weight, rng, n_samples, with_kl))

    @staticmethod
    def backward(ctx, grad_z, grad_kl=None):
        rng, weight, mu, logvar, *prior = ctx.saved_tensors
        weight_needs, *needed = ctx.needs_input_grad[4:]
        if grad_z is None and grad_kl is None:
            return (None,) * (5 + len(needed))
        if weight_needs or torch.is_grad_enabled():  # is_grad_enabled: a second derivative may be wanted
            draw = functools.partial(_drawn, rng, ctx.n_samples or None, grad_kl is not None)
            tensors = weight, mu, logvar, *prior
            incoming = (grad_z,) if grad_kl is None else (grad_z, grad_kl)
            return None, None, None, None, *by_reference(draw, tensors, ctx.needs_input_grad[4:], incoming)
        packed = logvar is None and needed[0]
        mu, logvar = reference.halves(mu, logvar)
        grad_z = None if grad_z is None else grad_z.contiguous()
        sample_backward = KERNELS[ctx.mode.kernels]["sample_backward"]
        grads = sample_backward(grad_z, grad_kl, mu, logvar, prior, weight, rng, ctx.n_samples, mask(needed), packed)
        return None, None, None, None, None, *in_place(grads, needed)


def _drawn(rng, n_samples, with_kl, tensors):
    weight, mu, logvar, *prior = tensors
    z, kl = reference.sample_kl(Draw(mu, logvar, tuple(prior), rng, n_samples, with_kl, weight))
    return (z, kl) if with_kl else (z,)
