"""What the likelihoods of counts share: differences of log-gamma functions that stay exact.

log Gamma(x + 1) of a million is 1.3e7, and -log p about 10: as a difference of log-gammas it has lost six digits. So
-log p is taken as it is at its least over the mean, which is small, and what a mean beside it costs, the deviance, which
is a sum of positive terms (Loader 2000, "Fast and accurate computation of binomial probabilities").
"""

import math

import torch

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def log1p_rest(e, ratio):
    """e - log(1 + e) >= 0, to full relative accuracy however small e is; ratio is 1 + e, which e may not tell near -1.

    From s = e / (2 + e): log(1 + e) = 2 (s + s^3/3 + s^5/5 + ...) and e - 2 s = e s.
    """
    near = (ratio > 0.5) & (ratio < 2)
    small = torch.where(near, e, 0)
    s = small / (2 + small)
    z = s * s  # at most 1/9
    tail = torch.zeros_like(z)
    for k in range(17, 0, -1):
        tail = tail * z + 1 / (2 * k + 1)
    return torch.where(near, s * (small - 2 * z * tail), e - torch.log(torch.where(near, 1, ratio)))


def stirling_error(y):
    """log Gamma(y + 1) - (y + 1/2) log y + y - 1/2 log 2 pi, what Stirling's formula lacks: 1/(12 y) at large y."""
    large = y > 10
    v = 1 / torch.where(large, y, 10)
    series = torch.zeros_like(v)
    for c in (-3617 / 122400, 1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12):
        series = series * v * v + c
    y = torch.where(large, 10, y)
    return torch.where(large, series * v, torch.lgamma(y + 1) - (y + 0.5) * torch.log(y) + y - HALF_LOG_2PI)
