"""Mixture of two negative binomials of one inverse dispersion, for counts x, in nats, with its constants:

    -log p(x) = -log( sigmoid(l) NB(x; a, t) + sigmoid(-l) NB(x; b, t) )

It is the likelihood of protein counts in TOTALVI (Gayoso et al. 2021, doi:10.1038/s41592-020-01050-x): a cell has
background counts of every protein, and foreground counts of the proteins that it has. a is the log-mean of the
background and b is that of the foreground, t is the log inverse dispersion of both (negative_binomial.py), and l are
the mixture logits: sigmoid(l) is the probability of the background. Other libraries have the same parameters:

    here                    scvi-tools (NegativeBinomialMixture with theta2=None)
    background_log_mean     log(mu1)
    foreground_log_mean     log(mu2)
    log_inverse_dispersion  log(theta1)
    mixture_logits          mixture_logits: the logits of component 1, the background

Let n be -log p of the component that is more likely, n + d that of the other one, and w the logits of the first of the
two: l or -l. Then

    -log p = n + log(1 + y),        y = (1 - e^-d) / (e^w + e^-d)

is a sum of terms that are not negative, so no digits cancel. log(1 + y) is the zero-inflated negative binomial's -log p
of 0 (zinb.py). What the two components have in common is added once: for x > 0 that is all of -log p but the deviance
(negative_binomial.py). The derivatives are those of the components, times the responsibilities r and 1 - r:

    r = sigmoid(w + d)        d/dw = sigmoid(w) - r = -(1 - e^-d) sigmoid(w + d) sigmoid(-w)

x is not checked: a negative or fractional count has no likelihood.
"""

from typing import TYPE_CHECKING

import torch

from . import counts, zinb
from . import negative_binomial as nb

if TYPE_CHECKING:
    import triton.language as tl

    from ..backends.triton import maths
else:
    tl = maths = None  # backends/triton/twins.py sets these names: triton_* run nowhere else

KIND = "element"
PARAMETERS = ("background_log_mean", "foreground_log_mean", "log_inverse_dispersion", "mixture_logits")
DEFAULTS = {}
SUPPORT = "counts"


def nll(x, background_log_mean, foreground_log_mean, log_inverse_dispersion, mixture_logits):
    """-log p(x | parameters) in nats, element by element.

    x and background_log_mean have one shape, to which the other parameters broadcast. All have one floating dtype,
    which the result has too.
    """
    means = background_log_mean, foreground_log_mean
    first, second = (nb.nll(x, mean, log_inverse_dispersion) for mean in means)
    apart = second - first
    # more digits of this difference, whose derivatives have theirs
    apart = apart + (_apart(x, *means, log_inverse_dispersion) - apart).detach()
    odds = mixture_logits + apart  # the logits of r
    other = odds < 0  # the share of the foreground is the larger one
    n, d = torch.where(other, second, first), torch.where(other, -apart, apart)
    w, power = torch.where(other, -mixture_logits, mixture_logits), torch.exp(torch.where(other, odds, -odds))
    # Here d may be negative, where the component of the larger share is less likely. A share of 1/2 or more keeps its
    # digits: autograd computes it as 1 minus the other share.
    rare, less = w < -1, d < 0
    apart = torch.where(less, d, -d)  # where(), not abs(): where() picks a branch that is smooth, also at 0
    lost = torch.where(apart < -1, torch.exp(apart) - 1, torch.expm1(apart))  # autograd's 1 + expm1(d) loses digits
    y = torch.where(less, power, -torch.exp(-torch.where(rare, 0, w))) * lost / (1 + power)
    far = torch.log1p(torch.exp(torch.where(rare, w, -1))) - w - torch.log1p(power)
    return n + torch.where(rare, far, torch.log1p(y))


@torch.no_grad()
def _apart(x, background_log_mean, foreground_log_mean, log_inverse_dispersion):
    """The -log p of the foreground minus that of the background: the difference of their deviances. Where the means are
    close, both deviances may be much larger than the difference, which is then the sum of

        (b - a) (mu - x) s / (s + mu) + (x + s) (k (e^u - 1 - u) - h(k (e^u - 1)))

    with the background's mu = e^a, k = min(mu, s) / (s + mu), u = b - a, or a - b where mu > s, and h(e) as in
    negative_binomial.py.
    """
    t, step, zero = log_inverse_dispersion, foreground_log_mean - background_log_mean, x == 0
    some = torch.where(zero, 1, x)
    first, second = (
        torch.where(zero, nb.nll_of_none(mean, t), nb.parts_of_some(some, mean, t)[0])
        for mean in (background_log_mean, foreground_log_mean)
    )
    near, excess = step.abs() < 1, background_log_mean - t
    u = torch.where(near, torch.where(excess > 0, -step, step), 0)
    k, s, mu = torch.sigmoid(-excess.abs()), torch.exp(t), torch.exp(background_log_mean)
    e = torch.expm1(u)
    z = k * e
    rest = torch.where(u.abs() < 0.1, counts.expm1_rest(u), e - u)
    gain = step * ((mu - x) * torch.sigmoid(-excess)) + (x + s) * (k * rest - counts.log1p_rest(z, 1 + z))
    return torch.where(near & gain.isfinite(), gain, second - first)


def triton_nll(x, background_log_mean, foreground_log_mean, log_inverse_dispersion, mixture_logits):
    """The value, and its derivatives by all four parameters."""
    zero, t = x == 0.0, log_inverse_dispersion
    some = tl.where(zero, 1.0, x)
    n, by_a, n_by_t, part, total = nb.triton_none_and_curve(background_log_mean, t)
    m, by_b, m_by_t = nb.triton_none(foreground_log_mean, t)
    d, d_by_a, d_by_t, s, d_total = nb.triton_deviance(some, background_log_mean, t)
    n, by_a, n_by_t = tl.where(zero, n, d), tl.where(zero, by_a, d_by_a), tl.where(zero, n_by_t, d_by_t)
    total = tl.where(zero, total, d_total)
    d, d_by_b, d_by_t, _, _ = nb.triton_deviance(some, foreground_log_mean, t)
    m, by_b, m_by_t = tl.where(zero, m, d), tl.where(zero, by_b, d_by_b), tl.where(zero, m_by_t, d_by_t)
    step = foreground_log_mean - background_log_mean
    gain = nb.triton_gain(step, background_log_mean > t, by_a, part, total)
    apart = tl.where(tl.abs(step) < 1.0, gain, m - n)
    other = apart < 0.0  # the foreground is more likely
    w = tl.where(other, -mixture_logits, mixture_logits)
    value, near, far, by_w = zinb.triton_mixed(tl.abs(apart), w)
    value += tl.where(other, m, n)
    share, rest = tl.where(other, far, near), tl.where(other, near, far)
    by_t = maths.share_of(share, n_by_t) + maths.share_of(rest, m_by_t)
    common, common_by_t = nb.triton_at_mean(some, t, s)
    return (
        value + tl.where(zero, 0.0, common),
        maths.share_of(share, by_a),
        maths.share_of(rest, by_b),
        by_t + tl.where(zero, 0.0, common_by_t),
        tl.where(other, -by_w, by_w),
    )


def mean(background_log_mean, foreground_log_mean, log_inverse_dispersion, mixture_logits):
    """E[x], the mean of both means by their probabilities."""
    background = torch.sigmoid(mixture_logits) * torch.exp(background_log_mean)
    return background + torch.sigmoid(-mixture_logits) * torch.exp(foreground_log_mean)
