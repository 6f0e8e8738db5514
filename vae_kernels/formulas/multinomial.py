"""Multinomial likelihood of the counts of a row, given their sum n, in nats, with its constants:

    -log p(x | logits) = log prod_j x_j! - log n! - sum_j x_j log s_j        s = softmax(logits), n = sum_j x_j
    d/dlogits_j = n s_j - x_j

(Liang et al. 2018, "Variational autoencoders for collaborative filtering", equation 2, without log n!/prod x_j!). A row
is one sample: the soft-max and the sums are over all dimensions but dimension 0.

n! and n log n are far larger than -log p. Independent Poisson counts with the rates n s_j, given their sum, have this
distribution. So -log p is a sum of terms that are all small (poisson.py), less the value of n itself:

    -log p = sum_j [-log Poisson(x_j; n s_j)] - (1/2 log 2 pi n + S(n))

where S is the error of Stirling's formula (counts.py). Where n = 0, -log p and the gradient are 0. x is not checked: a
negative or fractional count has no likelihood.
"""

import torch

from . import counts, poisson, shares

KIND = "row"
PARAMETERS = ("logits",)
DEFAULTS = {}
SUPPORT = "counts"
ELEMENT = poisson  # the formula of one element, whose log-rate is log n + log s_j


def nll(x, logits):
    """-log p(x | logits) of each sample in nats, [B]. x and logits have one shape and floating dtype."""
    n = shares.total(x)
    none = n == 0
    n = torch.where(none, 1, n)
    log_rate = shares.log_mean(logits, n.log().view(-1, *[1] * (x.dim() - 1)))
    each = shares.total(shares.without_absent(poisson.nll, x, log_rate))
    of_n = 0.5 * n.log() + counts.HALF_LOG_2PI + counts.stirling_error(n)
    return torch.where(none, 0, each - of_n)


def mean(logits):
    """E[x] / n, the shares softmax(logits), of the shape of logits. n is no parameter."""
    zero = logits.new_zeros(())
    return torch.exp(shares.log_mean(logits, zero))
