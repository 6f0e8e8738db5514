"""Poisson likelihood of counts x, with log-rate a, in nats, with its constant:

    -log p(x | a) = e^a - x a + log x!        d/da = e^a - x

x a and log x! may be large where -log p is small. So for x > 0, -log p is computed as the deviance plus the value at
the best rate, which is x. Both parts are small:

    -log p = x h((e^a - x) / x) + 1/2 log 2 pi x + S(x),        h(e) = e - log(1 + e)

where S is the error of Stirling's formula (counts.py). x is not checked: a negative or fractional count has no
likelihood. x = 0 has a formula of its own, without a derivative by x.
"""

from typing import TYPE_CHECKING

import torch

from . import counts

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import counts as tile_counts
    from ..backends.triton import maths
else:
    tl = maths = tile_counts = None  # backends/triton/twins.py sets these names

KIND = "element"
PARAMETERS = ("log_rate",)
DEFAULTS = {}
SUPPORT = "counts"
LOG_TOTAL = SUM_ALIKE = True


def nll(x, log_rate):
    """-log p(x | log_rate) in nats, element by element. x, log_rate and the result have one shape and floating
    dtype."""
    zero = x == 0
    x = torch.where(zero, 1, x)
    low = log_rate.clamp(min=-60)  # below e^-60 the rate is nothing beside x, and the value is linear
    rate = torch.exp(low)
    deviance = x * counts.log1p_rest((rate - x) / x, rate / x) - x * (log_rate - low)
    positive = deviance + counts.stirling_error(x) + 0.5 * torch.log(x) + counts.HALF_LOG_2PI
    return torch.where(zero, torch.exp(log_rate), positive)


def lean_nll(x, log_rate, *, into, new):
    """(value, factor, constant): see the protocol Formula."""
    value = torch.exp(log_rate, out=new())
    if into[0] is not None:
        torch.sub(value, x, out=into[0])
    places, n, a = counts.positive(x, log_rate)
    counts.put(places, (value, torch.exp(a) - n * a + counts.log_factorial(n)))
    return value, 1.0, 0.0


def triton_nll(x, log_rate):
    """The value, and its derivative by the log-rate. csrc/formulas/poisson.h explains the steps."""
    zero = x == 0.0
    rate, k = maths.exp(log_rate), tl.where(zero, 1.0, x)
    low = maths.at_least(log_rate, -60.0)
    r, inverse = maths.exp(low), maths.reciprocal(k)
    slope = r - k
    deviance = tl.fma(-k, log_rate - low, k * tile_counts.log1p_rest(slope * inverse, r * inverse))
    error, _ = tile_counts.stirling(maths.at_most(inverse, 1.0))
    positive = deviance + error + tl.fma(tile_counts.log(k), 0.5, tile_counts.half_log_2pi(k))
    return tl.where(zero, rate, positive), tl.where(zero, rate, slope)


def mean(log_rate):
    """E[x] = exp(log_rate), of the shape and dtype of log_rate."""
    return torch.exp(log_rate)
