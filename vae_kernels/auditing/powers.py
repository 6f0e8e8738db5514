"""Measures how the weight of each term depends on the sizes of the batch and of the axes, by calls with other sizes."""

import math

import torch

from . import candidates, fit, noise, probe


def of_batch(loss_fn, at, fits, sampled):
    """The power p of each weight, which is proportional to B^-p, and whether the loss took no batch of another size."""
    other = probe.resized(at)
    weights = _elsewhere(loss_fn, other, fits, sampled)
    samples = len(at) / len(other)
    rec, kl = fits
    counts = [
        candidates.scalings(p)["inverted" if rec and rec.scaling == "inverted" else "given"].weights
        for p in (at, other)
    ]
    elements = (counts[0].sum() / counts[1].sum()).item()
    latents = (at.latent_weights.sum() / other.latent_weights.sum()).item()
    powers = _power(rec, weights[0], samples, elements), _power(kl, weights[1], samples, elements, latents)
    return *powers, weights == (None, None)


def of_axes(loss_fn, at, fits, sampled):
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
