"""The likelihoods that recon and x may have in a loss, with the meanings that the loss may give to both."""

import itertools
from dataclasses import dataclass, replace

import torch

from ..formulas import ALL, PIXEL, POSITION, ROW
from . import meanings
from .meanings import PLAIN, Meaning
from .probe import wide


@dataclass(frozen=True)
class Candidate:
    """A likelihood that recon and x fit, with the meanings of the parameters and of x."""

    name: str
    names: tuple[str, ...]  # of the parameters, of the first ones in recon
    reads: tuple[Meaning, ...]
    of_x: Meaning = PLAIN

    @property
    def argument(self):
        return self.reads[0].name or ALL[self.name].PARAMETERS[0]

    def nll(self, at, *recon):
        """The weighted terms."""
        formula, x = ALL[self.name], target(at, self.name)
        assert x is not None, "candidates() gives no likelihood of which x is no target"
        x = self.of_x.into(x)
        named = {n: m.into(r) for n, m, r in zip(self.names, self.reads, recon, strict=False)}
        missing = [p for p in formula.PARAMETERS if p not in named]
        terms = formula.nll(x, **named, **{p: x.new_full((), formula.DEFAULTS[p]) for p in missing})
        return at.weights.reshape(terms.shape) * terms


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


def candidates(at, used, unusual=False):
    """Each Candidate with the first `used` parameters in recon that x fits: with plain meanings, or probabilities; or
    with the unusual meanings."""
    for name, formula in ALL.items():
        names = at.names or formula.PARAMETERS[: len(at.recon)]
        some = names[:used]
        missing = [p for p in formula.PARAMETERS if p not in some]
        needed = any(p not in formula.DEFAULTS for p in missing)
        if needed or len(names) < len(at.recon) or not set(names) <= set(formula.PARAMETERS):
            continue
        if name in ROW or name in PIXEL or target(at, name) is None:  # the audit changes elements, one term each
            continue
        plain = (PLAIN,) * used
        usual = [plain]
        if name == "bernoulli" and is_defined(meanings.PROBABILITIES, at.recon[0]):
            usual.append((meanings.PROBABILITIES,))
        if not unusual:
            yield from (Candidate(name, some, reads) for reads in usual)
            continue
        of_parts = [[PLAIN, *_meanings(name, p, r)] for p, r in zip(some, at.recon, strict=False)]
        for reads in itertools.product(*of_parts):
            yield from (
                Candidate(name, some, reads, m) for m in _of_x(name, at) if m is not PLAIN or reads not in usual
            )


def _meanings(name, parameter, values):
    """The unusual meanings that a parameter may have for these values."""
    of_positions = (meanings.SIGMOID, meanings.TANH, meanings.SOFTMAX)
    for meaning in meanings.OF_PARAMETER.get(parameter, ()):
        fits = meaning in of_positions if name in POSITION else meaning is not meanings.SOFTMAX
        if fits and is_defined(meaning, values):
            yield meaning


def _of_x(name, at):
    """The meanings that x may have in a loss with this likelihood."""
    if name in POSITION:
        return [PLAIN]
    if at.x.dtype == torch.uint8:
        return [PLAIN, meanings.BYTES]
    return [PLAIN, *meanings.OF_X]


def is_defined(meaning, values):
    """Whether a meaning is defined for these values."""
    if meaning is meanings.PROBABILITIES:
        return bool(((values > 0) & (values < 1)).all())
    return meaning not in meanings.LOGARITHMS or bool((values > 0).all())


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


def gradients_of(candidate, at):
    """The gradients of the nll by each parameter in recon."""
    return derivatives(lambda *recon: candidate.nll(at, *recon), at.recon)


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def derivatives(f, inputs):
    leaves = [wide(t).detach().requires_grad_() for t in inputs]
    with torch.enable_grad():
        return torch.autograd.grad(f(*leaves).sum(), leaves, allow_unused=True, materialize_grads=True)
