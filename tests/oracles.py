"""What is true, from other people's code: scipy for the likelihoods, mpmath at 100 digits for the KL.

ORACLES has one row a likelihood, on float64 numpy arrays: nll(x, *params) is -log p element by element, and
sample_params(rng, shape) draws (x, params) with the edge values of the formula first. Every x lies in the support, and
every value and gradient fits in float32.
"""

import mpmath
import numpy as np
from scipy import special, stats

mpmath.mp.dps = 100


def with_edges(edges, random):
    """random, an array of any shape, with its first elements (row-major) replaced by as many edges as fit."""
    out = np.array(random, dtype=np.float64)
    out.reshape(-1)[: len(edges)] = edges[: out.size]
    return out


def bernoulli_params(rng, shape):
    logits = [0.0, 0.0, 0.0, 1e-30, -1e-30, 20.0, -20.0, 20.0, -20.0, 100.0, -100.0, 1e4, -1e4, 1e4, -1e4, 1.0, -3.0]
    x = [0.0, 1.0, 0.3, 1.0, 0.0, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.5, 0.25]
    soft = rng.uniform(size=shape)
    target = np.where(rng.uniform(size=shape) < 0.5, np.round(soft), soft)
    return with_edges(x, target), (with_edges(logits, rng.normal(scale=3.0, size=shape)),)


def gaussian_params(rng, shape):
    x = [0.0, 2.0, 1.0, -1.0, 0.5, 100.0, 0.25]
    loc = [0.0, 2.0, 0.0, 1.0, 0.5, -100.0, 0.0]
    logvar = [0.0, -300.0, 80.0, 80.0, 80.0, 5.0, -8.0]
    draws = rng.normal(size=shape), rng.normal(size=shape), rng.normal(scale=1.5, size=shape)
    x, loc, logvar = map(with_edges, (x, loc, logvar), draws)
    return x, (loc, logvar)


def bernoulli_nll(x, logits):
    return -x * special.log_expit(logits) - (1 - x) * special.log_expit(-logits)


def gaussian_nll(x, loc, logvar):
    return -stats.norm.logpdf(x, loc, np.exp(logvar / 2))


def counts(rng, shape):
    """(x, log_mean, log_inverse_dispersion) as in cells: most counts are 0. Small enough for scipy's gammaln."""
    x = rng.poisson(rng.gamma(1.0, 2.0, size=shape)) * (rng.uniform(size=shape) < 0.5)
    x = with_edges([0.0, 1.0, 0.0, 1.0, 2.0, 20.0, 3.0, 20.0, 0.0], x)
    log_mean = with_edges([0.0, 0.0, -9.0, -3.0, 0.5, 3.0, 4.0, 1.0, 3.0], rng.normal(scale=1.2, size=shape))
    log_size = with_edges([0.0, 0.0, 2.0, -2.0, 5.0, 0.25, -4.0, -1.0, 4.0], rng.normal(scale=1.2, size=shape))
    return x, log_mean, log_size


def poisson_params(rng, shape):
    x, log_rate, _ = counts(rng, shape)
    return x, (log_rate,)


def negative_binomial_params(rng, shape):
    x, *params = counts(rng, shape)
    return x, params


def zinb_params(rng, shape):
    x, *params = counts(rng, shape)
    edges = [0.0, 0.0, 2.0, -2.0, 80.0, -80.0, 1.0, 0.5, -80.0]
    return x, (*params, with_edges(edges, rng.normal(scale=2.0, size=shape)))


def poisson_nll(x, log_rate):
    return -stats.poisson.logpmf(x, np.exp(log_rate))


def negative_binomial_nll(x, log_mean, log_size):
    """In closed form, as scipy's nbinom loses four digits here (test_counts.py compares them)."""
    s, excess = np.exp(log_size), log_mean - log_size
    coefficient = np.log(special.factorial(x) / special.poch(s, x))
    return coefficient - s * special.log_expit(-excess) - x * special.log_expit(excess)


def zinb_nll(x, log_mean, log_size, logits):
    n = negative_binomial_nll(x, log_mean, log_size)
    lost = special.expit(-logits) * -special.expm1(-n)  # 1 - p(0)
    far = np.log(special.expit(logits) + special.expit(-logits) * np.exp(-n))
    zero = np.where(lost < 0.5, np.log1p(-np.minimum(lost, 0.5)), far)
    return -np.where(x == 0, zero, special.log_expit(-logits) - n)


ORACLES = {
    "bernoulli": {"nll": bernoulli_nll, "sample_params": bernoulli_params},
    "gaussian": {"nll": gaussian_nll, "sample_params": gaussian_params},
    "poisson": {"nll": poisson_nll, "sample_params": poisson_params},
    "negative_binomial": {"nll": negative_binomial_nll, "sample_params": negative_binomial_params},
    "zinb": {"nll": zinb_nll, "sample_params": zinb_params},
}


@np.vectorize
def gaussian_kl(mu, logvar, prior_mu=0.0, prior_logvar=0.0):
    """KL( N(mu, e^logvar) || N(prior_mu, e^prior_logvar) ) in closed form at 100 digits; broadcasts."""
    mu, logvar, prior_mu, prior_logvar = map(mpmath.mpf, (mu, logvar, prior_mu, prior_logvar))
    t = logvar - prior_logvar
    return float(((mu - prior_mu) ** 2 * mpmath.exp(-prior_logvar) + mpmath.exp(t) - 1 - t) / 2)


def integrated_kl(mu, logvar, prior_mu, prior_logvar):
    """The same for scalars by its definition, the integral of q log(q / p): shares no algebra with the closed form."""
    sd, prior_sd = mpmath.exp(mpmath.mpf(logvar) / 2), mpmath.exp(mpmath.mpf(prior_logvar) / 2)

    def integrand(z):
        q, p = mpmath.npdf(z, mu, sd), mpmath.npdf(z, prior_mu, prior_sd)
        return q * mpmath.log(q / p)

    return float(mpmath.quad(integrand, [mu + k * sd for k in range(-16, 17, 4)]))
