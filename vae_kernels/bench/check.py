"""Whether a contender is right: loss and gradients against float64, before any time of it is shown."""

import torch

from .. import functional
from .case import expected_eps_error

# Ours: a few roundings of what is stored, of a sum that eager PyTorch may make in that type too. Others: what their
# formulas' own eps, and lgamma of large sums in float32, lose.
OURS_EPS, RIVALS = 64, 2e-3


def truth(case, tensors):
    """[loss, gradients by params, mu, logvar] in float64, by the reference formulas, without what z sends back."""
    wide = tensors.to(dtype=torch.float64).leaves()
    options = {"backend": "torch"}
    if case.part == "sample":
        loss = functional.gaussian_kl(wide.mu, wide.logvar, reduction="mean", **options)
    else:
        recon = wide.params[0] if len(wide.params) == 1 else wide.params
        loss = functional.fused_elbo(recon, wide.x, wide.mu, wide.logvar, likelihood=case.likelihood, **options)
    return [loss.detach(), *torch.autograd.grad(loss, wide.wanted())]


def error(case, tensors, expected, loss, z, grads):
    """The largest error of loss and gradients, each relative to the largest magnitude of what it should be.

    expected: what truth() gives. z: the contender's own sample, from which its noise is known again; its moments must
    be those of a standard normal, else ValueError. The gradients are those at an incoming gradient of case.incoming.
    """
    value, *rest = expected
    should = [value, *(case.incoming * g for g in rest)]
    if z is not None:
        mu, logvar, grad_z = (t.detach().double() for t in (tensors.mu, tensors.logvar, tensors.grad_z))
        noise = z.detach().double() - mu
        check_noise(noise * torch.exp(-0.5 * logvar), torch.finfo(z.dtype).eps)
        should[-2] = should[-2] + grad_z
        should[-1] = should[-1] + 0.5 * noise * grad_z
    pairs = zip((loss, *grads), should, strict=True)
    return max(((a.detach().double() - b).abs().max() / b.abs().max()).item() for a, b in pairs)


def check_noise(eps, rounding):
    """ValueError unless these look like standard normals."""
    mean, variance = expected_eps_error(eps.numel())
    found = eps.mean().item(), eps.var(correction=0).item() - 1
    if not (abs(found[0]) <= mean + rounding and abs(found[1]) <= variance + 4 * rounding):
        raise ValueError(f"z: its noise has mean {found[0]:.3f} and variance {1 + found[1]:.3f}, expected 0 and 1")


def allowed(tensors, ours):
    """The error that a contender may have."""
    eps = max(torch.finfo(t.dtype).eps for t in tensors.wanted())
    return OURS_EPS * eps if ours and eps < 1e-3 else 4 * eps if eps >= 1e-3 else RIVALS
