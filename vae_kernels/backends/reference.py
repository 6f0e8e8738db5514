"""The objective in plain PyTorch, composed of the formulas; this is backend "torch". Per sample b, in nats:

    nll_b  = - sum over event dims i of weight_bi log p(x_bi | parameters_bi)
    kl_b   = sum over latent dims d of latent_weight_bd kl_bd
    loss_b = rec_weight nll_b + sum_d beta_d kl_bd

With free bits, a unit of the KL costs at least so many nats: core/penalty.py has the formula.

Training minimises the loss. At rec_weight = beta = 1 it is -ELBO of Kingma & Welling 2014 (arXiv:1312.6114, equation
3). beta is that of Higgins et al. 2017 (beta-VAE, equation 4). Where a weight is 0, the term is missing: its value and
all of its gradients are exactly 0, whatever x, the parameters and the latents hold there.

The computation is in float32, or in float64 if a parameter or a latent is float64. Lower precision is converted first.
The requests (core/objective.py) have been checked by functional.py. formulas/ has the functions `mixture`
and `decomposition`.
"""

import functools
from typing import Any

import torch

from ..core import draws, noise, rows
from ..core.objective import Objective, Reduction, factor_of
from ..core.penalty import floored
from ..core.terms import ElboTerms
from ..formulas import ALL, PIXEL, POSITION, SEGMENTS, mixed, multinomial, shares
from ..formulas.decomposition import decomposition
from ..formulas.kl import gaussian_kl
from ..formulas.mixture import mixture
from ..formulas.reparameterize import reparameterize

__all__ = ["decomposition", "elbo", "log_prob", "mixture", "sample_kl"]


def elbo(objective: Objective, nll_of_samples: Any = None) -> Any:
    """The loss that `objective` asks for, or ElboTerms. The dtype is the compute dtype. nll_of_samples: a function with
    the arguments and the result of nll(), or None for nll() itself."""
    settings, x, rec_weight, beta, weight, latent_weight, nats, params, latent, log_total = objective
    dtype = compute_dtype(*params, *latent)
    loss = nll_b = kl = kl_per_dim = nll_per_column = None
    if settings.likelihood in SEGMENTS:
        each = nll_of_columns(x, params, weight, dtype, *settings.options)
        nll_b, nll_per_column = each.sum(1), each.mean(0) if settings.terms else None
        loss = _times(factor_of(settings.rec_weight, rec_weight), nll_b)
    elif x is not None:
        nll_b = (nll_of_samples or nll)(x, params, settings.likelihood, weight, dtype, log_total, settings.options)
        loss = _times(factor_of(settings.rec_weight, rec_weight), nll_b)
    if latent:
        kl_bd = weighted_kl(latent, latent_weight, dtype, settings.balance)
        kl = _sum_events(kl_bd)
        by_dim = beta is not None and beta.dim() > 0
        factor = factor_of(settings.beta, beta)
        costs = floored(kl_bd, factor_of(settings.nats, nats), settings.floor) if settings.floor else kl
        weighted = _sum_events(factor.to(dtype) * kl_bd) if by_dim else _times(factor, costs)
        loss = weighted if loss is None else loss + weighted
        if settings.terms and kl_bd.dim() > 1:
            kl_per_dim = kl_bd.mean(0)
    assert loss is not None, "a request has a likelihood term, a latent term, or both"
    if settings.reduction == Reduction.MEAN:
        loss = loss.mean()
    elif settings.reduction == Reduction.SUM:
        loss = loss.sum()
    return ElboTerms(loss, nll_b, kl, kl_per_dim, nll_per_column) if settings.terms else loss


def _times(factor, t):
    """factor * t, without an operation where the factor is the number 1."""
    return t if type(factor) is float and factor == 1 else factor * t


def log_prob(likelihood, x, params, options=()):
    """log p of each term, in the compute dtype."""
    dtype = compute_dtype(*params)
    if likelihood in SEGMENTS:
        return -nll_of_columns(x, params, None, dtype, *options)
    return -_terms(likelihood, options, dtype, x, *params)


def sample_kl(draw):
    """z in the dtype of mu, and the KL in the compute dtype, or None, as `draw` asks."""
    mu, logvar = halves(draw.mu, draw.logvar)
    latent = (mu, logvar, *draw.prior)
    dtype = compute_dtype(*latent)
    shape = mu.shape if draw.n_samples is None else (draw.n_samples, *mu.shape)
    eps = noise.normals(draw.rng, shape, mu.device, draw.n_samples) if draw.eps is None else draw.eps
    z = reparameterize(mu.to(dtype), logvar.to(dtype), eps).to(mu.dtype)
    return z, _sum_events(weighted_kl(latent, draw.latent_weight, dtype)) if draw.with_kl else None


def halves(mu, logvar):
    """mu and logvar as two tensors, also where one tensor mu has both."""
    return mu.chunk(2, 1) if logvar is None else (mu, logvar)


def compute_dtype(*tensors):
    """float64 if one of the tensors is float64, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def nll(x, params, likelihood, weight, dtype, log_total=None, options=()):
    """-log p of each sample of params, [B], from the weighted terms. x may have fewer samples (core/draws.py)."""
    x, weight = draws.repeated(x, weight, params[0].shape[0])
    if log_total is not None or ALL[likelihood].KIND == "row":
        return _nll_of_rows(x, params, likelihood, weight, dtype, log_total)
    params = [p.to(dtype) for p in params]  # before a weight makes one number many: each gradient would be rounded
    terms = functools.partial(_terms, likelihood, options, dtype)
    return _sum_events(_weighted(weight, terms, (x, *params), x.dim(), dtype))


def _terms(likelihood, options, dtype, x, *params):
    """-log p of each term. `options` are those of the likelihood."""
    formula = ALL[likelihood]
    if likelihood in POSITION or likelihood in PIXEL:
        return formula.nll(x, *(p.to(dtype) for p in params), *options)
    params = params[: len(formula.PARAMETERS)]  # the kernels take the options as further parameters
    levels = x.dtype == torch.uint8 and formula.SUPPORT != "counts"
    x = x.to(dtype) / 255 if levels else x.to(dtype)
    missing = (x.new_full((), formula.DEFAULTS[name]) for name in formula.PARAMETERS[len(params) :])
    return formula.nll(x, *(p.to(dtype) for p in params), *missing, *options)


def nll_of_columns(x, params, weight, dtype, columns):
    """weight * -log p of each column of a table, [B, columns], and exactly 0 where the weight is 0."""
    x, weight = draws.repeated(x, weight, params[0].shape[0])
    packed, logscale = (p.to(dtype) for p in params)
    x = x.to(dtype)
    if weight is None:
        return mixed.nll(x, packed, logscale, columns)
    keep = (weight != 0).expand(x.shape[0], columns.count)
    each = mixed.nll(x, packed, logscale, columns, keep)
    return torch.where(keep, weight.to(dtype) * each, each.new_zeros(()))


def _nll_of_rows(x, params, likelihood, weight, dtype, log_total):
    """-log p of each sample, [B], where params[0] has logits of shares.

    The soft-max runs over every element, so a weight of 0 removes no logit. The sum n of a row of Poisson counts is a
    Poisson count too, and the row given n is multinomial. From these two parts the derivative by a logit is n share - x
    to full accuracy; the derivative of the sum of all terms is the difference of two numbers of the size of the total.
    """
    formula, logits, x = ALL[likelihood], params[0].to(dtype), x.to(dtype)
    total = None if log_total is None else log_total.to(dtype)
    alike = getattr(formula, "SUM_ALIKE", False) and (weight is None or rows.of_samples(weight, x))
    alike = alike and x.shape[1:].numel() > 0  # without an element there is no sum of counts
    if alike or total is None:
        shape = (-1, *[1] * (x.dim() - 1))

        def terms(x):
            value = multinomial.nll(x, logits).view(shape)
            n = shares.total(x).view(shape)
            return value + shares.without_absent(formula.nll, n, total) if alike else value

        return _sum_events(_weighted(weight, terms, (x,), x.dim(), dtype))
    log_mean = shares.log_mean(logits, total)
    keep = ~shares.absent(x, log_mean)
    weight = keep if weight is None else torch.where(keep, weight, torch.zeros((), dtype=weight.dtype))
    return nll(x, (log_mean, *params[1:]), likelihood, weight, dtype)


def weighted_kl(latent, weight, dtype, balance=None):
    """The weighted KL of each latent dimension, [B, latent dims], or the KL that was given."""
    if balance is not None:  # one part without a gradient of the posterior, the other without one of the prior
        q, p = latent[:2], latent[2:]
        fixed_q, fixed_p = (tuple([t.detach() for t in pair]) for pair in (q, p))
        of_prior, of_posterior = weighted_kl((*fixed_q, *p), weight, dtype), weighted_kl((*q, *fixed_p), weight, dtype)
        return balance * of_prior + (1 - balance) * of_posterior
    latent = tuple(t.to(dtype) for t in latent)
    return latent[0] if len(latent) == 1 else _weighted(weight, gaussian_kl, latent, latent[0].dim(), dtype)


def _weighted(weight, terms, tensors, dims, dtype):
    """weight * terms(*tensors), and exactly 0 where the weight is 0.

    A NaN times 0 is a NaN, and so is a gradient of 0 times a derivative that is a NaN. So `terms` reads a 0 in place of
    what the tensors hold there: every formula and all of its derivatives are finite at 0. torch.where then obeys the
    weight at every order, in forward mode and under vmap. A tensor of more than `dims` dimensions has the logits of a
    position along dimension 1.
    """
    if weight is None:
        return terms(*tensors)
    keep = weight != 0
    each = terms(*[torch.where(_against(keep, dims, t.dim()), t, t.new_zeros(())) for t in tensors])
    return torch.where(keep, weight.to(dtype) * each, each.new_zeros(()))


def _against(keep, dims, logits_dims):
    """keep, which broadcasts to `dims` dimensions, as it broadcasts to logits with one dimension more."""
    if logits_dims <= dims or keep.dim() == 0:
        return keep
    return keep.unsqueeze(1) if keep.dim() == dims else keep  # per feature: the levels are a dimension before it


def _sum_events(t):
    """[B, ...] -> [B]. Without the condition, the sum over no dimension would be a sum over the batch."""
    return t.sum(tuple(range(1, t.dim()))) if t.dim() > 1 else t
