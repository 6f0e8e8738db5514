"""Categorical likelihood of the levels 0..K-1 with K logits each, in nats:

    -log p(x | logits) = log sum_k e^{logits_k} - logits_x

    d/dlogits_k = softmax(logits)_k - [k = x]

(Bishop 2006, Pattern Recognition and Machine Learning, sections 4.2 and 4.3.4; for images, one softmax over the 256
values of each pixel: van den Oord et al. 2016, PixelRNN, arXiv:1601.06759, section 3.2.) The logits have a dimension
more than x, dimension 1, as torch.nn.functional.cross_entropy has it.

The sum is of e^{logits - top}, top being the largest logit, and the value is (top - logits_x) + log sum: of logits near
1e4 the difference of two of them is exact, where log sum e^logits, rounded, has lost all but three digits. A logit of
-inf is a level that cannot be; where x is that level, the value is inf. A level outside 0..K-1 has no probability: the
value and its gradient are NaN.
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

PARAMETERS = ("logits",)
DEFAULTS = {}
SUPPORT = "levels"


def nll(x, logits):
    """-log p(x | logits) in nats, [B, ...]; x [B, ...] of integers, logits [B, K, ...] floating."""
    x = x.long()
    possible = (x >= 0) & (x < logits.shape[1])
    log_p = torch.log_softmax(logits, 1).gather(1, torch.where(possible, x, 0).unsqueeze(1)).squeeze(1)
    return log_p * torch.where(possible, -1.0, float("nan")).to(log_p.dtype)  # a product: its gradient is NaN as well


def triton_add(top, total, logits):
    """top and total [P], the largest logit and the sum of e^{logit - top}, with a tile [P, L] of more logits."""
    new_top = tl.maximum(top, tl.max(logits, 1))  # NaN, which it may leave out, is in the sum
    more = tl.sum(maths.exp_nonpositive(logits - new_top[:, None]), 1)
    before = maths.exp_nonpositive(
        maths.at_least(top - new_top, -1000.0)
    )  # 0; the first top is the least of all numbers
    return new_top, tl.fma(total, before, more)


def triton_value(top, total, logit):
    """The value, for the logit of x; total >= 1."""
    return (top - logit) + maths.log1p(total - 1.0)


def triton_softmax(logits, top, scale):
    """The softmax times a number, where scale is that number over total."""
    return maths.exp_or_zero(logits - top) * scale


def mean(logits):
    """E[x] = sum_k k p_k: the mean level, [B, ...], between 0 and K-1."""
    levels = torch.arange(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return torch.softmax(logits, 1).movedim(1, -1) @ levels
