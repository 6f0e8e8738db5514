"""Losses that draw noise: a KL that is estimated from one sample z, and the noise of a function that draws z."""

from dataclasses import dataclass, replace

import torch

from . import fit, probe

SAMPLES = 4000  # of the noise: the standard error of its standard deviation is then 1.1 %
SURE = 5  # standard errors


@dataclass(frozen=True)
class Noise:
    """The noise eps of z = mu + exp(logvar / 2) eps."""

    mean: float
    std: float
    count: int

    def is_normal(self):
        """Whether the mean is 0 and the standard deviation is 1, as far as the samples tell."""
        error = self.count**-0.5
        return abs(self.mean) <= SURE * error and abs(self.std - 1) <= SURE * error


def is_random(loss_fn, at):
    """Whether two calls with the same arguments give two values."""
    one, other = (probe.measure(loss_fn, replace(at, noise=seed)) for seed in (0, 1))
    return one.value != other.value


def sampled_kl(loss_fn, at):
    """(weight, Noise) of a KL that is estimated as log q(z) - log p(z) for one sample z per latent, or None."""
    drawn, weight = [], None
    while weight is None or sum(e.numel() for e in drawn) < SAMPLES:
        found = _sampled(loss_fn, replace(at, noise=len(drawn)))
        if found is None:
            return None
        weight = found[0]
        drawn.append(found[1])
    return weight, of_samples(torch.cat([e.flatten() for e in drawn]))


def weight_of(loss_fn, at):
    """The weight of a KL that is estimated from one sample, or None."""
    found = _sampled(loss_fn, at)
    return found and found[0]


def _sampled(loss_fn, at):
    """(weight, noise) of one call.

    The gradient by mu is w z, so two values of mu with the same noise give w, and then the noise. The gradient by
    logvar is then w / 2 (sigma eps z - 1).
    """
    one, other = (probe.measure(loss_fn, p) for p in (at, replace(at, mu=at.mu + 1)))
    change = other.mu - one.mu
    weight = change.mean()
    if not weight or not fit.matches(change, weight.expand_as(change)):
        return None
    z = one.mu / weight
    if not fit.matches(one.logvar, weight / 2 * ((z - at.mu) * z - 1)):
        return None
    return weight, (z - at.mu) / torch.exp(at.logvar / 2)


def of_samples(eps):
    return Noise(eps.mean().item(), eps.std().item(), eps.numel())


def finding(noise, whose):
    """The finding about a Noise."""
    mean = noise.mean if abs(noise.mean) > SURE * noise.count**-0.5 else 0.0
    if noise.is_normal():
        return "fine", f"{whose} has the mean 0 and the standard deviation 1, as it should"
    return "wrong", f"{whose} has the mean {mean:.3g} and the standard deviation {noise.std:.3g}, expected 0 and 1"
