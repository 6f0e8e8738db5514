"""Recognises a KL that is bent: free bits max(KL, C), and a capacity |KL - C|.

Far above C both have the gradient of w KL. Below C free bits have no gradient, and a capacity has that of -w KL. The
value at KL = 0 gives C.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..formulas.kl import gaussian_kl
from . import fit, probe


@dataclass(frozen=True)
class Floor:
    """below: the factor of the KL's gradient below `nats` of one unit: 0 for free bits, -1 for a capacity."""

    unit: str
    nats: float
    below: int
    weight: float  # of the summed KL, far above `nats`

    def total(self, kl):
        """The sum over the batch of this term, with its weight."""
        each = UNITS[self.unit](kl)
        bent = torch.where(each > self.nats, each, self.nats) if self.below == 0 else (each - self.nats).abs()
        return self.weight * len(kl) / len(each) * bent.sum()


# what is compared with C, of the KL [B, L, ...]; in the order of the search
UNITS: dict[str, Callable] = {
    "per_batch_mean": lambda kl: kl.flatten(1).sum(1).mean().reshape(1, 1),
    "per_sample": lambda kl: kl.flatten(1).sum(1, keepdim=True),
    "per_dim": lambda kl: kl.flatten(1).mean(0, keepdim=True),
    "per_element": lambda kl: kl.flatten(1),
}
SAYS = {
    "per_batch_mean": "the mean KL of the batch",
    "per_sample": "the KL of each sample",
    "per_dim": "the mean KL of each latent dim over the batch",
    "per_element": "the KL of each latent dim of each sample",
}


def find(loss_fn, at):
    """The Floor of a loss at a Point, or None."""
    if at.latent_weight is not None:
        return None
    low, high = replace(at, mu=1e-4 * at.mu, logvar=1e-4 * at.logvar), far(at)
    above = fit.multiple(_grads(probe.measure(loss_fn, high)), fit.latent_gradient(high))
    if above is None or not above > 0:
        return None
    weight = above.item()
    at_low, at_high = probe.measure(loss_fn, low), probe.measure(loss_fn, high)
    nats = at_low.value - at_high.value + weight * gaussian_kl(high.mu, high.logvar).sum().item()
    below = 0 if not _grads(at_low).any() else -1
    for unit, of in UNITS.items():
        each = of(gaussian_kl(at.mu, at.logvar))
        floor = Floor(unit, nats / ((1 - below) * weight * len(at) * each.shape[1]), below, weight)
        if floor.nats > 0 and all(_explains(floor, loss_fn, at, spread) for spread in _spreads(floor, at)):
            return floor
    return None


def far(at):
    """The point with a mu so far from the prior that every part of the KL is above every usual floor: 800 nats."""
    return replace(at, mu=40.0 * torch.sign(at.mu) * (1 + at.mu.abs()))


def _spreads(floor, at):
    """Factors of mu at which some units are above `nats`, and others below."""
    kl = gaussian_kl(at.mu, at.logvar)
    middle = (2 * floor.nats / UNITS[floor.unit](kl).mean().item()) ** 0.5
    return [0.3 * middle, 0.7 * middle, middle, 1.4 * middle, 3 * middle]


def _explains(floor, loss_fn, at, spread):
    """Whether the loss has the gradient that the floor gives."""
    there = replace(at, mu=spread * at.mu, logvar=min(spread, 1.0) * at.logvar)
    kl = gaussian_kl(there.mu, there.logvar)
    factor = torch.where(UNITS[floor.unit](kl) > floor.nats, 1.0, float(floor.below))
    factor = factor.expand(len(at), kl[0].numel()).reshape(kl.shape)
    expected = floor.weight * factor * fit.latent_gradient(there)
    grads = _grads(probe.measure(loss_fn, there))
    return fit.matches(grads, expected) if grads.any() else not expected.any()


def _grads(measured):
    return torch.stack([measured.mu, measured.logvar])
