"""Negative binomial likelihood of counts x, with log-mean a and log inverse dispersion t, in nats, with its constants:

    -log p(x | a, t) = log x! + log Gamma(s) - log Gamma(x + s) + x log(1 + s / mu) + s log(1 + mu / s)

with mu = e^a and s = e^t; the variance is mu + mu^2 / s (Lopez et al. 2018, "Deep generative modeling for single-cell
transcriptomics"). For large s it becomes the Poisson likelihood. Other libraries have the same parameters:

    here                    scvi-tools                                torch.distributions.NegativeBinomial
    log_mean                log(px_rate)                              logits + log(total_count)
    log_inverse_dispersion  px_r as it is stored; theta = exp(px_r)   log(total_count)
    log_mean - log_inverse_dispersion                                 logits

Every term above is large where s or x is large. So for x > 0, -log p is computed as counts.py says: the value at mu =
x, plus the deviance.

    -log p = x h(e) + s h(f) + S(x) + S(s) - S(x + s) + 1/2 log(2 pi x (x + s) / s),        h(e) = e - log(1 + e)
    f = (x - mu) / (s + mu),        e = -f s / x

(R's dnbinom, after Loader 2000), where S is the error of Stirling's formula (counts.py). The derivatives need no
digamma of s:

    d/da = (mu - x) s / (s + mu)        d/dt = s h(f) + s S'(s) - s S'(x + s) - 1/2 x / (x + s)

x is not checked: a negative or fractional count has no likelihood. x = 0 has a formula of its own, without a derivative
by x.
"""

from typing import TYPE_CHECKING

import torch

from . import counts

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import counts as tile_counts
    from ..backends.triton import maths
else:
    tl = maths = tile_counts = None  # backends/triton/twins.py sets these names

KIND = "element"
PARAMETERS = ("log_mean", "log_inverse_dispersion")
DEFAULTS = {}
SUPPORT = "counts"
LOG_TOTAL = True


def nll(x, log_mean, log_inverse_dispersion):
    """-log p(x | log_mean, log_inverse_dispersion) in nats, element by element.

    x and log_mean have one shape, to which log_inverse_dispersion broadcasts. All have one floating dtype, which the
    result has too.
    """
    zero = x == 0
    positive = nll_of_some(torch.where(zero, 1, x), log_mean, log_inverse_dispersion)
    return torch.where(zero, nll_of_none(log_mean, log_inverse_dispersion), positive)


def nll_of_none(log_mean, log_inverse_dispersion):
    """nll for x = 0: s log(1 + mu / s), written as mu log(1 + e) / e with e = mu / s where mu < s. For large s it is
    mu."""
    excess = log_mean - log_inverse_dispersion
    over = excess > 0
    e = torch.exp(torch.where(over, 0, excess))
    softplus = torch.logaddexp(excess, torch.zeros_like(excess))
    smaller = torch.exp(torch.where(over, log_inverse_dispersion, log_mean))
    return smaller * torch.where(over, softplus, counts.log1p_ratio(e))


def nll_of_some(x, log_mean, log_inverse_dispersion):
    """nll for x > 0."""
    deviance, rest = parts_of_some(x, log_mean, log_inverse_dispersion)
    return deviance + rest


def parts_of_some(x, log_mean, log_inverse_dispersion):
    """The two terms of nll for x > 0: the deviance, and what is the same for every mean.
    csrc/formulas/negative_binomial.h says what the bounds are for."""
    k = 4 if log_mean.dtype == torch.float64 else 1
    lower, higher = _ordered(log_mean.detach(), log_inverse_dispersion.detach())
    lowered = torch.relu(lower - 42 * k)
    shift = torch.relu(-40 * k - higher) - lowered
    shifted, t = log_mean + shift, log_inverse_dispersion
    a, b = shifted.clamp(-60 * k, 62 * k), (t + shift).clamp(-80 * k, 62 * k)

    mu, s, over = torch.exp(a), torch.exp(b), a > b
    lower, higher = _ordered(a, b)
    power = torch.exp(lower - higher)
    # the shares of s, mu and x in s + mu
    of_s, of_mu = (torch.where(this, power, 1) / (1 + power) for this in (over, ~over))
    of_x, slope = x * (torch.exp(-higher) / (1 + power)), (mu - x) * of_s
    f = of_x - of_mu
    ratio = torch.where(f > -0.5, 1 + f, of_x + of_s)
    deviance = s * counts.log1p_rest(f, ratio) + x * counts.log1p_rest(slope / x, ratio * (mu / x))
    deviance = deviance + slope * (shifted - a)
    errors = counts.stirling_error(x) + counts.stirling_error(s, t) - counts.stirling_error(x + s)
    root = torch.log(x) + torch.where(s < 1, torch.log(x + s) - t, torch.log1p(x / torch.where(s < 1, 1, s)))
    scale = torch.exp(lowered)
    return scale * deviance, scale * (errors + 0.5 * root + counts.HALF_LOG_2PI)


def lean_nll(x, log_mean, log_inverse_dispersion, *, into, new):
    """(value, factor, constant): see the protocol Formula."""
    found = lean_none(log_mean, log_inverse_dispersion, into, new)
    places, *given = counts.positive(x, log_mean, log_inverse_dispersion)
    counts.put(places, *zip(found, lean_some(*given), strict=True))
    return found[0], 1.0, 0.0


def lean_none(log_mean, log_inverse_dispersion, into, new):
    """The value for x = 0, and both derivatives, in float32."""
    into = [new() if t is None else t for t in into[:2]]
    excess = torch.sub(log_mean, log_inverse_dispersion, out=new())
    over = torch.gt(excess, 0, out=new())
    e = torch.abs(excess, out=new()).neg_().exp_()
    inverse, r = torch.add(e, 2, out=new()).reciprocal_(), torch.add(e, 1, out=into[0]).reciprocal_()
    # log(1 + e) = 2 artanh(z) with z = e / (2 + e): the tail is z^2/3 + z^4/5 + ...
    z = torch.mul(e, inverse, out=new()).square_()
    tail = torch.mul(z, 1 / 15, out=new())
    for k in (13, 11, 9, 7, 5, 3):
        tail.add_(1 / k).mul_(z)
    per_e = torch.add(tail, 1, out=z).mul_(inverse).mul_(2)  # log(1 + e) / e
    rest = torch.add(e, 1, out=into[1]).mul_(tail).mul_(2).add_(e).mul_(inverse).mul_(r)  # per_e - r
    softplus = e.mul_(per_e).add_(excess)
    smaller = torch.minimum(log_mean, log_inverse_dispersion, out=excess).exp_()
    rest.addcmul_(over, torch.sub(softplus, r, out=tail).sub_(rest)).mul_(smaller)  # where over is 1: softplus - r
    value = per_e.addcmul_(over, softplus.sub_(per_e)).mul_(smaller)
    return value, r.mul_(smaller), rest


def lean_some(x, log_mean, log_inverse_dispersion):
    """The value for x > 0, and both derivatives, in float64, of 1-d tensors."""
    a, t = log_mean, log_inverse_dispersion
    s, excess, share = torch.exp(t), a - t, torch.sigmoid(t - a)  # share: s / (s + mu)
    n = x + s
    below, above = (torch.nn.functional.softplus(u, threshold=50) for u in (-excess, excess))  # e^-50 is below an eps
    value = torch.lgamma(s) + counts.log_factorial(x) - torch.lgamma(n) + x * below + s * above
    by_t = s * (torch.digamma(s) - torch.digamma(n) + above - torch.sigmoid(excess)) + x * share
    found = value, (torch.exp(a) - x) * share, by_t
    # Beyond these bounds the log-gammas are too large for float64, or an exponential leaves its range.
    far = ((t > 12) | (x > 1e6) | (torch.maximum(a.abs(), t.abs()) > 600)).nonzero().view(-1)
    if far.numel():
        leaves = [p[far].requires_grad_() for p in (a, t)]
        with torch.enable_grad():
            other = nll_of_some(x[far], *leaves)
        grads = torch.autograd.grad(other, leaves, torch.ones_like(other))
        for ours, theirs in zip(found, (other.detach(), *grads), strict=True):
            ours[far] = theirs
    return found


def _ordered(a, b):
    """The smaller and the larger of both, with the derivative of one of the two where both are equal."""
    return torch.where(a > b, b, a), torch.where(a > b, a, b)


def triton_nll(x, log_mean, log_inverse_dispersion):
    """The value, and its derivatives by both parameters. csrc/formulas/negative_binomial.h explains the steps."""
    zero = x == 0.0
    value, by_mean, by_t = triton_none(log_mean, log_inverse_dispersion)
    other, other_by_mean, other_by_t = triton_some(tl.where(zero, 1.0, x), log_mean, log_inverse_dispersion)
    value = tl.where(zero, value, other)
    return value, tl.where(zero, by_mean, other_by_mean), tl.where(zero, by_t, other_by_t)


def triton_none(log_mean, log_inverse_dispersion):
    """triton_nll for x = 0."""
    value, by_mean, by_t, _, _ = triton_none_and_curve(log_mean, log_inverse_dispersion)
    return value, by_mean, by_t


def triton_none_and_curve(log_mean, log_inverse_dispersion):
    """triton_none, and what triton_gain needs."""
    excess = log_mean - log_inverse_dispersion
    moved = excess - log_mean
    lost = (log_mean - (excess - moved)) - (log_inverse_dispersion + moved)  # the rounding error of excess (Knuth)
    over = excess > 0.0
    e = maths.exp_nonpositive_to_an_ulp(-tl.abs(excess))
    e = tl.fma(e, tl.where(over, -lost, lost), e)
    smaller, r = maths.exp(tl.where(over, log_inverse_dispersion, log_mean)), maths.reciprocal(1.0 + e)
    tail = tile_counts.log1p_tail(e)
    per_e = tl.fma(tail, e, 1.0)
    softplus = tl.fma(e, per_e, excess)
    by_t = smaller * tl.where(over, softplus - r, e * (tail + r))
    total = tl.where(over, smaller, smaller * maths.reciprocal(e))
    return smaller * tl.where(over, softplus, per_e), smaller * r, by_t, e * r, total


def triton_some(x, log_mean, log_inverse_dispersion):
    """triton_nll for x > 0."""
    deviance, by_mean, by_t, s, _ = triton_deviance(x, log_mean, log_inverse_dispersion)
    value, at_mean_by_t = triton_at_mean(x, log_inverse_dispersion, s)
    return deviance + value, by_mean, by_t + at_mean_by_t


def triton_deviance(x, log_mean, log_inverse_dispersion):
    """The part of triton_some that knows the mean, s within its bounds, and x + s for triton_gain."""
    k = 1.0
    if x.dtype == tl.float64:
        k = 4.0
    t = log_inverse_dispersion
    # tl.maximum may drop a NaN, which a and b then keep
    lowered = tl.maximum(tl.minimum(log_mean, t) - 42.0 * k, 0.0)
    shift = tl.maximum(-40.0 * k - tl.maximum(log_mean, t), 0.0) - lowered
    a, b, scale = log_mean + shift, t + shift, maths.exp_nonpositive(lowered)
    a_within = maths.at_most(maths.at_least(a, -60.0 * k), 62.0 * k)
    b_within = maths.at_most(maths.at_least(b, -80.0 * k), 62.0 * k)
    rest, mu, s = a - a_within, maths.exp_within(a_within), maths.exp_within(b_within)
    inverse_total, inverse_x = maths.reciprocal(s + mu), maths.reciprocal(x)
    ratio = (x + s) * inverse_total
    slope = (mu - x) * (s * inverse_total)
    s_rest = s * tile_counts.log1p_rest((x - mu) * inverse_total, ratio)  # s h(f)
    x_rest = tile_counts.log1p_rest(slope * inverse_x, ratio * (mu * inverse_x))  # h(e)
    deviance = tl.fma(slope, rest, tl.fma(x, x_rest, s_rest))
    by_t = tl.where(b > b_within, 0.0, tl.fma(slope, tl.maximum(rest, 0.0), s_rest))
    return scale * deviance, scale * slope, scale * by_t, s, scale * (x + s)


def triton_gain(step, over, by_mean, share, total):
    """What -log p gains where log_mean grows by `step`, |step| < 1. csrc/formulas/negative_binomial.h explains it."""
    e, e_minus_u = maths.expm1_pair(tl.where(over, -step, step))
    z = share * e
    return tl.fma(step, by_mean, total * (share * e_minus_u - tile_counts.log1p_rest(z, 1.0 + z)))


def triton_at_mean(x, log_inverse_dispersion, s):
    """The part of triton_some that does not know the mean: the value at a mean of x, and its derivative by t."""
    t = log_inverse_dispersion
    n, inverse_x = x + s, maths.reciprocal(x)
    inverse_n = maths.reciprocal(n)
    small = s < 1.0
    inverse, step = maths.reciprocal(tl.where(small, s + 1.0, s)), maths.log1p_unit(maths.at_most(s, 1.0)) - t
    error, by_t = tile_counts.stirling(inverse)
    error_n, slope_n = tile_counts.stirling(maths.at_most(inverse_n, 1.0))
    error_x, _ = tile_counts.stirling(maths.at_most(inverse_x, 1.0))
    error += tl.where(small, tl.fma(s + 0.5, step, s * 0.0 - 1.0), 0.0)
    by_t = tl.where(small, tl.fma(s, step, -(s + 0.5 + by_t * s) * inverse), -by_t)
    root = tile_counts.log(x * tl.where(small, n, tl.fma(x, inverse, 1.0))) - tl.where(small, t, 0.0)
    value = (error_x + error - error_n) + tl.fma(root, 0.5, tile_counts.half_log_2pi(x))
    return value, tl.fma(tl.fma(slope_n, s, -0.5 * x), inverse_n, by_t)


def mean(log_mean, log_inverse_dispersion=None):
    """E[x] = exp(log_mean), for every dispersion."""
    return torch.exp(log_mean)
