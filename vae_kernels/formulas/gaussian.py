"""Gaussian likelihood with mean loc and log-variance v = logvar, in nats, with its constant:

    -log p(x | loc, v) = 1/2 ( ((x - loc) e^{-v/2})^2 + v + log 2 pi )

    d/dloc = -(x - loc) e^-v        d/dx = (x - loc) e^-v        d/dv = 1/2 ( 1 - (x - loc)^2 e^-v )

(Kingma & Welling 2014, arXiv:1312.6114, appendix C.2.) The residual is scaled before it is squared, and in two steps of
e^{-v/4}: in float32 e^{150} is inf, and 0 inf is NaN, but v = -300 with x = loc has a value. The steps reach down to
v = -4 log(largest float), -354 in float32 and -2839 in float64; below, x != loc is inf by right, and x = loc is NaN.
"""

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

PARAMETERS = ("loc", "logvar")
DEFAULTS = {"logvar": 0.0}
SUPPORT = None


def nll(x, loc, logvar):
    """-log p(x | loc, logvar) in nats, element by element.

    x and loc of one shape; logvar broadcasts to it; all of one floating dtype, which the result has.
    """
    root = torch.exp(logvar * -0.25)
    scaled = (x - loc) * root * root
    return nll_of_sums(scaled * scaled, logvar)


def nll_of_sums(squares, logvar, dims=1):
    """-log p of so many dims in nats, from the sums over them of ((x - loc) e^{-logvar/2})^2 and of logvar."""
    return 0.5 * (squares + logvar + dims * math.log(2 * math.pi))


def triton_nll(x, loc, logvar):
    """The value, and its derivatives by loc and logvar."""
    root = maths.exp_saturated(logvar * -0.25)  # saturated: x = loc is finite however small the variance
    scaled = (loc - x) * root * root
    half = 0.5 * scaled
    value = tl.fma(half, scaled, 0.5 * logvar + 0.9189385332046727)  # 1/2 log 2 pi
    return value, scaled * root * root, tl.fma(-half, scaled, 0.5)


def mean(loc, logvar=None):
    """E[x] = loc, whatever the variance."""
    return loc
