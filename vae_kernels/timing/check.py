"""Checks a contender before it is timed: its loss and its gradients against float64."""

import math

import torch

from .. import functional
from . import helpers, masks
from .case import expected_eps_error

# Our results may be wrong by some roundings. The rivals lose more: their formulas have an eps of their own, and
# differences of lgamma in float32.
OURS_EPS, RIVALS = 64, 2e-3
HALF = 1e-4  # only float16 and bfloat16 have a larger eps; for these the rounding of a gradient is the whole error


class WrongResult(Exception):
    """A contender disagrees with float64, so it is not timed. error: the largest relative error; inf if the fault is
    something else."""

    def __init__(self, message, error=math.inf):
        super().__init__(message)
        self.error = error


def truth(case, tensors):
    """[loss, *gradients by tensors.wanted()] in float64, from the reference formulas, without the gradient through
    z."""
    wide = tensors.to(dtype=torch.float64).leaves()
    recon = wide.params[0] if len(wide.params) == 1 else wide.params
    backend, likelihood = {"backend": "torch"}, {"likelihood": case.likelihood}
    if case.part == "sample":
        loss = functional.gaussian_kl(wide.mu, wide.logvar, reduction="mean", **backend)
    elif case.part in ("nll", "terms"):
        loss = functional.nll(recon, wide.x, reduction="mean", **likelihood, **backend)
    elif case.part in masks.PARTS:
        loss, _ = masks.ours(case, "torch")(wide.params, wide.x, None, None)
    elif case.part == "free bits":
        loss, _ = helpers.free_bits(wide.params, wide.x, wide.mu, wide.logvar, **likelihood, **backend)
    elif case.part == "decomposition":
        loss, _ = helpers.decomposition(wide.params, None, wide.mu, wide.logvar, **backend)
    else:
        loss = functional.fused_elbo(recon, wide.x, wide.mu, wide.logvar, **likelihood, **backend)
    return [loss.detach(), *torch.autograd.grad(loss, wide.wanted())]


def errors(case, tensors, expected, loss, z, grads):
    """[(error, dtype)] of the loss and each gradient. An error is relative to the largest magnitude of the true tensor.

    expected: the result of truth(). z: the contender's own sample, which gives its noise back. WrongResult if the mean
    or the variance of the noise is not that of standard normals. grads: for an incoming gradient of case.incoming.
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
    return [(((a.detach().double() - b).abs().max() / b.abs().max()).item(), a.dtype) for a, b in pairs]


def check_noise(eps, rounding):
    """WrongResult if the mean or the variance of eps is not that of standard normals."""
    mean, variance = expected_eps_error(eps.numel())
    found = eps.mean().item(), eps.var(correction=0).item() - 1
    if not (abs(found[0]) <= mean + rounding and abs(found[1]) <= variance + 4 * rounding):
        raise WrongResult(f"z: its noise has mean {found[0]:.3f} and variance {1 + found[1]:.3f}, expected 0 and 1")


def allowed(dtype, ours):
    """The relative error that a result of this dtype may have."""
    eps = torch.finfo(dtype).eps
    if eps > HALF:
        return 4 * eps
    return OURS_EPS * eps if ours else RIVALS


def worst(found, ours):
    """The largest of these errors. WrongResult if an error is larger than allowed()."""
    largest = max(error for error, _ in found)
    for error, dtype in found:
        if not error <= (limit := allowed(dtype, ours)):
            raise WrongResult(f"relative error {error:.1e} of a result in {dtype}, allowed {limit:.1e}", largest)
    return largest
