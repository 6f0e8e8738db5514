"""Two objectives besides the ELBO, by hand and ours: free bits, and the decomposition of the KL.

Each is an objective, (params, x, mu, logvar) -> (loss, None); the loss is in nats, the mean over the batch.
"""

import math

import torch

from .. import functional
from ..estimators.decomposition import kl_decomposition
from . import rivals

FREE_BITS = (0.1, "per_dim")
BETA, DATASET = 6.0, 60_000  # beta of the beta-TCVAE, and the size of its data set


def free_bits(params, x, mu, logvar, **options):
    """The loss without sampling; the KL of a latent dimension costs at least FREE_BITS nats."""
    recon = params[0] if len(params) == 1 else params
    return functional.fused_elbo(recon, x, mu, logvar, free_bits=FREE_BITS, **options), None


def free_bits_by_hand(rival, likelihood):
    """free_bits with this rival (Kingma et al. 2016, arXiv:1606.04934, appendix C.8; a group is one dimension)."""

    def loss(params, x, mu, logvar):
        wide_x, wide_mu, wide_logvar, *wide = rivals.widened(x, (mu, logvar, *params), likelihood)
        kl = 0.5 * (wide_mu.square() + wide_logvar.exp() - wide_logvar - 1)
        return rival(wide_x, *wide) / len(x) + kl.mean(0).clamp(min=FREE_BITS[0]).sum(), None

    return loss


def decomposition(params, x, mu, logvar, **options):
    """The KL of a beta-TCVAE: mutual information + BETA * total correlation + the sum of the KLs of the dimensions."""
    parts = kl_decomposition(*params, mu, logvar, dataset_size=DATASET, **options)
    return (parts.mutual_information + BETA * parts.total_correlation + parts.dimension_wise_kl.sum(1)).mean(), None


def decomposition_by_hand(batch):
    """decomposition by minibatch stratified sampling (Chen et al. 2018, arXiv:1802.04942). It takes the density of
    every sample in every posterior, [B, B, L], and the weight of each posterior in the aggregate posterior. The weights
    are made once, as in a training loop."""
    other = math.log((DATASET - 1) / (DATASET * (batch - 1)))
    made_once = torch.full((batch, batch), other).fill_diagonal_(-math.log(DATASET))

    def kl(params, x, mu, logvar):
        (z,) = params
        weights = made_once.to(z.device)
        own, each = _log_normal(z, mu, logvar).sum(1), _log_normal(z[:, None], mu, logvar)
        joint = torch.logsumexp(weights + each.sum(2), 1)
        product = torch.logsumexp(weights[:, :, None] + each, 1).sum(1)
        prior = -0.5 * (z.square() + rivals.LOG_2PI).sum(1)
        return (own - joint + BETA * (joint - product) + product - prior).mean(), None

    return kl


def _log_normal(z, mu, logvar):
    return -0.5 * ((z - mu).square() * torch.exp(-logvar) + logvar + rivals.LOG_2PI)
