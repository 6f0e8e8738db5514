"""Reads a loss from its gradients: the weights of the two terms, their dependence on the batch size, and the constant.

The loss is read as

    loss = sum_b ( rec_weight nll_b + kl_weight kl_b ) + constant          effective beta = kl_weight / rec_weight
"""

from dataclasses import dataclass, replace

import torch

from ..formulas import POSITION
from . import bounds, candidates, constants, fit, floors, noise, powers, probe
from .constants import LOG_2PI as LOG_2PI  # a name of version 0.1
from .meanings import PLAIN


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
    finite: bool  # whether the loss and its gradients are finite at drawn values
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
    missing: tuple  # the parts of `constant`: "2pi", "2", "kl", "0", "x!"; ("own",) if these do not explain it
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
    """The Reading of a loss, from a probe.Point. floor: the floors.Floor of the KL, if there is one. ours: the loss is
    a call of this package, which clamps nothing, draws no noise, and needs no explanation."""
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
    at = candidates.scalings(given)[scaling]
    if kl is not None and kl.scaling == "ignored":
        at = replace(at, latent_weight=None)
    counted = given if scaling == "by sample" else at
    sizes = {"B": len(at), "D": at.x[0].numel(), "L": at.mu[0].numel()}
    sizes |= {"O": counted.weights.sum().item() / len(at), "P": at.latent_weights.sum().item() / len(at)}
    fits = (likelihood, kl)
    probed = given if floor is None else floors.far(given)
    rec_power, kl_power, refused = powers.of_batch(loss_fn, probed, fits, sampled is not None)
    found = constants.Constants(None if likelihood is None or likelihood.weight.dim() else likelihood.weight.item())
    if likelihood is not None and kl is not None and sampled is None:
        found = constants.of(measured.value, likelihood, kl, floor, rec_power, at)
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
        pieces=_pieces(measured, given) if kl is None and measured.finite() else None,
        unknown=_unknown(loss_fn, measured, given) if likelihood is None and measured.finite() else "",
        finite=measured.finite(),
        used=any(measured.used[1:]),
        rec_weight=found.rec_weight,
        kl_weight=None if kl is None else kl.weight if kl.weight.dim() else kl.weight.item(),
        rec_power=rec_power,
        kl_power=kl_power,
        refused=refused,
        axes={} if ours else powers.of_axes(loss_fn, probed, fits, sampled is not None),
        obs_logvar=found.obs_logvar,
        logscale=found.logscale,
        constant=found.constant,
        missing=found.missing,
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
    if found is not None and found.name == "none":
        return found, NO_BOUNDS
    guess = found or fit.clamped_likelihood(measured, at)
    if guess is None:
        return None, NO_BOUNDS
    limits = bounds.of_recon(loss_fn, candidates.scalings(at)[guess.scaling], guess)
    if limits and not limits.soft:
        return replace(guess, clamp=limits.meaning()), limits
    return found, limits


def _kl(loss_fn, measured, at, random):
    """(the Fit, the Bounds of logvar, the Noise of a KL that is estimated from one sample)"""
    if random:
        sampled = noise.sampled_kl(loss_fn, at)
        if sampled is not None:
            return fit.Fit("kl", "logvar", sampled[0], reads=(PLAIN,)), NO_BOUNDS, sampled[1]
    found = fit.latent(measured, at) or fit.clamped_latent(measured, at)
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
    x = candidates.target(at, "gaussian") if len(at.recon) == 1 else None
    if x is None or at.weight is not None:
        return ""
    grads = [probe.measure(loss_fn, replace(at, recon=(x + shift,))).recon[0] for shift in (0.3, 1.7)]
    if all(bool(g.any()) and fit.matches(g, g.mean().expand_as(g)) for g in grads):
        return (
            "the gradient of recon depends on recon - x alone, as in a Huber or a log-cosh loss, or in a sum of losses"
        )
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
