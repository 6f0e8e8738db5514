"""Estimates of information, of divergence and of holes: each a function of tensors alone, in nats."""

import math

import torch

from ..formulas import gaussian
from ..mixture import mixture_log_prob

THIN = 0.05  # of data's own codes lie where the aggregate posterior is called thin


def mutual_information(mu, logvar, z):
    """I(x; z) = E log q(z|x) - E log q(z) and its standard error, in nats; q(z) is the mean of q(z|x) over the samples.

    Hoffman & Johnson 2016, ELBO surgery (the index-code mutual information); the estimate cannot exceed log N.
    mu, logvar, z: [N, L].
    """
    own = -gaussian.nll(z, mu, logvar).sum(1)
    each = own - mixture_log_prob(z, mu, logvar)
    return each.mean().item(), (each.std() / math.sqrt(len(z))).item()


def aggregate_kl(mu, logvar, prior=None):
    """KL of the Gaussian with the aggregate posterior's mean and covariance to that with the prior's: 0 if they agree.

        1/2 ( tr P^-1 C + d' P^-1 d - L + log det P - log det C ),      d = m - p

    mu, logvar: [N, L]. prior: (p [L], P [L, L]), or None for N(0, I).
    """
    centred = mu - mu.mean(0)
    covariance = centred.T @ centred / len(mu) + torch.diag(logvar.exp().mean(0))
    mean, log_det, latents = mu.mean(0), torch.logdet(covariance), mu.shape[1]
    if prior is None:
        return 0.5 * (covariance.trace() + mean.square().sum() - latents - log_det).item()
    away = mean - prior[0]
    root = torch.linalg.cholesky(prior[1])
    square = away @ torch.cholesky_solve(away[:, None], root)[:, 0]
    log_det_prior = 2 * root.diagonal().log().sum()
    return 0.5 * (torch.cholesky_solve(covariance, root).trace() + square - latents + log_det_prior - log_det).item()


def hole_share(mu, logvar, z, draws):
    """The share of `draws` of the prior that lie where the aggregate posterior is thinner than at 95 % of data's own z.

    It is 5 % where the aggregate posterior is the prior, and 1 where they do not meet. The density is that of one half
    of the data, and the draws are compared with the other half's z, so that no z is judged by its own posterior.
    mu, logvar, z: [N, L], N >= 2; draws: [M, L].
    """
    half = len(z) // 2
    density = [mixture_log_prob(points, mu[:half], logvar[:half]) for points in (z[half:], draws)]
    return (density[1] < torch.quantile(density[0], THIN)).double().mean().item()


def detail_energy(images):
    """The energy of the differences of neighbouring pixels, [..., H, W]."""
    return images.diff(dim=-1).square().sum() + images.diff(dim=-2).square().sum()
