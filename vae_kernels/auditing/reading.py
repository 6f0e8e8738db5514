"""Reads a loss from its gradients: the weights of the two terms, their dependence on the batch size, and the constant.

The loss is read as

    loss = sum_b ( rec_weight nll_b + kl_weight kl_b ) + constant          effective beta = kl_weight / rec_weight
"""

import math
from dataclasses import dataclass

import torch

from ..formulas import POSITION
from ..formulas.kl import gaussian_kl
from . import fit, probe

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Reading:
    """The form of a loss. A weight is None if no term matches the gradient."""

    sizes: dict  # B: samples, D: elements of one x, L: latent dimensions
    per_sample: bool  # whether the loss is [B]
    first: str  # the Python text that gives the first parameter in recon
    same_shape: bool  # whether this parameter and x have the same shape
    likelihood: fit.Fit | None
    kl: fit.Fit | None
    rec_weight: float | None
    kl_weight: float | torch.Tensor | None
    rec_power: int | None  # the weight is proportional to B^-power; None: not measured
    kl_power: int | None
    obs_logvar: float | torch.Tensor | None  # the log-variance of a Gaussian loss that has one inside
    constant: float | None
    missing: tuple  # the parts of `constant`: "2pi", "2", "kl"; ("own",) if these do not explain the constant

    @property
    def effective_beta(self):
        if self.rec_weight is None or self.kl_weight is None or not self.rec_weight:
            return None
        return self.kl_weight / self.rec_weight


def read(loss_fn, example, seed=0):
    """The Reading of a loss, from a probe.Point."""
    at = probe.synthetic(example, seed)
    measured = probe.measure(loss_fn, at)
    sizes = {"B": len(at), "D": at.x[0].numel(), "L": at.mu[0].numel()}
    likelihood, kl = fit.likelihood(measured, at), fit.latent(measured, at)
    rec_power, kl_power = _powers(loss_fn, at, measured.per_sample, likelihood, kl)
    rec_weight = None if likelihood is None or likelihood.weight.dim() else likelihood.weight.item()
    obs_logvar = constant = None
    missing = ()
    if likelihood is not None and kl is not None:
        constant = measured.value - _weighted(at, likelihood, kl)
        missing = _named(constant, likelihood, kl, sizes)
        if likelihood.name == "gaussian" and len(at.recon) == 1 and (missing == ("own",) or likelihood.weight.dim()):
            hidden = _hidden_variance(constant, likelihood.weight, rec_power, at)
            if hidden is not None:
                rec_weight, obs_logvar, constant, missing = hidden
    kl_weight = None if kl is None else kl.weight if kl.weight.dim() else kl.weight.item()
    return Reading(
        sizes,
        measured.per_sample,
        at.first,
        at.x.shape == at.recon[0].shape or (likelihood is not None and likelihood.name in POSITION),
        likelihood,
        kl,
        rec_weight,
        kl_weight,
        rec_power,
        kl_power,
        obs_logvar,
        constant,
        missing,
    )


def _powers(loss_fn, at, per_sample, *fits):
    """The power p of each weight, which is proportional to B^-p. It is measured with a batch of another size."""
    if per_sample:
        return 0, 0
    other = probe.resized(at)
    try:
        measured = probe.measure(loss_fn, other)
    except (RuntimeError, TypeError, ValueError, IndexError):  # a loss may accept one batch size only
        return None, None
    others = fit.likelihood(measured, other), fit.latent(measured, other)
    return tuple(_power(a, b, len(at) / len(other)) for a, b in zip(fits, others, strict=True))


def _power(one, other, ratio):
    if one is None or other is None:
        return None
    if not one.weight.any():
        return 0
    power = torch.log(other.weight.abs().mean() / one.weight.abs().mean()).item() / math.log(ratio)
    return round(power) if abs(power - round(power)) < 0.01 else None


def _weighted(at, likelihood, kl):
    """The sum over the batch of the two terms that were found. A Gaussian with one weight for each element is computed
    without its constants."""
    factor = 2 if kl.argument == "log sigma" else 1
    total = (kl.weight * gaussian_kl(at.mu, factor * at.logvar)).sum()
    if likelihood.weight.dim():
        squares = fit.residual(at).square()
        return (total + (likelihood.weight * squares).sum() / 2).item()
    for name, argument, nll in fit.candidates(at):
        if (name, argument) == (likelihood.name, likelihood.argument):
            total = total + likelihood.weight * nll(*at.recon).sum()
    return total.item()


def _named(constant, likelihood, kl, sizes):
    """The names of the constants that the loss leaves out; ("own",) if no set of them explains `constant`."""
    b, d, n = sizes["B"], sizes["D"], sizes["L"]
    parts = {}
    if likelihood.name == "gaussian" and not likelihood.weight.dim():
        parts["2pi"] = -likelihood.weight.item() * b * d * LOG_2PI / 2
    if likelihood.name == "laplace":
        parts["2"] = -likelihood.weight.item() * b * d * math.log(2)
    if kl.weight.any():
        parts["kl"] = kl.weight.mean().item() * n * b / 2
    scale = sum(map(abs, parts.values())) or 1.0
    for names in ((), *((name,) for name in parts), tuple(parts)):
        if abs(constant - sum(parts[name] for name in names)) <= fit.CLOSE * scale:
            return names
    return ("own",)


def _hidden_variance(constant, weights, power, at):
    """(weight, logvar, constant, missing) of a Gaussian with a variance inside the loss. Its weights are
    weights_j = weight e^-logvar_j, and its log-variances are part of `constant`. None if neither a summed nor an
    averaged loss explains both."""
    squares = fit.residual(at).square()
    b, d = len(at), squares[0].numel()
    each = weights.expand(squares.shape[1:])
    if not (each > 0).all():
        return None
    if not weights.dim():  # then `constant` was computed for a unit variance
        constant = constant + weights.item() * b * d * LOG_2PI / 2
    for share in (1.0, 1 / d):
        weight = share * b ** -(1 if power is None else power)
        logvar = torch.log(weight / each)
        for missing, two_pi in (((), d * LOG_2PI), (("2pi",), 0.0)):
            left = constant - weight * b * (logvar.sum().item() + two_pi) / 2
            if abs(left) <= fit.CLOSE * weight * b * (logvar.abs().sum().item() + two_pi + 1):
                logvar = logvar if weights.dim() else logvar.flatten()[0].item()
                return weight, logvar, -weight * b * d * LOG_2PI / 2 if missing else 0.0, missing
    return None
