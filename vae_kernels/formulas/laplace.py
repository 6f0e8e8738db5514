"""Laplace likelihood with location loc and s = logscale, in nats, with its constant:

    -log p(x | loc, s) = |x - loc| e^-s + s + log 2

    d/dloc = -sign(x - loc) e^-s        d/dx = sign(x - loc) e^-s        d/ds = 1 - |x - loc| e^-s

with sign(0) = 0, as PyTorch has it. At s = 0 it is the L1 loss, sum |x - loc|, and a constant; with a learned s, the
absolute error weighs as the data say. e^-s comes in two steps of e^{-s/2}: where it is infinite in float32, x = loc
still has a value. scale = e^s is that of torch.distributions.Laplace; the variance is 2 e^{2s}.
"""

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

PARAMETERS = ("loc", "logscale")
DEFAULTS = {"logscale": 0.0}
SUPPORT = None


def nll(x, loc, logscale):
    """-log p(x | loc, logscale) in nats, element by element.

    x and loc of one shape; logscale broadcasts to it; all of one floating dtype, which the result has.
    """
    residual = x - loc
    # not abs, whose derivative at NaN is 0
    sign = torch.where(residual > 0, 1.0, torch.where(residual < 0, -1.0, residual)).detach()
    root = torch.exp(logscale * -0.5)
    return residual * sign * root * root + logscale + math.log(2)


def triton_nll(x, loc, logscale):
    """The value, and its derivatives by loc and logscale."""
    residual = loc - x
    sign = tl.where(residual > 0.0, 1.0, tl.where(residual < 0.0, -1.0, residual))
    root = maths.exp_saturated(logscale * -0.5)
    scaled = tl.abs(residual) * root * root
    return scaled + logscale + 0.6931471805599453, sign * root * root, 1.0 - scaled


def mean(loc, logscale=None):
    """E[x] = loc, whatever the scale."""
    return loc
