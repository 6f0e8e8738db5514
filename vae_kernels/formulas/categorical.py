"""Categorical likelihood of the levels 0..K-1 with K logits each, in nats:

    -log p(x | logits) = log sum_k e^{logits_k} - logits_x

    d/dlogits_k = softmax(logits)_k - [k = x]

(Bishop 2006, Pattern Recognition and Machine Learning, sections 4.2 and 4.3.4; for images, one softmax over the 256
values of each pixel: van den Oord et al. 2016, PixelRNN, arXiv:1601.06759, section 3.2.) The logits have one dimension
more than x: dimension 1, as in torch.nn.functional.cross_entropy.

Let `top` be the largest logit. The value is (top - logits_x) + log sum_k e^{logits_k - top}. For logits near 1e4 the
difference top - logits_x is exact, but log sum_k e^{logits_k} keeps only three digits after the point. A logit of -inf
makes a level impossible: where x is this level, the value is inf. A level outside 0..K-1 has no probability: the value
and its gradient are NaN.
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

KIND = "position"
PARAMETERS = ("logits",)
DEFAULTS = {}
SUPPORT = "levels"


def nll(x, logits):
    """-log p(x | logits) in nats, [B, ...]; x [B, ...] of integers, logits [B, K, ...] floating."""
    x = x.long()
    possible = (x >= 0) & (x < logits.shape[1])
    log_p = torch.log_softmax(logits, 1).gather(1, torch.where(possible, x, 0).unsqueeze(1)).squeeze(1)
    return log_p * torch.where(possible, -1.0, float("nan")).to(log_p.dtype)  # a product makes the gradient NaN too


def triton_value(top, total, logit):
    """The value, from the logit of x. total >= 1."""
    return (top - logit) + maths.log1p(total - 1.0)


def triton_softmax(logits, top, scale):
    """The softmax times a number; scale is this number divided by total."""
    return maths.exp_or_zero(logits - top) * scale


def mean(logits):
    """E[x] = sum_k k p_k, the mean level: [B, ...], between 0 and K-1."""
    levels = torch.arange(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return torch.softmax(logits, 1).movedim(1, -1) @ levels
