"""Continuous Bernoulli likelihood with logits l, in nats: a density on [0, 1] that has the form of the Bernoulli.

    p(x | l) = C(l) sigmoid(l)^x (1 - sigmoid(l))^(1 - x),    C(l) = 2 atanh(1 - 2 sigmoid(l)) / (1 - 2 sigmoid(l))

(Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845, section 3; lambda = sigmoid(l)). The Bernoulli likelihood of grey
values lacks the factor C. Without C it is no density, and its -ELBO is no bound. Because 1 - 2 sigmoid(l) = -tanh(l/2),
C(l) = l / tanh(l/2), and p = l e^{lx} / (e^l - 1) is an exponential density that is cut off at 1. The formula is
symmetric: nll(x, l) = nll(1 - x, -l). So let a = |l|, and let t be the target's mass on the side that l makes less
likely: t = 1 - x for l > 0, else t = x. Then

    -log p = t a - log(a / (1 - e^-a)) = t a - log(1 + a r(a)),    r(a) = 1 / (1 - e^-a) - 1 / a

r(a) is the mean of x for logits a; r(0) = 1/2. For a < 1 a series gives r (series.py), so r is right near a = 0.

    d/dl = r(l) - x = sign(l) (t - (1 - r(a)))        d/dx = -l        1 - r(a) = 1 / a - 1 / (e^a - 1)

A density may be above 1, so -log p may be negative: at the more likely end of [0, 1] it is about -log a.
"""

from typing import TYPE_CHECKING

import torch

from . import series

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

KIND = "element"
PARAMETERS = ("logits",)
DEFAULTS = {}
SUPPORT = (0.0, 1.0)


def nll(x, logits):
    """-log p(x | logits) in nats, element by element. x, logits and the result have one shape and floating dtype."""
    against = torch.where(logits > 0, 1 - x, x)
    size = torch.where(logits > 0, logits, -logits)
    near = size < 1
    # each branch below gets only arguments of its own range: an inf in the other branch would make the gradient NaN
    small, large = torch.where(near, size, 0), torch.where(near, 1, size)
    log_ratio = torch.where(
        near,
        torch.log1p(small * series.truncated_mean(small)),
        torch.log(large) - torch.log1p(-torch.exp(-large)),
    )
    return against * size - log_ratio


def lean_nll(x, logits, *, into, new):
    """(value, factor, constant): see the protocol Formula."""
    size, over = torch.abs(logits, out=new()), torch.gt(logits, 0, out=new())
    sign = torch.mul(over, 2, out=new()).sub_(1)
    against = torch.sub(over, x, out=new()).mul_(sign)
    large = torch.clamp(size, min=1, out=new())
    near = torch.lt(size, 1, out=over)
    rest = torch.reciprocal(large, out=new())  # 1 - r(a): here for a >= 1
    e = large.neg_().exp_()
    rest.sub_(e.div_(torch.sub(1, e, out=new())))
    small = torch.clamp(size, max=1, out=e)
    of_small = 1 - series.truncated_mean(small)
    rest.addcmul_(near, of_small.sub_(rest))
    if into[0] is not None:
        torch.sub(against, rest, out=into[0]).mul_(sign)
    value = against.mul_(size)
    return value.sub_(rest.neg_().add_(1).mul_(size).log1p_()), 1.0, 0.0


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
    """E[x] = r(l) = 1 / (1 - e^-l) - 1 / l, of the shape and dtype of logits. It is nearer to 1/2 than sigmoid(logits).

    Section 3 of the paper has the same mean: sigmoid / (2 sigmoid - 1) + 1 / (2 atanh(1 - 2 sigmoid)).
    """
    size = logits.abs()
    near = size < 1
    large = torch.where(near, 1, size)
    rest = torch.where(near, 1 - series.truncated_mean(size.clamp(max=1)), 1 / large - 1 / torch.expm1(large))
    return torch.where(logits > 0, 1 - rest, rest)
