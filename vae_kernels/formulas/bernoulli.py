"""Bernoulli likelihood with logits l, in nats:

    -log p(x | l) = -x log sigmoid(l) - (1 - x) log(1 - sigmoid(l)) = log(1 + e^l) - x l

Targets x lie in [0, 1]. For 0 < x < 1 this is the cross-entropy of Kingma & Welling 2014 (arXiv:1312.6114, appendix
C.1). The formula is symmetric: nll(x, l) = nll(1 - x, -l). So let a = |l|, and let t be the target's mass on the
outcome that l makes less likely: t = 1 - x for l > 0, else t = x. Then

    -log p = t a + log(1 + e^-a)

For x in [0, 1] both terms are >= 0: nothing overflows, and no digits cancel.

    d/dl = sigmoid(l) - x        d/dx = -l        d2/dl2 = sigmoid(l) (1 - sigmoid(l))
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

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
    # where(), not abs(): abs has gradient 0 at 0. where() picks a branch that is smooth, also at logits = 0, where the
    # gradient is 0.5 - x.
    against = torch.where(logits > 0, 1 - x, x)
    size = torch.where(logits > 0, logits, -logits)
    return against * size + torch.log1p(torch.exp(-size))


def lean_sum(x, logits):
    """The sum of all -log p, from PyTorch's own operation. Each term has the error of one rounding of |l|."""
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum")


def lean_nll(x, logits, *, into, new):
    """(value, factor, constant): see the protocol Formula. -log p = max(l, 0) - x l + log(1 + e^-a)."""
    positive = torch.clamp(logits, min=0, out=new())
    e = torch.sub(logits, positive, alpha=2, out=new()).exp_()  # e^-a
    if into[0] is not None:
        torch.sigmoid(logits, out=into[0]).sub_(x)
    return positive.addcmul_(x, logits, value=-1.0).add_(e.log1p_()), 1.0, 0.0


def triton_nll(x, logits):
    """The value, and its derivative by the logits."""
    e = maths.exp_nonpositive(-tl.abs(logits))
    r = maths.reciprocal(1.0 + e)
    # sigmoid(logits) - x; for large logits it is written as (1 - x) - e r, so that no digits cancel
    grad = tl.where(logits < 0.0, tl.fma(e, r, -x), tl.fma(-e, r, 1.0 - x))
    return tl.fma(-logits, x, tl.where(logits > 0.0, logits, 0.0)) + maths.log1p_unit(e), grad


def mean(logits):
    """E[x] = sigmoid(logits), of the shape and dtype of logits."""
    return torch.sigmoid(logits)
