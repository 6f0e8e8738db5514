"""Gaussian likelihood with mean loc and log-variance v = logvar, in nats, with its constant:

    -log p(x | loc, v) = 1/2 ( ((x - loc) e^{-v/2})^2 + v + log 2 pi )

    d/dloc = -(x - loc) e^-v        d/dx = (x - loc) e^-v        d/dv = 1/2 ( 1 - (x - loc)^2 e^-v )

(Kingma & Welling 2014, arXiv:1312.6114, appendix C.2.) The residual is scaled before it is squared, in two steps of
e^{-v/4}. The reason is a small variance: for v = -300 and x = loc the value is finite, but in float32 e^{150} is inf,
and 0 * inf is NaN. The two steps are finite down to v = -4 log(largest float), which is -354 in float32 and -2839 in
float64. Below this v, x != loc rightly gives inf, and x = loc gives NaN.
"""

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

KIND = "element"
PARAMETERS = ("loc", "logvar")
DEFAULTS = {"logvar": 0.0}
SUPPORT = None


def nll(x, loc, logvar):
    """-log p(x | loc, logvar) in nats, element by element.

    x and loc have one shape, to which logvar broadcasts. All have one floating dtype, which the result has too.
    """
    root = torch.exp(logvar * -0.25)
    scaled = (x - loc) * root * root
    return nll_of_sums(scaled * scaled, logvar)


def nll_of_sums(squares, logvar, dims=1):
    """-log p over `dims` dims, in nats. squares is the sum over these dims of ((x - loc) e^{-logvar/2})^2, and logvar
    is the sum of the log-variances."""
    return 0.5 * (squares + logvar + dims * math.log(2 * math.pi))


def lean_nll(x, loc, logvar=None, *, into, new):
    """(value, factor, constant): see the protocol Formula."""
    scaled, constant = torch.sub(loc, x, out=new() if into[0] is None else into[0]), 0.5 * math.log(2 * math.pi)
    if logvar is None:
        return torch.mul(scaled, scaled, out=new()), 0.5, constant
    root = torch.exp(logvar * -0.25).clamp_(max=torch.finfo(logvar.dtype).max)
    squares = new() if into[1] is None else into[1]
    torch.mul(scaled.mul_(root).mul_(root), scaled, out=squares)
    value = torch.add(squares, logvar, out=new())
    if into[0] is not None:
        scaled.mul_(root).mul_(root)
    if into[1] is not None:
        squares.mul_(-0.5).add_(0.5)
    return value, 0.5, constant


def triton_nll(x, loc, logvar):
    """The value, and its derivatives by loc and logvar."""
    root = maths.exp_saturated(logvar * -0.25)  # saturated: for x = loc the value is finite at every variance
    scaled = (loc - x) * root * root
    half = 0.5 * scaled
    value = tl.fma(half, scaled, 0.5 * logvar + 0.9189385332046727)  # 1/2 log 2 pi
    return value, scaled * root * root, tl.fma(-half, scaled, 0.5)


def mean(loc, logvar=None):
    """E[x] = loc, for every variance."""
    return loc
