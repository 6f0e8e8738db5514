"""Estimates of mutual information, divergence and holes. Each function takes tensors only, not a model."""

import math

import torch

from ..densities import mixture_log_prob
from ..formulas import gaussian

THIN = 0.05  # the aggregate posterior is thin at a point if only this share of the data's z has a lower density


def mutual_information(mu, logvar, z):
    """I(x; z) = E log q(z|x) - E log q(z), and its standard error, in nats. q(z) is the mean of q(z|x) over the
    samples.

    This is the index-code mutual information of Hoffman & Johnson 2016, ELBO surgery. The estimate is at most log N.
    mu, logvar, z: [N, L].
    """
    own = -gaussian.nll(z, mu, logvar).sum(1)
    each = own - mixture_log_prob(z, mu, logvar)
    return each.mean().item(), (each.std() / math.sqrt(len(z))).item()


def aggregate_kl(mu, logvar, prior=None):
    """The KL between two Gaussians. The first has the mean m and covariance C of the aggregate posterior, the second
    the mean p and covariance P of the prior. The KL is 0 if both agree.

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
    """The share of the prior's draws at which the density of the aggregate posterior is lower than at 95 % of the
    data's z.

    The share is 5 % if the aggregate posterior is the prior, and 1 if the two do not overlap. The density is computed
    from the first half of the data, and the z come from the second half. So no z is judged by its own posterior.
    mu, logvar, z: [N, L], N >= 2; draws: [M, L].
    """
    half = len(z) // 2
    density = [mixture_log_prob(points, mu[:half], logvar[:half]) for points in (z[half:], draws)]
    return (density[1] < torch.quantile(density[0], THIN)).double().mean().item()


def unlike_share(of_data, of_prior):
    """The share of the prior's draws whose error is larger than that of 95 % of the data's z.

    The share is 5 % if both errors have one distribution. of_data: [N], of_prior: [M].
    """
    return (of_prior > torch.quantile(of_data, 1 - THIN)).double().mean().item()


def detail_energies(data, recon, weight=None):
    """[3]: <d, d>, <r, r> and <d, r>. d are the differences of neighbouring pixels in the data [..., H, W], r those in
    the reconstructions. With a mask in the shape of the data: of the neighbours that are both observed."""
    return sum(_difference_energies(data, recon, weight, dim) for dim in (-1, -2))


def _difference_energies(data, recon, weight, dim):
    d, r = data.diff(dim=dim), recon.diff(dim=dim)
    products = torch.stack([d * d, r * r, d * r])
    if weight is not None:
        products = torch.where(weight.unfold(dim, 2, 1).all(-1), products, 0.0)
    return products.flatten(1).sum(1, dtype=torch.float64)


def detail_shares(energies):
    """(the share of the data's detail that the reconstructions carry, the share that they seem to carry).

    The second is <r, r> / <d, d>. Noise has energy too, so the first counts energy only as far as it correlates with
    the data's detail: min(<r, r>, <d, r>) / <d, d>. A reconstruction that is the mean of the data, given z, has
    <d, r> = <r, r>, and both shares agree. Noise has <d, r> = 0. None, None if the data have no detail: all pixels are
    equal, or no two neighbours are observed.
    """
    data, recon, both = energies.tolist()
    if not data > 0:
        return None, None
    return max(min(recon, both), 0.0) / data, recon / data
