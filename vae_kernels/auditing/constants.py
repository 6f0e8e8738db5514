"""Reads the constant of a loss: what its value has besides the two terms."""

import math
from dataclasses import dataclass, replace
from itertools import combinations

import torch

from ..formulas import ALL
from ..formulas.kl import gaussian_kl
from . import candidates, fit
from .meanings import PLAIN

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Constants:
    """The fields of a Reading that the value of the loss gives."""

    rec_weight: float | None
    obs_logvar: float | torch.Tensor | None = None
    logscale: float | None = None
    constant: float | None = None
    missing: tuple = ()


def of(value, likelihood, kl, floor, power, at):
    """The Constants of a loss with this value. power: that of the batch size in the weight of the likelihood."""
    rec_weight = None if likelihood.weight.dim() else likelihood.weight.item()
    constant = value - _weighted(at, likelihood, kl, floor)
    missing = _named(constant, likelihood, kl, at)
    found = Constants(rec_weight, constant=constant, missing=missing)
    if likelihood.clamped != (PLAIN,) or likelihood.of_x is not PLAIN or len(at.recon) > 1:
        return found
    if likelihood.name == "gaussian" and (missing == ("own",) or likelihood.weight.dim()):
        return _hidden_variance(constant, likelihood.weight, power, at) or found
    if likelihood.name == "laplace" and missing == ("own",):
        return _hidden_scale(constant, likelihood.weight.item(), power, at) or found
    return found


def _weighted(at, likelihood, kl, floor):
    """The sum over the batch of the two terms that were found. A Gaussian with one weight for each element is computed
    without its constants."""
    prior = () if kl.prior is None else tuple(at.mu.new_tensor(p) for p in kl.prior)
    reads = kl.clamped[0] if kl.reads else PLAIN
    kls = gaussian_kl(at.mu, reads.into(at.logvar), *prior)
    total = (kl.weight * at.latent_weights * kls).sum() if floor is None else floor.total(kls)
    if likelihood.weight.dim():
        weights, residuals = candidates.residual(at)
        return (total + (likelihood.weight * weights * residuals.square()).sum() / 2).item()
    return (total + _nll(at, likelihood)).item()


def _nll(at, likelihood):
    """The sum over the batch of the likelihood that was found."""
    if likelihood.name == "none":
        return torch.zeros(())
    return likelihood.weight * fit.candidate_of(likelihood, at).nll(at, *at.recon).sum()


def _named(constant, likelihood, kl, at):
    """The names of the constants that the loss leaves out, or has too many; ("own",) if no set of them explains
    `constant`."""
    elements = at.weights.sum().item()
    parts = {}
    if likelihood.name == "gaussian" and not likelihood.weight.dim():
        parts["2pi"] = -likelihood.weight.item() * elements * LOG_2PI / 2
    if likelihood.name == "laplace":
        parts["2"] = -likelihood.weight.item() * elements * math.log(2)
    if likelihood.name != "none" and ALL[likelihood.name].SUPPORT == "counts":
        x = candidates.target(at, likelihood.name)
        assert x is not None, "a likelihood was found, so x is a target of it"
        parts["x!"] = -likelihood.weight.item() * (at.weights.reshape(x.shape) * torch.lgamma(x + 1)).sum().item()
    if kl.weight.any():
        parts["kl"] = (kl.weight * at.latent_weights).sum().item() / 2
    missing = at.weights == 0
    if missing.any() and not likelihood.weight.dim():  # x and recon are multiplied by the mask: 0 given 0 is a term
        zeros = replace(at, recon=tuple(map(torch.zeros_like, at.recon)), x=torch.zeros_like(at.x), weight=missing)
        parts["0"] = _nll(zeros, likelihood).item()
    scale = sum(map(abs, parts.values())) or 1.0
    for size in range(len(parts) + 1):
        for names in combinations(parts, size):
            if abs(constant - sum(parts[name] for name in names)) <= fit.CLOSE * scale:
                return names
    return ("own",)


def _hidden_variance(constant, weights, power, at):
    """The Constants of a Gaussian with a variance inside the loss. Its weights are
    weights_j = weight e^-logvar_j, and its log-variances are part of `constant`. None if neither a summed nor an
    averaged loss explains both."""
    of_terms, residuals = candidates.residual(at)
    b, count, observed = len(at), of_terms.sum().item(), of_terms.sum(0)
    each = weights.expand(residuals.shape[1:])
    if not (each[observed > 0] > 0).all():
        return None
    if not weights.dim():  # then `constant` was computed for a unit variance
        constant = constant + weights.item() * count * LOG_2PI / 2
    for weight in _shares(power, b, residuals[0].numel(), count):
        logvar = torch.where(observed > 0, torch.log(weight / each), 0.0)
        total, size = (observed * logvar).sum().item(), (observed * logvar.abs()).sum().item()
        for missing, two_pi in (((), count * LOG_2PI), (("2pi",), 0.0)):
            left = constant - weight * (total + two_pi) / 2
            if abs(left) <= fit.CLOSE * weight * (size + two_pi + b):
                logvar = logvar if weights.dim() else torch.log(weight / weights).item()
                rest = -weight * count * LOG_2PI / 2 if missing else 0.0
                return Constants(weight, obs_logvar=logvar, constant=rest, missing=missing)
    return None


def _hidden_scale(constant, weight_of_unit, power, at):
    """The Constants of a Laplace loss with one scale inside: the weight w of a unit scale is weight / scale, and the
    logarithm of the scale is part of `constant`."""
    if weight_of_unit <= 0:
        return None
    count = at.weights.sum().item()
    constant += weight_of_unit * count * math.log(2)
    for weight in _shares(power, len(at), at.x[0].numel(), count):
        logscale = math.log(weight / weight_of_unit)
        for missing, two in (((), math.log(2)), (("2",), 0.0)):
            if abs(constant - weight * count * (logscale + two)) <= fit.CLOSE * weight * count * (abs(logscale) + two):
                rest = -weight * count * math.log(2) if missing else 0.0
                return Constants(weight, logscale=logscale, constant=rest, missing=missing)
    return None


def _shares(power, b, elements, count):
    """The weights that a sum or a mean gives to the terms; `count` is the sum of their weights."""
    of_batch = (1.0, 1 / b) if power == 0 else (1.0,)  # a constant of the loss may be the batch size
    for share in of_batch:
        for divisor in (1.0, elements, count / b):
            yield share / divisor * b ** -(1 if power is None else power)
