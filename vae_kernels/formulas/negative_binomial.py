"""Negative binomial likelihood of counts x, with log-mean a and log inverse dispersion t, in nats, with its constants:

    -log p(x | a, t) = log x! + log Gamma(s) - log Gamma(x + s) + x log(1 + s / mu) + s log(1 + mu / s)

with mu = e^a and s = e^t; the variance is mu + mu^2 / s (Lopez et al. 2018, "Deep generative modeling for single-cell
transcriptomics"). As s grows it is the Poisson likelihood. The same parameters elsewhere:

    here                    scvi-tools                                torch.distributions.NegativeBinomial
    log_mean                log(px_rate)                              logits + log(total_count)
    log_inverse_dispersion  px_r as it is stored; theta = exp(px_r)   log(total_count)
    log_mean - log_inverse_dispersion                                 logits

Every term above is large where s or x is. So for x > 0 it is taken as in counts.py: at mu = x, and the deviance from it,

    -log p = x h(e) + s h(f) + S(x) + S(s) - S(x + s) + 1/2 log(2 pi x (x + s) / s),        h(e) = e - log(1 + e)
    f = (x - mu) / (s + mu),        e = -f s / x

(R's dnbinom, after Loader 2000), where S is what Stirling's formula lacks. The derivatives need no digamma of s:

    d/da = (mu - x) s / (s + mu)        d/dt = s h(f) + s S'(s) - s S'(x + s) - 1/2 x / (x + s)

x is not checked: negative or fractional counts have no likelihood. x = 0 is a case of its own, with no derivative by x.
"""

import torch

from . import counts

tl = m = c = None  # triton.language, triton/maths.py and triton/counts.py, when vae_kernels/triton is loaded

PARAMETERS = ("log_mean", "log_inverse_dispersion")
DEFAULTS = {}
SUPPORT = "counts"


def nll(x, log_mean, log_inverse_dispersion):
    """-log p(x | log_mean, log_inverse_dispersion) in nats, element by element.

    x and log_mean of one shape; log_inverse_dispersion broadcasts to it; all of one floating dtype, which the result has.
    """
    none = x == 0
    some = nll_of_some(torch.where(none, 1, x), log_mean, log_inverse_dispersion)
    return torch.where(none, nll_of_none(log_mean, log_inverse_dispersion), some)


def nll_of_none(log_mean, log_inverse_dispersion):
    """nll for x = 0: s log(1 + mu / s), or mu - s h(mu / s) where mu is the smaller: as s grows, it is mu."""
    excess, s = log_mean - log_inverse_dispersion, torch.exp(log_inverse_dispersion)
    e = torch.exp(torch.where(excess > 0, 0, excess))
    softplus = torch.logaddexp(excess, torch.zeros_like(excess))
    return torch.where(excess > 0, s * softplus, torch.exp(log_mean) - s * counts.log1p_rest(e, 1 + e))


def nll_of_some(x, log_mean, log_inverse_dispersion):
    """nll for x > 0."""
    mu, s, excess = torch.exp(log_mean), torch.exp(log_inverse_dispersion), log_mean - log_inverse_dispersion
    power = torch.exp(torch.where(excess > 0, -excess, excess))
    share = torch.where(excess > 0, power, 1) / (1 + power)  # s / (s + mu), with an exact derivative near 1
    of_s = (x - mu) / (s + mu)
    ratio = torch.where(of_s > -0.5, 1 + of_s, (x + s) / (s + mu))
    deviance = s * counts.log1p_rest(of_s, ratio) + x * counts.log1p_rest((mu - x) / x * share, ratio * (mu / x))
    errors = counts.stirling_error(x) + counts.stirling_error(s) - counts.stirling_error(x + s)
    return deviance + errors + 0.5 * (torch.log(x) + torch.log1p(x / s)) + counts.HALF_LOG_2PI


def mean(log_mean, log_inverse_dispersion=None):
    """E[x] = exp(log_mean), whatever the dispersion."""
    return torch.exp(log_mean)
