"""The sample and its KL. The noise comes from the generator of the device, and is kept for the backward pass."""

import functools
from typing import Any

import torch

from ...core.objective import Draw
from ...formulas.kl import lean_gaussian_kl
from .. import reference
from ..compiled.autograd import Function, by_reference


def sample_kl(draw):
    """z and the KL that `draw` asks for. Without draw.eps the noise is that of the other backends."""
    usual = draw.eps is not None and not draw.prior and draw.latent_weight is None
    if not usual or torch.compiler.is_compiling():
        return reference.sample_kl(draw)
    given = (draw.mu,) if draw.logvar is None else (draw.mu, draw.logvar)
    z, *kl = _Sample.apply_eager((draw.n_samples, draw.with_kl), draw.eps, *given)
    return z, kl[0] if draw.with_kl else None


class _Sample(Function):
    """The KL is to N(0, I). `given` is mu and logvar, or both in one tensor, whose gradient is then one tensor too."""

    @staticmethod
    def forward(ctx, *arguments):
        (n_samples, with_kl), eps, *given = arguments
        mu, logvar = _halves(given)
        dtype = reference.compute_dtype(mu, logvar)
        wide, log_variance = mu.to(dtype), logvar.to(dtype)
        noise = (0.5 * log_variance).exp_() * eps  # 2 dz/dlogvar
        z = (wide + noise).to(mu.dtype)
        kl, excess = (), None
        if with_kl:
            twice, excess = lean_gaussian_kl(wide, log_variance)
            kl = ((twice.flatten(1).sum(1) if twice.dim() > 1 else twice).mul_(0.5),)
        ctx.how = n_samples, with_kl
        ctx.save_for_backward(eps, noise, excess, *given)
        ctx.set_materialize_grads(False)
        return z, *kl

    @staticmethod
    def backward(ctx, grad_z, grad_kl=None):
        eps, noise, excess, *given = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:]
        if grad_z is None and grad_kl is None:
            return None, None, *(None for _ in given)
        if torch.is_grad_enabled():  # a second derivative may be wanted
            incoming = (grad_z,) if grad_kl is None else (grad_z, grad_kl)
            of_tensors = functools.partial(_reference, ctx.how[0], grad_kl is not None, eps)
            return None, None, *by_reference(of_tensors, given, needed, incoming)
        mu, _ = _halves(given)
        of_mu: Any = None
        of_logvar: Any = None
        if grad_z is not None:
            of_mu, of_logvar = grad_z.to(noise.dtype), grad_z * noise
            if ctx.how[0] is not None:
                of_mu, of_logvar = of_mu.sum(0), of_logvar.sum(0)
        if grad_kl is not None:
            each = grad_kl.view(-1, *[1] * (mu.dim() - 1))
            if of_mu is None:
                of_mu, of_logvar = each * mu.to(noise.dtype), each * excess
            else:
                of_mu, of_logvar = torch.addcmul(of_mu, each, mu.to(noise.dtype)), of_logvar.addcmul_(each, excess)
        grads = of_mu, of_logvar.mul_(0.5)
        grads = grads if len(given) == 2 else (torch.cat(grads, 1),)
        return None, None, *(g.to(t.dtype) if n else None for g, t, n in zip(grads, given, needed, strict=True))


def _halves(given):
    return reference.halves(*given, *[None] * (2 - len(given)))


def _reference(n_samples, with_kl, eps, tensors):
    mu, logvar = _halves(tensors)
    z, kl = reference.sample_kl(Draw(mu, logvar, (), None, n_samples, with_kl, None, eps))
    return (z, kl) if with_kl else (z,)
