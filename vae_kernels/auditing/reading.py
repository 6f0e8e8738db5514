"""Reads a loss from its gradients: the weights of the two terms, their dependence on the batch size, and the constant.

The loss is read as

    loss = sum_b ( rec_weight nll_b + kl_weight kl_b ) + constant          effective beta = kl_weight / rec_weight
"""

import math
from dataclasses import dataclass, replace
from itertools import combinations

import torch

from ..formulas import POSITION
from ..formulas.kl import gaussian_kl
from . import fit, probe

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Reading:
    """The form of a loss. A weight is None if no term matches the gradient."""

    sizes: dict  # B: samples, D: elements of one x, L: latent dimensions; O, P: their weights' sums, the means over B
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
    missing: tuple  # the parts of `constant`: "2pi", "2", "kl", "0"; ("own",) if these do not explain the constant
    weight: str  # the Python text that gives the weight beside this parameter; "" if the audit has no weight
    masked: bool  # whether the weight is a mask
    whole: bool  # whether the weight has a number for each element of x
    dims: int  # the number of dimensions of the terms
    by_sample: torch.Tensor  # [B] the sum of the weights of each x
    latent_weight: bool  # whether the audit has a latent_weight

    @property
    def effective_beta(self):
        if self.rec_weight is None or self.kl_weight is None or not self.rec_weight:
            return None
        return self.kl_weight / self.rec_weight


def read(loss_fn, example, seed=0):
    """The Reading of a loss, from a probe.Point."""
    at = probe.synthetic(example, seed)
    measured = probe.measure(loss_fn, at)
    likelihood, kl = fit.likelihood(measured, at), fit.latent(measured, at)
    given, scaling = at, likelihood.scaling if likelihood else "given"
    at = fit.scalings(given)[scaling]
    if kl is not None and kl.scaling == "ignored":
        at = replace(at, latent_weight=None)
    counted = given if scaling == "by sample" else at
    sizes = {"B": len(at), "D": at.x[0].numel(), "L": at.mu[0].numel()}
    sizes |= {"O": counted.weights.sum().item() / len(at), "P": at.latent_weights.sum().item() / len(at)}
    rec_power, kl_power = _powers(loss_fn, given, measured.per_sample, likelihood, kl)
    rec_weight = None if likelihood is None or likelihood.weight.dim() else likelihood.weight.item()
    obs_logvar = constant = None
    missing = ()
    if likelihood is not None and kl is not None:
        constant = measured.value - _weighted(at, likelihood, kl)
        missing = _named(constant, likelihood, kl, at)
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
        *_of_weight(given, likelihood),
        given.latent_weight is not None,
    )


def _of_weight(at, likelihood):
    """The fields weight, masked, whole, dims and by_sample of a Reading."""
    by_sample = at.weights.flatten(1).sum(1) if at.x.dim() > 1 else at.weights
    if at.weight is None:
        return "", False, False, at.x.dim(), by_sample
    masked, whole = at.weight.dtype == torch.bool, at.weight.shape == at.x.shape
    if at.x.shape == at.recon[0].shape or (likelihood is not None and likelihood.name in POSITION):
        return "weight", masked, whole, at.x.dim(), by_sample
    expanded = "weight" if whole else "weight.expand_as(x)"
    return f"{expanded}.reshape({at.first}.shape)", masked, True, at.recon[0].dim(), by_sample


def _powers(loss_fn, at, per_sample, *fits):
    """The power p of each weight, which is proportional to B^-p. It is measured with a batch of another size."""
    if per_sample:
        return 0, 0
    other = probe.resized(at)
    try:
        measured = probe.measure(loss_fn, other)
    except (RuntimeError, TypeError, ValueError, IndexError):  # a loss may accept one batch size only
        return None, None
    samples = len(at) / len(other)
    rec, kl = fits
    counts = [
        fit.scalings(p)["inverted" if rec and rec.scaling == "inverted" else "given"].weights for p in (at, other)
    ]
    elements = (counts[0].sum() / counts[1].sum()).item()
    latents = (at.latent_weights.sum() / other.latent_weights.sum()).item()
    rec_power = _power(rec, fit.likelihood(measured, other), samples, elements)
    return rec_power, _power(kl, fit.latent(measured, other), samples, elements, latents)


def _power(one, other, *ratios):
    """The power by which the weight falls as one of the ratios: of the samples, the observed elements or latents."""
    if one is None or other is None:
        return None
    if not one.weight.any():
        return 0
    both = (one.weight != 0) & (other.weight != 0)  # an element may be observed in one of the batches only
    shares = [weight.expand(both.shape)[both].abs().mean() for weight in (other.weight, one.weight)]
    change = torch.log(shares[0] / shares[1]).item()
    powers = [change / math.log(ratio) for ratio in ratios if ratio != 1]
    return next((round(p) for p in powers if math.isfinite(p) and abs(p - round(p)) < 0.01), None)


def _weighted(at, likelihood, kl):
    """The sum over the batch of the two terms that were found. A Gaussian with one weight for each element is computed
    without its constants."""
    factor = 2 if kl.argument == "log sigma" else 1
    total = (kl.weight * at.latent_weights * gaussian_kl(at.mu, factor * at.logvar)).sum()
    if likelihood.weight.dim():
        weights, residuals = fit.residual(at)
        return (total + (likelihood.weight * weights * residuals.square()).sum() / 2).item()
    return (total + _nll(at, likelihood)).item()


def _nll(at, likelihood):
    """The sum over the batch of the likelihood that was found."""
    for name, argument, nll in fit.candidates(at):
        if (name, argument) == (likelihood.name, likelihood.argument):
            return likelihood.weight * nll(*at.recon).sum()
    return torch.zeros(())


def _named(constant, likelihood, kl, at):
    """The names of the constants that the loss leaves out, or has too many; ("own",) if no set of them explains
    `constant`."""
    elements = at.weights.sum().item()
    parts = {}
    if likelihood.name == "gaussian" and not likelihood.weight.dim():
        parts["2pi"] = -likelihood.weight.item() * elements * LOG_2PI / 2
    if likelihood.name == "laplace":
        parts["2"] = -likelihood.weight.item() * elements * math.log(2)
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
    """(weight, logvar, constant, missing) of a Gaussian with a variance inside the loss. Its weights are
    weights_j = weight e^-logvar_j, and its log-variances are part of `constant`. None if neither a summed nor an
    averaged loss explains both."""
    of_terms, residuals = fit.residual(at)
    b, count, observed = len(at), of_terms.sum().item(), of_terms.sum(0)
    each = weights.expand(residuals.shape[1:])
    if not (each[observed > 0] > 0).all():
        return None
    if not weights.dim():  # then `constant` was computed for a unit variance
        constant = constant + weights.item() * count * LOG_2PI / 2
    for share in (1.0, 1 / residuals[0].numel(), b / count):
        weight = share * b ** -(1 if power is None else power)
        logvar = torch.where(observed > 0, torch.log(weight / each), 0.0)
        total, size = (observed * logvar).sum().item(), (observed * logvar.abs()).sum().item()
        for missing, two_pi in (((), count * LOG_2PI), (("2pi",), 0.0)):
            left = constant - weight * (total + two_pi) / 2
            if abs(left) <= fit.CLOSE * weight * (size + two_pi + b):
                logvar = logvar if weights.dim() else torch.log(weight / weights).item()
                return weight, logvar, -weight * count * LOG_2PI / 2 if missing else 0.0, missing
    return None
