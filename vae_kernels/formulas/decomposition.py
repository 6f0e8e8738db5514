"""The densities of the aggregate posterior, and two parts of the KL of a data set, in nats, for each sample i:

    s_ij = log q(z_i|x_j) = sum_d s_ijd                      s_ijd = log N(z_id; mu_jd, e^logvar_jd)
    log q(z_i) = logsumexp_j [ log w_ij + s_ij ]             log q(z_id) = logsumexp_j [ log w_ij + s_ijd ]
    mutual information = s_ii - log q(z_i)                   total correlation = log q(z_i) - sum_d log q(z_id)

(Chen et al. 2018, arXiv:1802.04942, equation 2.) The weight w_ij of a posterior in the aggregate posterior is one
number for i = j, and another number for i != j. Let a_i, t_i and e_id be the incoming gradients of the mutual
information, the total correlation and log q(z_id). Let r_ij = w_ij e^{s_ij} / q(z_i) and r_ijd = w_ij e^{s_ijd} /
q(z_id) be the responsibilities. Then

    the gradient by s_ijd is    (t_i - a_i) r_ij + (e_id - t_i) r_ijd + [i = j] a_i

and the gradients by z_id, mu_jd and logvar_jd are the sums of this times the derivatives of s_ijd (gaussian.py). The
plain PyTorch below takes memory for B x B x L numbers, and the kernel of the CPU takes memory for B x L numbers
(csrc/cpu/kernels/decomposition.cpp).
"""

import math

import torch

from . import gaussian


def decomposition(z, mu, logvar, log_own, log_other):
    """The mutual information [B], the total correlation [B], and log q(z_id) [B, L], for z, mu and logvar [B, L].

    log_own and log_other: the log weight of a sample's own posterior, and that of every other posterior.
    """
    weights = log_other + (log_own - log_other) * torch.eye(len(z), dtype=z.dtype, device=z.device)
    each = gaussian.nll(z[:, None], mu, logvar)  # -s_ijd
    together = each.sum(2)
    joint = torch.logsumexp(weights - together, 1)
    log_q = torch.logsumexp(weights[:, :, None] - each, 1)
    return -together.diagonal() - joint, joint - log_q.sum(1), log_q


def by_mixtures(z, mu, logvar, log_own, log_other, mixture):
    """The same, by one mixture for all dimensions together and one mixture for each dimension, for a device that has a
    kernel for mixtures alone. mixture: as in mixture.py.

    A component of a mixture has one weight for all samples. So the weight of each sample's own posterior is corrected
    after the sum. The correction is a difference of two sums, and is computed in float64.
    """
    dtype = z.dtype
    z, mu, logvar = (t.double() for t in (z, mu, logvar))
    own, equal = -gaussian.nll(z, mu, logvar), z.new_zeros(len(z))

    def log_q(own, *tensors):
        z, mu, logvar = (t.contiguous() for t in tensors)
        log_sum = mixture(z, mu, logvar, equal)
        return log_other + log_sum + torch.log1p(math.expm1(log_own - log_other) * torch.exp(own - log_sum))

    joint = log_q(own.sum(1), z, mu, logvar)
    columns = zip(own.unbind(1), *(t.split(1, 1) for t in (z, mu, logvar)), strict=True)
    each = torch.stack([log_q(*column) for column in columns], 1)
    return tuple(t.to(dtype) for t in (own.sum(1) - joint, joint - each.sum(1), each))
