"""Checks the function that draws z: whether z = mu + sigma eps, with the sigma of the KL and an eps of N(0, 1)."""

from dataclasses import replace

import torch

from . import fit, noise, probe
from .meanings import PLAIN


def findings_of(sample, at, kl):
    """The findings about sample(mu, logvar) -> z, beside the Fit of the KL."""
    reads = kl.clamped[0] if kl is not None and kl.reads else PLAIN
    z, has_gradient = _drawn(sample, at)
    if z.shape != at.mu.shape:
        raise ValueError(f"sample: gave shape {tuple(z.shape)}, expected that of mu, {tuple(at.mu.shape)}")
    if torch.equal(z, at.mu):
        return [("wrong", "sample gives mu itself, without noise: is the model in evaluation mode?")]
    found = []
    for name, has in zip(("mu", "logvar"), has_gradient, strict=True):
        if not has:
            found.append(("wrong", f"z has no gradient by {name}: is z drawn without reparameterization?"))
    sigma = torch.exp(reads.into(at.logvar) / 2)
    wider = replace(at, logvar=at.logvar + 1)
    growth = (_drawn(sample, wider)[0] - at.mu) / (z - at.mu)
    expected = torch.exp(reads.into(wider.logvar) / 2) / sigma
    if not fit.matches(growth, expected):
        found.append(("wrong", _other_deviation(growth, expected)))
        return found
    eps = (z - at.mu) / sigma
    if len(eps) > 1 and bool((eps - eps[:1]).abs().max() < 1e-3):
        sentence = "sample gives all samples of the batch the same noise: does it draw the noise of one sample only?"
        return [*found, ("wrong", sentence)]
    seeds = range(1, 2 + noise.SAMPLES // eps.numel())
    drawn = [((_drawn(sample, replace(at, noise=seed))[0] - at.mu) / sigma).flatten() for seed in seeds]
    of_noise = noise.of_samples(torch.cat(drawn))
    found.append(noise.finding(of_noise, "the noise of sample"))
    return found


def _other_deviation(growth, expected):
    """The sentence about a standard deviation of z that grows with logvar in another way than that of the KL."""
    powers = []
    for g in (expected, growth):
        powers.append(g.log().mean())
        if not fit.matches(g, powers[-1].exp().expand_as(g)):
            return "sample draws z with another standard deviation than that of the KL"
    ours, theirs = (f"exp({p.item():.3g} * logvar)" for p in powers)
    return f"sample draws z with the standard deviation {theirs}; in the KL it is {ours}"


def _drawn(sample, at):
    """(z, whether z has a gradient by mu and by logvar)"""
    try:
        return _in(sample, at.map(probe.wide))
    except (RuntimeError, TypeError, ValueError):
        return _in(sample, at.map(lambda t: t.float() if t.is_floating_point() else t))


def _in(sample, at):
    leaves = [t.clone().requires_grad_() for t in (at.mu, at.logvar)]
    with torch.enable_grad(), probe.same_noise(at):
        z = sample(*leaves)
    if not isinstance(z, torch.Tensor):
        raise TypeError(f"sample: gave {type(z).__name__}, expected a tensor z of the shape of mu")
    grads = torch.autograd.grad(z.sum(), leaves, allow_unused=True) if z.requires_grad else (None, None)
    return z.detach().double(), [g is not None and bool(g.any()) for g in grads]
