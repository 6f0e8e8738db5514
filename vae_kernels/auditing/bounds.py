"""Finds where a loss clamps an argument: where the gradient is 0, and the gradient of the term is not."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..formulas import POSITION
from . import candidates, fit, meanings, probe

HALF = 0.5  # a gradient below this share of the expected one counts as dead: log(p + eps) has the share 1/2 at p = eps
SMALL = 1e-6  # an expected gradient below is no evidence
LINE = (0.0, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 12, 15, 20, 24)
FAR = (30, 50, 80)


@dataclass(frozen=True)
class Bounds:
    """The values of an argument between which the loss gives a gradient. None is no bound that was found.

    soft: there is no clamp, but a small number inside a logarithm.
    """

    low: float | None
    high: float | None
    soft: bool = False

    def __bool__(self):
        return self.low is not None or self.high is not None

    def meaning(self):
        return meanings.clamp(self.low, self.high)


@dataclass(frozen=True)
class Probed:
    """An argument of the loss: how to put values into a point, and the measured and the expected gradient there."""

    like: torch.Tensor
    put: Callable
    measured: Callable
    expected: Callable


def of_logvar(loss_fn, at, kl):
    """The Bounds of logvar, for the Fit of the KL."""
    probed = Probed(
        at.logvar,
        lambda t: replace(at, logvar=t),
        lambda p: probe.measure(loss_fn, p).logvar,
        lambda p: (kl.weight * fit.latent_gradient(p, kl.reads[0], kl.prior))[1],
    )
    return _bounds(probed, (*LINE, *FAR), lambda u: u)


def of_recon(loss_fn, at, likelihood):
    """The Bounds of the first parameter, for the Fit of the likelihood."""
    if likelihood.name in POSITION or likelihood.weight.dim() or likelihood.reads[0] not in PROBED:
        return Bounds(None, None)
    candidate = replace(fit.candidate_of(likelihood, at), reads=likelihood.reads)
    probed = Probed(
        at.recon[0],
        lambda t: replace(at, recon=(t, *at.recon[1:])),
        lambda p: probe.measure(loss_fn, p).recon[0],
        lambda p: likelihood.weight * candidates.gradients_of(candidate, p)[0],
    )
    if likelihood.reads[0] is meanings.PROBABILITIES:
        return _bounds(probed, LINE[:-1], torch.sigmoid)
    far = () if likelihood.argument == "logits" else (*FAR, 100, 200, 250, 300, 500, 1000)
    return _bounds(probed, (*LINE, *far), lambda u: u)


PROBED = (meanings.PLAIN, meanings.PROBABILITIES)


def _bounds(probed, sizes, into):
    """The Bounds, by a search outwards from the middle. The searched numbers u are in `sizes`, and into(u) are the
    values of the argument."""
    sizes = torch.tensor(sizes, dtype=torch.float64)
    found = []
    for sign in (-1, 1):
        dead = _share(probed, into(sign * sizes)) < HALF
        if not dead.any() or dead.all():
            found.append(None)
            continue
        last = len(dead) - int((~dead).flip(0).double().argmax()) - 1  # beyond the last live value all are dead
        if last == len(dead) - 1:
            found.append(None)
            continue
        found.append(_between(probed, into, sign * sizes[last].item(), sign * sizes[last + 1].item()))
    low, high = found
    soft = any(bound is not None and _is_soft(probed, into, bound) for bound in found)
    low, high = (None if b is None else _shortest(*(into(torch.tensor(v, dtype=torch.float64)).item() for v in b))
                 for b in (low, high))  # fmt: skip
    return Bounds(low, high, soft)


def _between(probed, into, alive, dead):
    """The bound as a pair (alive, dead) that is as close as a search gives."""
    for _ in range(8):
        values = torch.linspace(alive, dead, 16, dtype=torch.float64)
        gone = _share(probed, into(values)) < HALF
        if not gone.any() or gone.all():
            break
        first = int(gone.double().argmax())
        alive, dead = values[max(first - 1, 0)].item(), values[first].item()
    return alive, dead


def _is_soft(probed, into, bound):
    """Whether the gradient falls slowly beyond a bound."""
    beyond = torch.tensor([bound[1] + (1.0 if bound[1] > 0 else -1.0)], dtype=torch.float64)
    return 0.05 < _share(probed, into(beyond)).item() < HALF


def _share(probed, values):
    """For each value, the measured gradient as a share of the expected one; 1 where there is no evidence."""
    n = probed.like.numel()
    if len(values) > n:
        return torch.cat([_share(probed, part) for part in values.split(n)])
    index = torch.arange(n) % len(values)
    at = probed.put(values[index].reshape(probed.like.shape).to(probed.like.device))
    measured, expected = (g.flatten().cpu() for g in (probed.measured(at), probed.expected(at)))
    evident = (
        (expected.abs() > SMALL * expected.abs().nanmedian().clamp(max=1)) & expected.isfinite() & ~measured.isnan()
    )
    total, size = (torch.where(evident, g * expected.sign(), 0.0) for g in (measured, expected))
    padding = total.new_zeros(-n % len(values))
    total, size = (torch.cat([t, padding]).reshape(-1, len(values)).sum(0) for t in (total, size))
    return torch.where(size > 0, total / size, 1.0)


def _shortest(a, b):
    """The number with the fewest digits between a and b."""
    a, b = min(a, b), max(a, b)
    if a <= 0 <= b:
        return 0.0
    slack = 1e-9 * max(abs(a), abs(b))
    if a > 0.5 and b < 1:  # 1 - 1e-7: the distance to 1 has the fewest digits
        return 1 - _shortest(1 - b, 1 - a)
    for digits in range(1, 7):
        number = float(f"{(a + b) / 2:.{digits}g}")
        if a - slack <= number <= b + slack:
            return number
    return (a + b) / 2
