"""Reads a loss from its gradients: the weights of the two terms, their dependence on the batch size, and the constant.

The loss is read as

    loss = sum_b ( rec_weight nll_b + kl_weight kl_b ) + constant          effective beta = kl_weight / rec_weight
"""

import math
from dataclasses import dataclass, replace
from itertools import combinations

import torch

from ..formulas import ALL, POSITION
from ..formulas.kl import gaussian_kl
from . import bounds, fit, floors, noise, probe
from .meanings import PLAIN

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Reading:
    """The form of a loss. A weight is None if no term matches the gradient."""

    sizes: dict  # B: samples, D: elements of one x, L: latent dimensions; O, P: their weights' sums, the means over B
    x_shape: tuple  # of the example
    mu_shape: tuple
    per_sample: bool  # whether the loss is [B]
    parts: tuple  # the Python texts that give the parameters in recon
    same_shape: bool  # whether the first parameter and x have the same shape
    likelihood: fit.Fit | None
    kl: fit.Fit | None
    latent_gradients: tuple  # by mu and logvar, at the drawn point
    pieces: tuple | None  # of a KL that no Fit explains: the factors of mu^2 / 2, mu, exp(logvar) and logvar
    unknown: str  # what can be said of a reconstruction that no Fit explains
    used: bool  # whether the graph of the loss reaches mu or logvar
    rec_weight: float | None
    kl_weight: float | torch.Tensor | None
    rec_power: int | None  # the weight is proportional to B^-power; None: not measured
    kl_power: int | None
    refused: bool  # whether the loss took no batch of another size
    axes: dict  # {("x", 1): (rec_power, kl_power), ...}: the same for the size of each axis of x and mu
    obs_logvar: float | torch.Tensor | None  # the log-variance of a Gaussian loss that has one inside
    logscale: float | None  # the same for a Laplace loss: the logarithm of its scale
    constant: float | None
    missing: (
        tuple  # the parts of `constant`: "2pi", "2", "kl", "0", "x!"; ("own",) if these do not explain the constant
    )
    of_recon: bounds.Bounds  # where the loss clamps the first parameter
    of_logvar: bounds.Bounds
    random: bool  # whether the loss draws noise
    sampled: noise.Noise | None  # the noise of a KL that is estimated from one sample
    floor: floors.Floor | None  # free bits or a capacity
    masked: bool  # whether the weight is a mask
    whole: bool  # whether the weight has a number for each element of x
    weight: str  # the Python text that gives the weight beside the first parameter; "" if the audit has no weight
    dims: int  # the number of dimensions of the terms
    by_sample: torch.Tensor  # [B] the sum of the weights of each x
    latent_weight: bool  # whether the audit has a latent_weight

    @property
    def first(self):
        """The Python text that gives the first parameter in recon."""
        return self.parts[0]

    @property
    def effective_beta(self):
        if self.rec_weight is None or self.kl_weight is None or not self.rec_weight:
            return None
        return self.kl_weight / self.rec_weight


def read(loss_fn, example, seed=0, floor=None, ours=False):
    """The Reading of a loss, from a probe.Point. floor: the floors.Floor of the KL, if there is one. ours: the loss is a
    call of this package, which clamps nothing, draws no noise, and needs no explanation."""
    at = probe.synthetic(example, seed)
    measured = probe.measure(loss_fn, at)
    random = not ours and noise.is_random(loss_fn, at)
    if ours:
        likelihood, kl = fit.likelihood(measured, at), fit.latent(measured, at)
        of_recon, of_logvar, sampled = NO_BOUNDS, NO_BOUNDS, None
    else:
        likelihood, of_recon = _likelihood(loss_fn, measured, at)
        kl, of_logvar, sampled = _kl(loss_fn, measured, at, random)
    if floor is not None:
        kl = fit.Fit("kl", "logvar", at.mu.new_tensor(floor.weight), reads=(PLAIN,))
        of_logvar, sampled = NO_BOUNDS, None
    given, scaling = at, likelihood.scaling if likelihood else "given"
    at = fit.scalings(given)[scaling]
    if kl is not None and kl.scaling == "ignored":
        at = replace(at, latent_weight=None)
    counted = given if scaling == "by sample" else at
    sizes = {"B": len(at), "D": at.x[0].numel(), "L": at.mu[0].numel()}
    sizes |= {"O": counted.weights.sum().item() / len(at), "P": at.latent_weights.sum().item() / len(at)}
    fits = (likelihood, kl)
    probed = given if floor is None else floors.far(given)
    rec_power, kl_power, refused = _powers(loss_fn, probed, fits, sampled is not None)
    rec_weight = None if likelihood is None or likelihood.weight.dim() else likelihood.weight.item()
    obs_logvar = logscale = constant = None
    missing = ()
    if likelihood is not None and kl is not None and sampled is None:
        constant = measured.value - _weighted(at, likelihood, kl, floor)
        missing = _named(constant, likelihood, kl, at)
        plain = likelihood.clamped == (PLAIN,) and likelihood.of_x is PLAIN and len(at.recon) == 1
        if plain and likelihood.name == "gaussian" and (missing == ("own",) or likelihood.weight.dim()):
            hidden = _hidden_variance(constant, likelihood.weight, rec_power, at)
            if hidden is not None:
                rec_weight, obs_logvar, constant, missing = hidden
        if plain and likelihood.name == "laplace" and missing == ("own",):
            hidden = _hidden_scale(constant, likelihood.weight.item(), rec_power, at)
            if hidden is not None:
                rec_weight, logscale, constant, missing = hidden
    return Reading(
        sizes=sizes,
        x_shape=tuple(at.x.shape),
        mu_shape=tuple(at.mu.shape),
        per_sample=measured.per_sample,
        parts=given.parts,
        same_shape=at.x.shape == at.recon[0].shape or (likelihood is not None and likelihood.name in POSITION),
        likelihood=likelihood,
        kl=kl,
        latent_gradients=(measured.mu, measured.logvar),
        pieces=_pieces(measured, given) if kl is None else None,
        unknown=_unknown(loss_fn, measured, given) if likelihood is None else "",
        used=any(measured.used[1:]),
        rec_weight=rec_weight,
        kl_weight=None if kl is None else kl.weight if kl.weight.dim() else kl.weight.item(),
        rec_power=rec_power,
        kl_power=kl_power,
        refused=refused,
        axes={} if ours else _of_axes(loss_fn, probed, fits, sampled is not None),
        obs_logvar=obs_logvar,
        logscale=logscale,
        constant=constant,
        missing=missing,
        of_recon=of_recon,
        of_logvar=of_logvar,
        random=random,
        sampled=sampled,
        floor=floor,
        latent_weight=given.latent_weight is not None,
        **_of_weight(given, likelihood),
    )


NO_BOUNDS = bounds.Bounds(None, None)


def _likelihood(loss_fn, measured, at):
    """(the Fit, the Bounds of the first parameter)"""
    found = fit.likelihood(measured, at)
    if found is None:
        found = fit.clamped_likelihood(measured, at)
        limits = bounds.of_recon(loss_fn, at, found) if found else NO_BOUNDS
        return (replace(found, clamp=limits.meaning()), limits) if limits else (None, NO_BOUNDS)
    if found.name == "none":
        return found, NO_BOUNDS
    limits = bounds.of_recon(loss_fn, fit.scalings(at)[found.scaling], found)
    return (found if limits.soft or not limits else replace(found, clamp=limits.meaning())), limits


def _kl(loss_fn, measured, at, random):
    """(the Fit, the Bounds of logvar, the Noise of a KL that is estimated from one sample)"""
    if random:
        sampled = noise.sampled_kl(loss_fn, at)
        if sampled is not None:
            return fit.Fit("kl", "logvar", sampled[0], reads=(PLAIN,)), NO_BOUNDS, sampled[1]
    found = fit.latent(measured, at)
    if found is None:
        found = fit.clamped_latent(measured, at)
        if found is None:
            return None, NO_BOUNDS, None
    if found.name == "none" or found.reads[0].name not in ("", "log sigma") or not (at.logvar < 0).any():
        return found, NO_BOUNDS, None
    limits = bounds.of_logvar(loss_fn, replace(at, latent_weight=None) if found.scaling == "ignored" else at, found)
    return (replace(found, clamp=limits.meaning()) if limits else found), limits, None


def _pieces(measured, at):
    """The factors of mu^2 / 2, mu, exp(logvar) and logvar, if these give the gradients, times a number: the factor of
    exp(logvar) is 1/2 as in the KL."""
    grads = torch.stack([measured.mu, measured.logvar])
    (a, b), (c, d) = fit.pieces(grads, at)
    w = at.latent_weights
    if not fit.matches(grads, torch.stack([w * (a * at.mu + b), w * (c * at.logvar.exp() + d)])):
        return None
    unit = next((abs(2 * p) for p in (c, d) if abs(p) > fit.CLOSE * grads.abs().max()), a.abs())
    return (a / unit).item(), (b / unit).item(), (c / unit).item(), (d / unit).item()


def _unknown(loss_fn, measured, at):
    """What can be said of a reconstruction that no Fit explains, or ""."""
    ratio = fit.by_class(measured, at)
    if ratio is not None:
        return (
            f"this is a bernoulli loss in which x = 1 has {ratio:.4g} times the weight of x = 0, as with pos_weight: "
            "no log-likelihood"
        )
    x = fit.target(at, "gaussian") if len(at.recon) == 1 else None
    if x is None or at.weight is not None:
        return ""
    grads = [probe.measure(loss_fn, replace(at, recon=(x + shift,))).recon[0] for shift in (0.3, 1.7)]
    if all(bool(g.any()) and fit.matches(g, g.mean().expand_as(g)) for g in grads):
        return "the gradient of recon depends on recon - x alone, as in a Huber or a log-cosh loss, or in a sum of losses"
    return ""


def _of_weight(at, likelihood):
    """The fields weight, masked, whole, dims and by_sample of a Reading."""
    by_sample = at.weights.flatten(1).sum(1) if at.x.dim() > 1 else at.weights
    if at.weight is None:
        return {"weight": "", "masked": False, "whole": False, "dims": at.x.dim(), "by_sample": by_sample}
    masked, whole = at.weight.dtype == torch.bool, at.weight.shape == at.x.shape
    found = {"weight": "weight", "masked": masked, "whole": whole, "dims": at.x.dim(), "by_sample": by_sample}
    if at.x.shape == at.recon[0].shape or (likelihood is not None and likelihood.name in POSITION):
        return found
    text = f"{'weight' if whole else 'weight.expand_as(x)'}.reshape({at.parts[0]}.shape)"
    return found | {"weight": text, "whole": True, "dims": at.recon[0].dim()}


def _powers(loss_fn, at, fits, sampled):
    """The power p of each weight, which is proportional to B^-p, and whether the loss took no batch of another size."""
    other = probe.resized(at)
    weights = _elsewhere(loss_fn, other, fits, sampled)
    samples = len(at) / len(other)
    rec, kl = fits
    counts = [
        fit.scalings(p)["inverted" if rec and rec.scaling == "inverted" else "given"].weights for p in (at, other)
    ]
    elements = (counts[0].sum() / counts[1].sum()).item()
    latents = (at.latent_weights.sum() / other.latent_weights.sum()).item()
    powers = _power(rec, weights[0], samples, elements), _power(kl, weights[1], samples, elements, latents)
    return *powers, weights == (None, None)


def _of_axes(loss_fn, at, fits, sampled):
    """{axis: (the power of the reconstruction's weight, that of the KL's weight)}, by a cut of each axis."""
    found = {}
    for axis in probe.axes(at):
        other = probe.cut(at, axis)
        sizes = [p.x.shape[axis[1]] if axis[0] == "x" else p.mu.shape[axis[1]] for p in (at, other)]
        weights = _elsewhere(loss_fn, other, fits, sampled)
        found[axis] = tuple(
            _power(f, w, sizes[0] / sizes[1]) if f is not None and not f.weight.dim() else None
            for f, w in zip(fits, weights, strict=True)
        )
    return found


def _elsewhere(loss_fn, at, fits, sampled):
    """The weights of the two terms at a point of other sizes, or None."""
    try:
        measured = probe.measure(loss_fn, at)
    except (RuntimeError, TypeError, ValueError, IndexError):  # a loss may accept one size only
        return None, None
    rec, kl = fits
    of_kl = noise.weight_of(loss_fn, at) if sampled else fit.again(kl, measured, at)
    return fit.again(rec, measured, at), of_kl


def _power(one, other, *ratios):
    """The power by which the weight of a Fit falls as one of the ratios: of the samples, the observed elements or
    latents. None if it was not measured."""
    if one is None:
        return None
    if not one.weight.any():
        return 0
    if other is None:
        return None
    both = (one.weight != 0) & (other != 0)  # an element may be observed in one of the batches only
    shares = [weight.expand(both.shape)[both].abs().mean() for weight in (other, one.weight)]
    change = torch.log(shares[0] / shares[1]).item()
    powers = [change / math.log(ratio) for ratio in ratios if ratio != 1]
    return next((round(p) for p in powers if math.isfinite(p) and abs(p - round(p)) < 0.01), None)


def _weighted(at, likelihood, kl, floor):
    """The sum over the batch of the two terms that were found. A Gaussian with one weight for each element is computed
    without its constants."""
    prior = () if kl.prior is None else tuple(at.mu.new_tensor(p) for p in kl.prior)
    reads = kl.clamped[0] if kl.reads else PLAIN
    kls = gaussian_kl(at.mu, reads.into(at.logvar), *prior)
    total = (kl.weight * at.latent_weights * kls).sum() if floor is None else floor.total(kls)
    if likelihood.weight.dim():
        weights, residuals = fit.residual(at)
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
        x = fit.target(at, likelihood.name)
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
    for weight in _shares(power, b, residuals[0].numel(), count):
        logvar = torch.where(observed > 0, torch.log(weight / each), 0.0)
        total, size = (observed * logvar).sum().item(), (observed * logvar.abs()).sum().item()
        for missing, two_pi in (((), count * LOG_2PI), (("2pi",), 0.0)):
            left = constant - weight * (total + two_pi) / 2
            if abs(left) <= fit.CLOSE * weight * (size + two_pi + b):
                logvar = logvar if weights.dim() else torch.log(weight / weights).item()
                return weight, logvar, -weight * count * LOG_2PI / 2 if missing else 0.0, missing
    return None


def _hidden_scale(constant, weight_of_unit, power, at):
    """(weight, logscale, constant, missing) of a Laplace loss with one scale inside: the weight w of a unit scale is
    weight / scale, and the logarithm of the scale is part of `constant`."""
    count = at.weights.sum().item()
    constant += weight_of_unit * count * math.log(2)
    for weight in _shares(power, len(at), at.x[0].numel(), count):
        if weight_of_unit <= 0:
            return None
        logscale = math.log(weight / weight_of_unit)
        for missing, two in (((), math.log(2)), (("2",), 0.0)):
            if abs(constant - weight * count * (logscale + two)) <= fit.CLOSE * weight * count * (abs(logscale) + two):
                return weight, logscale, -weight * count * math.log(2) if missing else 0.0, missing
    return None


def _shares(power, b, elements, count):
    """The weights that a sum or a mean gives to the terms; `count` is the sum of their weights."""
    of_batch = (1.0, 1 / b) if power == 0 else (1.0,)  # a constant of the loss may be the batch size
    for share in of_batch:
        for divisor in (1.0, elements, count / b):
            yield share / divisor * b ** -(1 if power is None else power)
