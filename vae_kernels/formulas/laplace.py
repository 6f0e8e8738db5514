"""Laplace likelihood with location loc and s = logscale, in nats, with its constant:

    -log p(x | loc, s) = |x - loc| e^-s + s + log 2

    d/dloc = -sign(x - loc) e^-s        d/dx = sign(x - loc) e^-s        d/ds = 1 - |x - loc| e^-s

with sign(0) = 0, as in PyTorch. At s = 0 it is the L1 loss, sum |x - loc|, plus a constant. If s is learned, the data
set the weight of the absolute error. e^-s is applied in two steps of e^{-s/2}: so x = loc has a finite value where e^-s
is inf in float32. scale = e^s is the scale of torch.distributions.Laplace; the variance is 2 e^{2s}.
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
PARAMETERS = ("loc", "logscale")
DEFAULTS = {"logscale": 0.0}
SUPPORT = None


def nll(x, loc, logscale):
    """-log p(x | loc, logscale) in nats, element by element.

    x and loc have one shape, to which logscale broadcasts. All have one floating dtype, which the result has too.
    """
    residual = x - loc
    # where(), not abs(): the derivative of abs at NaN is 0
    sign = torch.where(residual > 0, 1.0, torch.where(residual < 0, -1.0, residual)).detach()
    root = torch.exp(logscale * -0.5)
    return residual * sign * root * root + logscale + math.log(2)


def lean_nll(x, loc, logscale=None, *, into, new):
    """(value, factor, constant): see the protocol Formula."""
    residual, constant = torch.sub(loc, x, out=new() if into[0] is None else into[0]), math.log(2)
    value = torch.abs(residual, out=new())
    if into[0] is not None:  # the sign, also of a denormal number; of NaN it is NaN
        largest = torch.finfo(residual.dtype).max
        residual.mul_(largest).mul_(largest).clamp_(-1, 1)
    if logscale is None:
        return value, 1.0, constant
    root = torch.exp(logscale * -0.5).clamp_(max=torch.finfo(logscale.dtype).max)
    value.mul_(root).mul_(root)
    if into[0] is not None:
        residual.mul_(root).mul_(root)
    if into[1] is not None:
        torch.sub(1, value, out=into[1])
    return value.add_(logscale), 1.0, constant


def triton_nll(x, loc, logscale):
    """The value, and its derivatives by loc and logscale."""
    residual = loc - x
    sign = tl.where(residual > 0.0, 1.0, tl.where(residual < 0.0, -1.0, residual))
    root = maths.exp_saturated(logscale * -0.5)
    scaled = tl.abs(residual) * root * root
    return scaled + logscale + 0.6931471805599453, sign * root * root, 1.0 - scaled


def mean(loc, logscale=None):
    """E[x] = loc, for every scale."""
    return loc
