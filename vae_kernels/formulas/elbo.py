"""The objective in plain PyTorch, composed of the formulas; this is backend "torch". Per sample b, in nats:

    nll_b  = - sum over event dims of log p(x_b | parameters_b)
    kl_b   = sum over latent dims d of kl_bd
    loss_b = rec_weight nll_b + sum_d beta_d kl_bd

minimised; -ELBO of Kingma & Welling 2014 (arXiv:1312.6114, equation 3) at rec_weight = beta = 1; beta is that of
Higgins et al. 2017 (beta-VAE, equation 4). Computed in float32, or in float64 if a parameter or a latent is float64;
lower precision is converted on entry. The arguments are taken as checked. The function mixture of a backend
has a file of its own.
"""

import torch

from .. import philox
from ..terms import ElboTerms
from . import LEVELS, LIKELIHOODS
from .kl import gaussian_kl
from .mixture import mixture
from .reparameterize import reparameterize

__all__ = ["elbo", "levels", "mixture", "sample_kl"]


def elbo(x, params, likelihood, latent, rec_weight=1.0, beta=1.0, reduction="mean", terms=False):
    """The loss, or with its terms as ElboTerms, of the compute dtype.

    x           [B, ...] target, floating or uint8 (read as x / 255; counts as they are, also of other integer types);
                or None: no likelihood term
    params      tuple of tensors; the first has the shape of x, the others broadcast to it; () if x is None;
                trailing ones that are missing take the likelihood's DEFAULTS
    likelihood  name in LIKELIHOODS
    latent      () | (kl,) | (mu, logvar) | (mu, logvar, prior_mu, prior_logvar);
                kl [B] or [B, ...]; mu, logvar [B, ...]; the prior broadcasts to mu
    rec_weight  float or 0-d tensor
    beta        float, 0-d tensor, or tensor that broadcasts to the latent dims
    reduction   "mean" over the batch or "sum": loss is 0-d; "none": loss is [B]
    terms       whether they are wanted; None for each that there is not
    """
    dtype = compute_dtype(*params, *latent)
    loss = nll = kl = kl_per_dim = None
    if x is not None:
        nll = _sum_events(_nll(x, params, LIKELIHOODS[likelihood], dtype))
        loss = rec_weight * nll
    if latent:
        kl_bd = _kl(latent, dtype)
        kl = _sum_events(kl_bd)
        by_dim = isinstance(beta, torch.Tensor) and beta.dim() > 0
        weighted = _sum_events(beta.to(dtype) * kl_bd) if by_dim else beta * kl
        loss = weighted if loss is None else loss + weighted
        if terms and kl_bd.dim() > 1:
            kl_per_dim = kl_bd.mean(0)
    if reduction == "mean":
        loss = loss.mean()
    elif reduction == "sum":
        loss = loss.sum()
    return ElboTerms(loss, nll, kl, kl_per_dim) if terms else loss


def levels(x, logits, likelihood):
    """-log p(x | logits) of each sample, [B]; x [B, ...] integers, logits [B, K, ...], likelihood a name in LEVELS."""
    return _sum_events(LEVELS[likelihood].nll(x, logits.to(compute_dtype(logits))))


def sample_kl(mu, logvar, prior, rng, n_samples=None, with_kl=True):
    """One reparameterized sample of N(mu, e^logvar), or n_samples, and the KL to the prior: (z, kl).

    mu, logvar [B, ...], or logvar None and mu both of them, [B, 2L, ...]; prior None for N(0, I) or a pair (mu, logvar)
    that broadcasts to mu; rng as in philox.py.
    z is [B, ...], or [n_samples, B, ...], of the dtype of mu; kl is [B] in nats, of the compute dtype, or None.
    """
    mu, logvar = halves(mu, logvar)
    latent = (mu, logvar, *(prior or ()))
    dtype = compute_dtype(*latent)
    shape = mu.shape if n_samples is None else (n_samples, *mu.shape)
    eps = philox.normals(rng, shape, mu.device, n_samples)
    z = reparameterize(mu.to(dtype), logvar.to(dtype), eps).to(mu.dtype)
    return z, _sum_events(_kl(latent, dtype)) if with_kl else None


def halves(mu, logvar):
    """mu and logvar, also where mu holds both."""
    return mu.chunk(2, 1) if logvar is None else (mu, logvar)


def compute_dtype(*tensors):
    """float64 if one of the tensors is float64, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _nll(x, params, formula, dtype):
    """Element-wise -log p, of the shape of x."""
    levels = x.dtype == torch.uint8 and formula.SUPPORT != "counts"
    x = x.to(dtype) / 255 if levels else x.to(dtype)
    missing = (x.new_full((), formula.DEFAULTS[name]) for name in formula.PARAMETERS[len(params) :])
    return formula.nll(x, *(p.to(dtype) for p in params), *missing)


def _kl(latent, dtype):
    """Element-wise KL, [B, latent dims], or the one that was given."""
    latent = tuple(t.to(dtype) for t in latent)
    return latent[0] if len(latent) == 1 else gaussian_kl(*latent)


def _sum_events(t):
    """[B, ...] -> [B]; sum() over no dims at all would sum over the batch."""
    return t.sum(tuple(range(1, t.dim()))) if t.dim() > 1 else t
