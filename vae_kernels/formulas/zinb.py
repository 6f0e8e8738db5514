"""Zero-inflated negative binomial likelihood of counts x: with probability sigmoid(d) the count is dropped to 0.

    p(0) = sigmoid(d) + sigmoid(-d) q(0)        p(x) = sigmoid(-d) q(x), x > 0

in nats, with its constants. q is the negative binomial with log-mean a and log inverse dispersion t, n(x) = -log q(x)
(negative_binomial.py), and d are the dropout logits (Lopez et al. 2018, "Deep generative modeling for single-cell
transcriptomics"). scvi-tools has the parameters px_rate, px_r and px_dropout. Here they are log_mean = log(px_rate),
log_inverse_dispersion = px_r as it is stored (theta = exp(px_r)), and dropout_logits = px_dropout.

    x > 0:  -log p = n(x) + log(1 + e^d)
            d/dd = sigmoid(d)
    x = 0:  -log p = log(1 + y) = log(1 + e^d) - log(e^d + e^-n),        y = (1 - e^-n) / (e^d + e^-n)
            d/dd = -(1 - e^-n) sigmoid(d + n) sigmoid(-d)        d/dn = sigmoid(-d - n)

y is positive. Where p(0) is close to 1, y is small, and log(1 + y) keeps all digits; the difference of logarithms does
not. Where y may be large, the difference of logarithms is used. x is not checked: a negative or fractional count has no
likelihood.
"""

from typing import TYPE_CHECKING

import torch

from . import counts
from . import negative_binomial as nb

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import counts as tile_counts
    from ..backends.triton import maths
else:
    tl = maths = tile_counts = None  # backends/triton/twins.py sets these names

KIND = "element"
PARAMETERS = ("log_mean", "log_inverse_dispersion", "dropout_logits")
DEFAULTS = {}
SUPPORT = "counts"
LOG_TOTAL = True
CLASS = "ZeroInflatedNegativeBinomial"  # in vae_kernels.likelihoods


def nll(x, log_mean, log_inverse_dispersion, dropout_logits):
    """-log p(x | log_mean, log_inverse_dispersion, dropout_logits) in nats, element by element.

    x and log_mean have one shape, to which the other parameters broadcast. All have one floating dtype, which the
    result has too.
    """
    zero = x == 0
    kept = torch.logaddexp(dropout_logits, torch.zeros_like(dropout_logits))
    positive = nb.nll_of_some(torch.where(zero, 1, x), log_mean, log_inverse_dispersion) + kept
    n = nb.nll_of_none(log_mean, log_inverse_dispersion)
    return torch.where(zero, _nll_at_zero(torch.where(zero, n, 1), torch.where(zero, dropout_logits, 0)), positive)


def _nll_at_zero(n, d):
    """nll for x = 0: log(1 + y)."""
    rare = (n > 1) & (d < -1)  # p(0) is far from 1
    power, q = torch.exp(torch.where(d > 0, -d, d)), torch.exp(-n)
    whole = torch.where(n > 1, 1 - q, -torch.expm1(-n))  # for large n autograd's 1 + expm1(-n) loses digits
    y = torch.where(d > 0, power, 1) * whole / torch.where(rare, 1, torch.where(d > 0, 1 + power * q, power + q))
    return torch.where(rare, torch.logaddexp(d, torch.zeros_like(d)) - torch.logaddexp(d, -n), torch.log1p(y))


def lean_nll(x, log_mean, log_inverse_dispersion, dropout_logits, *, into, new):
    """(value, factor, constant): see the protocol Formula."""
    n, by_mean, by_t = nb.lean_none(log_mean, log_inverse_dispersion, into, new)
    value, share, by_d = _lean_mixed(n, dropout_logits, new() if into[2] is None else into[2], new)
    places, k, a, t, d = counts.positive(x, log_mean, log_inverse_dispersion, dropout_logits)
    positive, *others = nb.lean_some(k, a, t)
    positive += torch.logaddexp(d, torch.zeros_like(d))
    grads = by_mean.mul_(share), by_t.mul_(share), by_d
    counts.put(places, (value, positive), *zip(grads, (*others, torch.sigmoid(d)), strict=True))
    return value, 1.0, 0.0


def _lean_mixed(n, d, by_d, new):
    """The value for x = 0, the derivative by n, and the derivative by d, in float32. n is overwritten."""
    total, n = torch.add(n, d, out=new()), n.neg_()
    either = torch.maximum(n, d, out=new())
    far = torch.sub(-60, either, out=new()).relu_()
    minus_whole = torch.expm1(n, out=n)
    other, share = torch.sigmoid(total, out=new()), torch.sigmoid(total.neg_(), out=total)
    torch.mul(minus_whole, other, out=by_d).mul_(torch.sigmoid(-d))
    # e^d + e^-n is e^either times the reciprocal of the larger sigmoid
    y = either.add_(far).neg_().exp_().mul_(torch.maximum(share, other, out=other)).mul_(minus_whole).neg_()
    return y.log1p_().add_(far), share, by_d


def triton_nll(x, log_mean, log_inverse_dispersion, dropout_logits):
    """The value, and its derivatives by all three parameters. csrc/formulas/zinb.h explains the steps."""
    d, zero = dropout_logits, x == 0.0
    n, by_mean, by_t = nb.triton_none(log_mean, log_inverse_dispersion)
    other, other_by_mean, other_by_t = nb.triton_some(tl.where(zero, 1.0, x), log_mean, log_inverse_dispersion)
    over = d > 0.0
    # x > 0
    e = maths.exp_nonpositive(-tl.abs(d))
    other += tl.where(over, d, 0.0) + maths.log1p_unit(e)
    other_by_d = tl.where(over, 1.0, e) * maths.reciprocal(1.0 + e)
    # x = 0
    value, _, share, by_d = triton_mixed(n, d)
    value = tl.where(zero, value, other)
    by_mean = tl.where(zero, share * by_mean, other_by_mean)
    return value, by_mean, tl.where(zero, share * by_t, other_by_t), tl.where(zero, by_d, other_by_d)


def triton_mixed(n, d):
    """-log(sigmoid(d) + sigmoid(-d) e^-n), n >= 0: the value, the shares of both terms, and the derivative by d."""
    over = d > 0.0
    far = maths.at_least(maths.at_most(-d, n) - 60.0, 0.0)
    e = maths.exp_or_zero(-tl.abs(d) + far)
    power, minus_1 = tile_counts.exp_pair(far - n)
    mine, rest = tl.where(over, e, 1.0), tl.where(over, 1.0, e)
    inverse = maths.reciprocal(tl.where(over, tl.fma(power, e, 1.0), e + power))
    by_d = minus_1 * (rest * inverse) * maths.quotient(mine, 1.0 + e)
    return maths.log1p(-minus_1 * mine * inverse) + far, rest * inverse, power * mine * inverse, by_d


def mean(log_mean, log_inverse_dispersion, dropout_logits):
    """E[x] = sigmoid(-dropout_logits) exp(log_mean)."""
    return torch.sigmoid(-dropout_logits) * torch.exp(log_mean)
