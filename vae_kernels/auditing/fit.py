"""Finds the KL, or the likelihood, of which a gradient is a multiple."""

from dataclasses import dataclass, replace

import torch

from ..formulas import ALL
from ..formulas.kl import gaussian_kl
from . import meanings
from .candidates import Candidate, candidates, derivatives, flat, gradients_of, is_defined, residual, scalings, target
from .meanings import PLAIN, Meaning

CLOSE = 1e-4  # relative: more than the error of a loss in float32, and much less than the difference of two terms


@dataclass(frozen=True)
class Fit:
    """gradient = weight * (gradient of the term `name`). weight is 0-d, or has the shape of a sample.

    scaling: the name of the weights of the elements of x, in scalings(); of a KL "given" or "ignored".
    reads: the meaning of each parameter in recon; of a KL the meaning of logvar. A likelihood may have fewer meanings
    than recon has parameters: the others have no gradient.
    clamp: what the loss does with the first parameter, or with logvar, before all else.
    prior: None, or the mean and the log-variance of the prior of a KL.
    """

    name: str
    argument: str  # the meaning that the argument has in the loss: "logits", "probabilities", ..; "logvar", "log sigma"
    weight: torch.Tensor
    scaling: str = "given"
    reads: tuple[Meaning, ...] = ()
    of_x: Meaning = PLAIN
    clamp: Meaning = PLAIN
    prior: tuple[float, float] | None = None

    @property
    def clamped(self):
        """The meanings, with the clamp in the first one."""
        return (meanings.after(self.reads[0], self.clamp), *self.reads[1:]) if self.reads else ()


def latent(measured, at):
    """The Fit of the KL, or None if the gradients are no multiple of the KL's."""
    found = _latent(measured, at)
    if found is None and at.latent_weight is not None:
        found = _latent(measured, replace(at, latent_weight=None))
        return found and replace(found, scaling="ignored")
    return found


def latent_gradient(at, reads=PLAIN, prior=None):
    """The gradient of the KL by mu and logvar: [2, B, ...]."""
    prior = () if prior is None else tuple(at.mu.new_tensor(p, dtype=torch.float64) for p in prior)
    return torch.stack(
        derivatives(lambda m, v: at.latent_weights * gaussian_kl(m, reads.into(v), *prior), (at.mu, at.logvar))
    )


def _latent(measured, at):
    grads = torch.stack([measured.mu, measured.logvar])
    if not grads.any():
        return Fit("none", "logvar", grads.new_zeros(()))
    if not grads.isfinite().all():
        return None
    tries = [reads for reads in (PLAIN, *meanings.LOG_VARIANCES) if is_defined(reads, at.logvar)]
    for over in (None, (0, 1)):  # one weight for all, or one for each latent dimension
        for reads in tries:
            weight = multiple(grads, latent_gradient(at, reads), over)
            if weight is not None:
                return Fit("kl", reads.name or "logvar", weight, reads=(reads,))
    for reads in tries:
        prior = _prior(grads, at, reads)
        weight = None if prior is None else multiple(grads, latent_gradient(at, reads, prior))
        if weight is not None:
            return Fit("kl", reads.name or "logvar", weight, reads=(reads,), prior=prior)
    return None


def _prior(grads, at, reads):
    """The mean and the log-variance of the one Gaussian prior for which the gradients are those of a KL, or None.

    With t = reads(logvar) the KL has the gradients w (mu - m) / s^2 and w / 2 (e^t / s^2 - 1) dt / dlogvar.
    """
    (slope, offset), (growth, constant) = pieces(grads, at, reads)
    if not (slope > 0 and growth > 0 and -constant > CLOSE * growth):
        return None
    return (-offset / slope).item(), torch.log(-constant / growth).item()


def pieces(grads, at, reads=PLAIN):
    """((a, b), (c, d)) by least squares: the gradient by mu is a mu + b, the one by reads(logvar) is c e^reads + d. The
    KL to N(0, I) with the weight w has (w, 0) and (w / 2, -w / 2)."""
    w = at.latent_weights
    derivative = derivatives(reads.into, (at.logvar,))[0]
    by_mu = torch.stack([w * at.mu, w]).flatten(1)
    by_logvar = torch.stack([w * derivative * reads.into(at.logvar).exp(), w * derivative]).flatten(1)
    return tuple(
        torch.linalg.lstsq(basis.T, grad.flatten().unsqueeze(1)).solution.squeeze(1)
        for basis, grad in ((by_mu, grads[0]), (by_logvar, grads[1]))
    )


def likelihood(measured, at):
    """The Fit of the likelihood, or None if the gradient is no multiple of any known likelihood's."""
    grads = measured.recon
    if not any(g.any() for g in grads):
        return Fit("none", "nothing", grads[0].new_zeros(()))
    used = max(i + 1 for i, g in enumerate(grads) if g.any())
    for unusual in (False, True):
        for scaling, scaled in scalings(at).items():
            few = _few(scaled)
            for candidate in candidates(scaled, used, unusual):
                if few is not None:  # much less work than all samples, for a candidate that does not fit
                    some = flat(gradients_of(candidate, few))
                    if multiple(flat([g[: len(few)] for g in grads]), some) is None:
                        continue
                weight = multiple(flat(grads), flat(gradients_of(candidate, scaled)))
                if weight is not None:
                    return fitted(candidate, weight, scaling)
    if len(grads) == 1 and grads[0].numel() == at.x.numel() and len(at) > 1:
        for scaling, scaled in scalings(at).items():
            of_terms, residuals = residual(scaled)
            weight = multiple(grads[0], of_terms * residuals, 0)
            if weight is not None:
                return Fit("gaussian", "loc", weight, scaling, (PLAIN,))
    return None


def by_class(measured, at):
    """The weight of x = 1 beside that of x = 0 in a Bernoulli loss of logits with a weight for each, or None."""
    x = target(at, "bernoulli") if len(at.recon) == 1 and at.weight is None else None
    if x is None or not ((x == 0) | (x == 1)).all() or len(x.unique()) < 2:
        return None
    truth = gradients_of(Candidate("bernoulli", ("logits",), (PLAIN,)), at)[0]
    one, zero = (multiple(measured.recon[0][x == value], truth[x == value]) for value in (1, 0))
    return None if one is None or zero is None else (one / zero).item()


def _few(at):
    """The first samples of a Point without weights, or None if not every parameter has a row for each sample."""
    n = 1 if at.x[0].numel() > 1000 else 4
    if at.weight is not None or len(at) <= n or any(r.dim() == 0 or len(r) != len(at) for r in at.recon):
        return None
    return at.map(lambda t: t[:n])


def clamped_likelihood(measured, at):
    """The Fit of the likelihood whose gradients are those of the loss wherever the loss has a gradient: the others may
    be 0 because of a clamp."""
    if len(measured.recon) > 1 or not (measured.recon[0] == 0).any():
        return None
    for unusual in (False, True):
        for candidate in candidates(at, 1, unusual):
            truth = gradients_of(candidate, at)[0]
            weight = _weight_where_live(measured.recon[0], truth)
            if weight is not None:
                return fitted(candidate, weight)
    return None


def clamped_latent(measured, at):
    """The same for the KL: mu and logvar have its gradients wherever logvar has a gradient."""
    for reads in (PLAIN, meanings.LOG_SIGMA):
        truth = latent_gradient(at, reads)
        by_mu, by_logvar = multiple(measured.mu, truth[0]), _weight_where_live(measured.logvar, truth[1])
        if by_mu is not None and by_logvar is not None and matches(by_mu, by_logvar):
            return Fit("kl", reads.name or "logvar", by_mu, reads=(reads,))
    return None


def _weight_where_live(grad, truth):
    alive = grad != 0
    if not (truth[~alive] != 0).any() or alive.double().mean() <= 0.05:
        return None
    return multiple(grad, torch.where(alive, truth, 0.0))


def fitted(candidate, weight, scaling="given"):
    return Fit(candidate.name, candidate.argument, weight, scaling, candidate.reads, candidate.of_x)


def candidate_of(fit, at):
    """The Candidate of a Fit of a likelihood."""
    names = at.names or ALL[fit.name].PARAMETERS
    return Candidate(fit.name, names[: len(fit.reads)], fit.clamped, fit.of_x)


def again(fit, measured, at):
    """The weight that the term of a Fit has at another point, or None."""
    if fit is None or fit.name == "none":
        return None
    if fit.name == "kl":
        at = replace(at, latent_weight=None) if fit.scaling == "ignored" else at
        over = (0, 1) if fit.weight.dim() else None
        return multiple(
            torch.stack([measured.mu, measured.logvar]), latent_gradient(at, fit.clamped[0], fit.prior), over
        )
    at = scalings(at)[fit.scaling]
    if fit.weight.dim():
        of_terms, residuals = residual(at)
        return multiple(measured.recon[0], of_terms * residuals, 0)
    return multiple(flat(measured.recon), flat(gradients_of(candidate_of(fit, at), at)))


def multiple(grad, truth, over=None):
    """The w with grad = w truth, by least squares over these dimensions (None: over all); None if no w fits. Where the
    truth is 0 in all samples, as of an element that is never observed, w is 0."""
    square = (truth * truth).sum(over)
    weight = torch.where(square == 0, 0.0, (grad * truth).sum(over) / square)
    return weight if matches(grad, weight * truth) else None


def matches(a, b):
    return bool(torch.isfinite(b).all()) and bool((a - b).norm() <= CLOSE * a.norm())
