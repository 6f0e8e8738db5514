"""What the likelihoods of counts share: differences of log-gamma functions that stay exact.

log Gamma(x + 1) of a million is 1.3e7, and -log p about 10: as a difference of log-gammas it has lost six digits. So
-log p is taken as it is at its least over the mean, which is small, and what a mean beside it costs, the deviance,
which is a sum of positive terms (Loader 2000, "Fast and accurate computation of binomial probabilities").
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


# Of S(y) = 1/y (1/12 + ...), in powers of 1/y from the highest, on y >= 1: interpolated at Chebyshev's points, to
# 5e-17.
# Stirling's own series has no digits at y = 1, and log-gamma less its leading terms loses them at y = 10.
_STIRLING = (
    0.00021332507059039434, -0.0025056509953055375, 0.013760307115920217, -0.04688918100874011,
    0.11088665527955452, -0.19265682980619173, 0.2535010476781426, -0.25586002906491917,
    0.1972596145582884, -0.11285533047069607, 0.04407433811935882, -0.008833793707392448,
    -0.000497299799458, -0.00013339298553912822, 0.0008419692541680424, 2.056877464820991e-06,
    -0.0005955732468191205, 2.903440378923773e-08, 0.0007936492928927653, 4.472406975482246e-11,
    -0.002777777778457091, 3.983543603761793e-15, 0.08333333333333333,
)  # fmt: skip


def stirling_error(y):
    """log Gamma(y + 1) - (y + 1/2) log y + y - 1/2 log 2 pi, what Stirling's formula lacks: 1/(12 y) at large y.

    Below 1 it is taken at 1 + y, from which it differs by (y + 1/2) log(1 + 1/y) - 1.
    """
    small = y < 1
    v = 1 / torch.where(small, 1 + y, y)
    series = torch.zeros_like(v)
    for coefficient in _STIRLING:
        series = series * v + coefficient
    y = torch.where(small, y, 1)
    return series * v + torch.where(small, (y + 0.5) * torch.log1p(1 / y) - 1, 0)
