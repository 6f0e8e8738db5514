"""The sample and its KL with autograd. The backward pass draws the noise again."""

import torch

from ...core.objective import Draw
from .. import reference
from .autograd import Function, apply, in_place, mask, mode_of
from .schemas import KERNELS


def sample_kl(draw, kernels="compiled"):
    """z and the KL that the request asks for, by the ops. Shapes and layouts are those of the schema."""
    mu, logvar, prior, rng, n_samples, with_kl = draw
    z, *kl = apply(_Sample, mode_of(kernels), rng, n_samples or 0, with_kl, mu, logvar, *prior)
    return z, kl[0] if with_kl else None


class _Sample(Function):
    """The noise is not stored. The backward pass draws the noise again from the seed and the offset."""

    @staticmethod
    def forward(ctx, *arguments):
        mode, rng, n_samples, with_kl, mu, logvar, *prior = arguments
        ctx.mode, ctx.n_samples = mode, n_samples
        ctx.save_for_backward(rng, mu, logvar, *prior)
        ctx.set_materialize_grads(False)
        mu, logvar = reference.halves(mu, logvar)
        return tuple(KERNELS[mode.kernels]["sample"](mu, logvar, prior, rng, n_samples, with_kl))

    @staticmethod
    def backward(ctx, grad_z, grad_kl=None):
        rng, mu, logvar, *prior = ctx.saved_tensors
        needed = ctx.needs_input_grad[4:]
        if grad_z is None and grad_kl is None:
            return (None,) * (4 + len(needed))
        if torch.is_grad_enabled():
            draw = Draw(mu, logvar, tuple(prior), rng, ctx.n_samples or None, grad_kl is not None)
            z, kl = reference.sample_kl(draw)
            outputs, incoming = zip(*[(o, g) for o, g in ((z, grad_z), (kl, grad_kl)) if g is not None], strict=True)
            wanted = [t for t, n in zip((mu, logvar, *prior), needed, strict=True) if n]
            grads = torch.autograd.grad(outputs, wanted, incoming, create_graph=True, allow_unused=True)
        else:
            packed = logvar is None and needed[0]
            mu, logvar = reference.halves(mu, logvar)
            grad_z = None if grad_z is None else grad_z.contiguous()
            sample_backward = KERNELS[ctx.mode.kernels]["sample_backward"]
            grads = sample_backward(grad_z, grad_kl, mu, logvar, prior, rng, ctx.n_samples, mask(needed), packed)
        return None, None, None, None, *in_place(grads, needed)
