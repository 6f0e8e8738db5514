"""Bernoulli likelihood whose probability is a product of three sigmoids, in nats:

    -log p(x) = -x log q - (1 - x) log(1 - q)        q = sigmoid(a) sigmoid(b) sigmoid(c)

PeakVI has this likelihood (Ashuach et al. 2022, doi:10.1016/j.crmeth.2022.100182). There q is the probability that a
region of the genome is open in a cell, times the depth of the cell, times the bias of the region. a is `logits`, one
number for each element. b is `sample_logits` and c is `feature_logits`: any shape that broadcasts. A factor that is
left out is 1, whose logit is infinite.

With u = e^-a, v = e^-b and w = e^-c, q = 1 / ((1 + u) (1 + v) (1 + w)). So with

    E = (1 + u) (1 + v) (1 + w) - 1,        -log q = log(1 + E),        -log(1 - q) = log(1 + 1/E)

and E is a sum of positive numbers: no digits cancel. Where a is negative, u may be too large for a number. Let
s = max(-a, 0) + max(-b, 0) + max(-c, 0), and let E' be E of the absolute values |a|, |b| and |c|. Then

    1 + E = e^s (1 + E'),        1/E = P / (E' + (1 - P))        with P = e^-s

Where all three are positive, s = 0 and E' = E, and u, v and w may be too small for a number. So all three are divided
by e^-m, for m = max(min(a, b, c), 0), and F = E e^m is computed in place of E: log(1 + 1/E) = m + log(1/F + e^-m).

    d/da = ((1 - x) / E - x) sigmoid(-a), and likewise by b and c        d/dx = log(1/E)
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

KIND = "element"
PARAMETERS = ("logits", "sample_logits", "feature_logits")
DEFAULTS = {"sample_logits": float("inf"), "feature_logits": float("inf")}
SUPPORT = (0.0, 1.0)


def nll(x, logits, sample_logits, feature_logits):
    """-log p(x | parameters) in nats, element by element. The parameters broadcast to x; all have one dtype."""
    given = logits, sample_logits, feature_logits
    m = torch.relu(torch.minimum(torch.minimum(*given[:2]), given[2]).detach())  # no derivative: m changes no value
    scale = torch.exp(-m)
    odds = s = value = torch.zeros_like(logits)
    for t in given:
        positive = t > 0  # where(), not abs(): where() picks a branch that is smooth, also at 0
        e = torch.exp(m - torch.where(positive, t, -t))
        odds = odds + e + scale * odds * e
        against = torch.where(positive, 0, -t)
        s, value = s + against, value + x * against
    ratio = torch.exp(-s) / (odds - torch.expm1(-s))
    return value + x * torch.log1p(scale * odds) + (1 - x) * (m + torch.log1p(ratio + torch.expm1(-m)))


def triton_nll(x, logits, sample_logits, feature_logits):
    """The value, and its derivative by each parameter."""
    m = tl.where(sample_logits < logits, sample_logits, logits)
    m = maths.at_least(tl.where(feature_logits < m, feature_logits, m), 0.0)
    scale = maths.exp_or_zero(-m)
    e = maths.exp_or_zero(m - tl.abs(logits))
    f = maths.exp_or_zero(m - tl.abs(sample_logits))
    g = maths.exp_or_zero(m - tl.abs(feature_logits))
    odds = tl.fma(scale * e, f, e + f)
    odds = tl.fma(scale * odds, g, odds + g)
    power = tl.where(logits > 0.0, 1.0, e) * tl.where(sample_logits > 0.0, 1.0, f)
    power *= tl.where(feature_logits > 0.0, 1.0, g)
    against = x * tl.where(logits > 0.0, 0.0, -logits) + x * tl.where(sample_logits > 0.0, 0.0, -sample_logits)
    against += x * tl.where(feature_logits > 0.0, 0.0, -feature_logits)
    ratio = maths.quotient(power, odds + (1.0 - power))
    by_logit = tl.fma(-x, ratio, ratio) - x * scale
    value = tl.fma(x, maths.log1p(scale * odds), (1.0 - x) * (m + maths.log1p(ratio + (scale - 1.0))))
    return (
        against + value,
        by_logit * (tl.where(logits > 0.0, e, 1.0) * maths.reciprocal(tl.fma(scale, e, 1.0))),
        by_logit * (tl.where(sample_logits > 0.0, f, 1.0) * maths.reciprocal(tl.fma(scale, f, 1.0))),
        by_logit * (tl.where(feature_logits > 0.0, g, 1.0) * maths.reciprocal(tl.fma(scale, g, 1.0))),
    )


def mean(logits, sample_logits=None, feature_logits=None):
    """E[x] = q, of the shape of logits."""
    factors = [torch.sigmoid(t) for t in (logits, sample_logits, feature_logits) if t is not None]
    return torch.stack(torch.broadcast_tensors(*factors)).prod(0)
