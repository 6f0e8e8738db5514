"""The tensors of a request: checked against each other, and laid out in memory as the kernels read them."""

from ..formulas import SEGMENTS
from . import draws, layout, levels, parameters, rows, segments, weights


def likelihood(recon, x, likelihood, name, obs_logvar, log_total, n_samples=None):
    """x and the parameters. With n_samples, recon has K B samples, as draws.flat() gives them."""
    beside = draws.stand_in(x, n_samples)
    if name in SEGMENTS:
        return segments.laid_out(recon, x, likelihood, obs_logvar, log_total, beside)
    params = parameters.checked(recon, beside, likelihood, obs_logvar)
    return layout.likelihood(levels.read(x, params, likelihood), params)


def log_total(value, x, name, n_samples=None):
    """log_total, one number for each sample of recon."""
    return draws.of_samples(rows.log_total(value, x, name), n_samples)


def weight(weight, x, params, name, likelihood):
    """The weight of the terms, against the terms of x."""
    if name in SEGMENTS:
        return segments.weight(weight, x, likelihood.plan)
    if params[0].dim() > x.dim():
        weights.check_positions(weight, params[0].shape[1])
    like = layout.terms_like(x, params)
    weights.check("weight", weight, like, "x" if like is x else "the terms", "rec_weight")
    weight = layout.term_weight(weight, like)
    rows.check_weight(weight, name, x)
    return weight


def latent_weight(weight, latent):
    """The weight of the KL, against mu."""
    weights.check("latent_weight", weight, latent[0], "mu", "beta")
    return layout.term_weight(weight, latent[0])
