"""Continuous Bernoulli likelihood with logits l, in nats: the density of the Bernoulli's form on [0, 1].

    p(x | l) = C(l) sigmoid(l)^x (1 - sigmoid(l))^(1 - x),    C(l) = 2 atanh(1 - 2 sigmoid(l)) / (1 - 2 sigmoid(l))

(Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845, section 3; lambda = sigmoid(l)). The Bernoulli likelihood of grey
values lacks C: it is no density, and its -ELBO is no bound. With 1 - 2 sigmoid(l) = -tanh(l/2), C(l) = l / tanh(l/2),
and the density is that of an exponential cut off at 1, p = l e^{lx} / (e^l - 1). It is symmetric, nll(x, l) =
nll(1 - x, -l), so with a = |l| and t the target mass on the side that l speaks against (t = 1 - x for l > 0, else x),

    -log p = t a - log(a / (1 - e^-a)) = t a - log(1 + a r(a)),    r(a) = 1 / (1 - e^-a) - 1 / a

r is the mean of x for logits a, 1/2 at a = 0; for a < 1 it is taken by its series (series.py), exact at sigmoid = 1/2.

    d/dl = r(l) - x = sign(l) (t - (1 - r(a)))        d/dx = -l        1 - r(a) = 1 / a - 1 / (e^a - 1)

A density, so -log p is negative where it is above 1: about -log a at the end that the logits point to.
"""

from typing import TYPE_CHECKING

import torch

from . import series

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

PARAMETERS = ("logits",)
DEFAULTS = {}
SUPPORT = (0.0, 1.0)


def nll(x, logits):
    """-log p(x | logits) in nats, element by element: x, logits and the result of one shape and floating dtype."""
    against = torch.where(logits > 0, 1 - x, x)
    size = torch.where(logits > 0, logits, -logits)
    near = size < 1
    small, large = torch.where(near, size, 0), torch.where(near, 1, size)  # neither branch sees the other's arguments
    log_ratio = torch.where(
        near,
        torch.log1p(small * series.truncated_mean(small)),
        torch.log(large) - torch.log1p(-torch.exp(-large)),
    )
    return against * size - log_ratio


def triton_nll(x, logits):
    """The value, and its derivative by the logits."""
    size = tl.abs(logits)
    against = tl.where(logits > 0.0, 1.0 - x, x)
    large = maths.at_least(size, 1.0)
    e = maths.exp_nonpositive_to_an_ulp(-large)
    both = maths.reciprocal(large * (1.0 - e))
    far = tl.fma(both, 1.0 - e, -e * both * large)  # 1 / large - e / (1 - e)
    rest = tl.where(size < 1.0, maths.truncated_mean(-maths.at_most(size, 1.0)), far)
    grad = tl.where(logits > 0.0, against - rest, rest - against)
    return tl.fma(against, size, -maths.log1p(size * (1.0 - rest))), grad


def mean(logits):
    """E[x] = r(l) = 1 / (1 - e^-l) - 1 / l, of the shape and dtype of logits; not sigmoid(logits), further from 1/2.

    It is the paper's sigmoid / (2 sigmoid - 1) + 1 / (2 atanh(1 - 2 sigmoid)), section 3, in logits.
    """
    size = logits.abs()
    near = size < 1
    large = torch.where(near, 1, size)
    rest = torch.where(near, 1 - series.truncated_mean(size.clamp(max=1)), 1 / large - 1 / torch.expm1(large))
    return torch.where(logits > 0, 1 - rest, rest)
