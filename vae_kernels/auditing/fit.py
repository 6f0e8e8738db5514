"""Finds the KL, or the likelihood, of which a gradient is a multiple."""

from dataclasses import dataclass, replace

import torch

from ..formulas import ALL, POSITION
from ..formulas.kl import gaussian_kl
from .probe import wide

CLOSE = 1e-4  # relative: more than the error of a loss in float32, and much less than the difference of two terms


@dataclass(frozen=True)
class Fit:
    """gradient = weight * (gradient of the term `name`). weight is 0-d, or has the shape of a sample.

    scaling: the name of the weights of the elements of x, in scalings(); of a KL "given" or "ignored".
    """

    name: str
    argument: str  # the meaning that the argument has in the loss: "logits", "probabilities", ..; "logvar", "log sigma"
    weight: torch.Tensor
    scaling: str = "given"


def scalings(at):
    """{name: the point, with the weights that a loss may give to the elements of x}

    "given": the weights of the point. "by sample": the weights divided by their sum in each sample, times the mean of
    these sums. "ignored": none. "inverted": a mask of what is missing.
    """
    found = {"given": at}
    if at.weight is None:
        return found
    if at.x.dim() > 1:
        weights = at.weights
        sums = weights.flatten(1).sum(1).reshape(-1, *[1] * (weights.dim() - 1))
        found["by sample"] = replace(at, weight=(weights / sums).nan_to_num() * sums.mean())
    if at.weight.dtype == torch.bool:
        found["inverted"] = replace(at, weight=~at.weight)
    return found | {"ignored": replace(at, weight=None)}


def latent(measured, at):
    """The Fit of the KL to N(0, I), or None if the gradients are no multiple of the KL's."""
    found = _latent(measured, at)
    if found is None and at.latent_weight is not None:
        found = _latent(measured, replace(at, latent_weight=None))
        return found and replace(found, scaling="ignored")
    return found


def _latent(measured, at):
    grads = torch.stack([measured.mu, measured.logvar])
    if not grads.any():
        return Fit("none", "logvar", grads.new_zeros(()))
    w = at.latent_weights
    truths = {argument: torch.stack(_gradients(lambda m, v, k=k: w * gaussian_kl(m, k * v), (at.mu, at.logvar)))
              for argument, k in (("logvar", 1), ("log sigma", 2))}  # fmt: skip
    for over in (None, (0, 1)):  # one weight for all, or one for each latent dimension
        for argument, truth in truths.items():
            weight = _weight(grads, truth, over)
            if weight is not None:
                return Fit("kl", argument, weight)
    return None


def likelihood(measured, at):
    """The Fit of the likelihood, or None if the gradient is no multiple of any known likelihood's."""
    grads = measured.recon
    if not any(g.any() for g in grads):
        return Fit("none", "nothing", grads[0].new_zeros(()))
    flat = torch.cat([g.flatten() for g in grads])
    for scaling, scaled in scalings(at).items():
        for name, argument, nll in candidates(scaled):
            truth = _gradients(nll, at.recon)
            weight = _weight(flat, torch.cat([t.flatten() for t in truth]))
            if weight is not None:
                return Fit(name, argument, weight, scaling)
    if len(grads) == 1 and grads[0].numel() == at.x.numel():
        for scaling, scaled in scalings(at).items():
            of_terms, residuals = residual(scaled)
            weight = _weight(grads[0], of_terms * residuals, 0)
            if weight is not None:
                return Fit("gaussian", "loc", weight, scaling)
    return None


def candidates(at):
    """(likelihood, meaning of recon, weighted element-wise nll of recon) for each likelihood that recon and x fit."""
    for name, formula in ALL.items():
        names = at.names or formula.PARAMETERS[: len(at.recon)]
        missing = [p for p in formula.PARAMETERS if p not in names]
        needed = any(p not in formula.DEFAULTS for p in missing)
        if needed or len(names) < len(at.recon) or not set(names) <= set(formula.PARAMETERS):
            continue
        x = target(at, name)
        if x is None:
            continue

        def nll(*recon, formula=formula, x=x, names=names, missing=missing):
            named = dict(zip(names, recon, strict=True))
            terms = formula.nll(x, **named, **{p: x.new_full((), formula.DEFAULTS[p]) for p in missing})
            return at.weights.reshape(terms.shape) * terms

        yield name, formula.PARAMETERS[0], nll
        if name == "bernoulli" and all(bool(((r > 0) & (r < 1)).all()) for r in at.recon):
            w = at.weights.reshape(x.shape)
            yield name, "probabilities", lambda p, x=x, w=w: -w * (x * p.log() + (1 - x) * (1 - p).log())


def target(at, name):
    """x as fused_elbo reads it, in the shape of recon, with 0 where its weight is 0; None if x cannot be a target of
    this likelihood."""
    shape, x = at.recon[0].shape, at.filled().x
    if name in POSITION:
        fits = not x.is_floating_point() and shape[2:] == x.shape[1:] and len(shape) == x.dim() + 1
        return x if fits else None
    if x.numel() != at.recon[0].numel():
        return None
    scaled = x.dtype == torch.uint8 and ALL[name].SUPPORT != "counts"
    return (x.double() / 255 if scaled else x.double()).reshape(shape)


def residual(at):
    """(the weights, recon - x): the residuals of a Gaussian, and the weights of their squares."""
    residuals = at.recon[0] - target(at, "gaussian")
    return at.weights.reshape(residuals.shape), residuals


def _gradients(f, inputs):
    leaves = [wide(t).detach().requires_grad_() for t in inputs]
    with torch.enable_grad():
        return torch.autograd.grad(f(*leaves).sum(), leaves)


def _weight(grad, truth, over=None):
    """The w with grad = w truth, by least squares over these dimensions (None: over all); None if no w fits. Where the
    truth is 0 in all samples, as of an element that is never observed, w is 0."""
    square = (truth * truth).sum(over)
    weight = torch.where(square == 0, 0.0, (grad * truth).sum(over) / square)
    return weight if _matches(grad, weight * truth) else None


def _matches(a, b):
    return bool(torch.isfinite(b).all()) and bool((a - b).norm() <= CLOSE * a.norm())
