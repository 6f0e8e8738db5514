"""What the count likelihoods share: differences of log-gamma functions that keep their digits.

For x = 1e6, log Gamma(x + 1) is 1.3e7 and -log p is about 10. A difference of log-gammas therefore loses six digits. So
-log p is computed as a sum of two parts (Loader 2000, "Fast and accurate computation of binomial probabilities"). The
first part is -log p at the best mean, which is small. The second part is the deviance: the cost of another mean, a sum
of positive terms.
"""

import math

import torch

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def positive(x, *params):
    """The places of the counts that are not 0 in the matrix x, row by row; and there x and the parameters, which
    broadcast to x, in float64.

    For lean_nll of a formula. In float64 a difference of log-gammas keeps enough digits for a float32. Most counts of a
    single cell are 0, so few elements are computed in float64.
    """
    rows, cols = x.shape
    places = _places(x)
    at = {(True, True): places}  # by whether a tensor has all rows, and all columns
    if any(t.shape[0] == 1 < rows for t in params):
        at[False, True] = places % cols
    if any(t.shape[1] == 1 < cols for t in params):
        at[True, False] = places // cols
    at[False, False] = torch.zeros((), dtype=torch.int64).expand(places.shape)
    found = [t.reshape(-1).index_select(0, at[t.shape[0] == rows, t.shape[1] == cols]) for t in (x, *params)]
    return places, *(t.double() for t in found)


def _places(x):
    """The flat places of what is not 0. NumPy, if it is installed, takes a fifth of the time of torch.nonzero."""
    mask = (x != 0).reshape(-1)
    try:
        import numpy as np

        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    except (ImportError, RuntimeError, TypeError):  # no NumPy, or a tensor without values
        return mask.nonzero().view(-1)


def put(places, *pairs):
    """Write the numbers of each pair (tensor, numbers) at these flat places of the tensor, which is contiguous."""
    for t, numbers in pairs:
        t.view(-1).index_copy_(0, places, numbers.to(t.dtype))


_LOG_FACTORIALS = torch.lgamma(torch.arange(1, 1 << 10, dtype=torch.float64))


def log_factorial(n):
    """log n! for a 1-d tensor in float64: most counts are small whole numbers."""
    k = n.clamp(0, len(_LOG_FACTORIALS) - 1).nan_to_num_(0).long()
    found = _LOG_FACTORIALS.index_select(0, k)
    others = (n != k).nonzero().view(-1)
    if others.numel():
        found[others] = torch.lgamma(n[others] + 1)
    return found


def log1p_rest(e, ratio):
    """e - log(1 + e) >= 0, to full relative accuracy for every small e. ratio is 1 + e: near e = -1 the caller knows
    more digits of 1 + e than e holds.

    With s = e / (2 + e), log(1 + e) = 2 (s + s^3/3 + s^5/5 + ...) and e - 2 s = e s.
    """
    near = (ratio > 0.5) & (ratio < 2)
    small = torch.where(near, e, 0)
    s = small / (2 + small)
    z = s * s  # at most 1/9
    return torch.where(near, s * (small - 2 * z * _atanh_tail(z)), e - torch.log(torch.where(near, 1, ratio)))


def log1p_ratio(e):
    """log(1 + e) / e for 0 <= e <= 1, which is 1 at e = 0."""
    z = (e / (2 + e)) ** 2
    return 2 * (1 + z * _atanh_tail(z)) / (2 + e)


def expm1_rest(u):
    """e^u - 1 - u for |u| < 0.1, by its series."""
    tail = torch.ones_like(u)
    for k in range(12, 2, -1):
        tail = 1 + tail * u / k
    return 0.5 * u * u * tail


def _atanh_tail(z):
    """1/3 + z/5 + z^2/7 + ..., for z <= 1/9."""
    tail = torch.zeros_like(z)
    for k in range(17, 0, -1):
        tail = tail * z + 1 / (2 * k + 1)
    return tail


# The coefficients of S(y) = 1/y (1/12 + ...) in powers of 1/y, from the highest power down, for y >= 1. They
# interpolate S at Chebyshev's points, with an error of 5e-17. Stirling's own series is wrong in every digit at y = 1,
# and the difference of log-gamma and its leading terms loses digits from y = 10 on.
_STIRLING = (
    0.00021332507059039434, -0.0025056509953055375, 0.013760307115920217, -0.04688918100874011,
    0.11088665527955452, -0.19265682980619173, 0.2535010476781426, -0.25586002906491917,
    0.1972596145582884, -0.11285533047069607, 0.04407433811935882, -0.008833793707392448,
    -0.000497299799458, -0.00013339298553912822, 0.0008419692541680424, 2.056877464820991e-06,
    -0.0005955732468191205, 2.903440378923773e-08, 0.0007936492928927653, 4.472406975482246e-11,
    -0.002777777778457091, 3.983543603761793e-15, 0.08333333333333333,
)  # fmt: skip


def stirling_error(y, log_y=None):
    """The error of Stirling's formula: S(y) = log Gamma(y + 1) - (y + 1/2) log y + y - 1/2 log 2 pi, which is 1/(12 y)
    for large y.

    For y < 1, S(y) = S(1 + y) + (y + 1/2) log(1 + 1/y) - 1. There log_y may tell more than y, which may be 0.
    """
    small = y < 1
    v = 1 / torch.where(small, 1 + y, y)
    series = torch.zeros_like(v)
    for coefficient in _STIRLING:
        series = series * v + coefficient
    y = torch.where(small, y, 1)
    log_y = torch.log(y) if log_y is None else log_y
    return series * v + torch.where(small, (y + 0.5) * (torch.log1p(y) - log_y) - 1, 0)
