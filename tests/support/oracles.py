"""Oracles, which are other people's code: scipy for the likelihoods, and mpmath with 100 digits for the KL and for what
scipy lacks.

ORACLES has one row for each likelihood, for numpy arrays of float64. nll(x, *params) is -log p element by element.
sample_params(rng, shape) draws (x, params); the edge values of the formula come first. Every x is in the support, and
float32 can hold every value and gradient.
"""

import mpmath
import numpy as np
from scipy import special, stats

mpmath.mp.dps = 100


def with_edges(edges, random):
    """The array `random`, of any shape, in which the edges replace the first elements (row-major). Edges that do not
    fit are left out."""
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


def laplace_params(rng, shape):
    x = [0.5, 0.5, 1.0, -1.0, 100.0, 0.25]  # x = loc only with |logscale| > 30: finite differences fail at the kink
    loc = [0.5, 0.5, 0.0, 1.0, -100.0, 0.0]
    logscale = [40.0, -80.0, 80.0, 80.0, 3.0, -8.0]
    draws = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape)
    x, loc, logscale = map(with_edges, (x, loc, logscale), draws)
    return x, (loc, logscale)


def continuous_bernoulli_params(rng, shape):
    near = np.array([0.0, 1e-30, 1e-8, 1e-3, 1 - 2.0**-20, 1.0, 1 + 2.0**-20, 20.0, 100.0, 1e4])  # the series ends at 1
    x, logits = np.array(np.meshgrid([0.0, 1.0, 0.3, 0.5], [*near, *-near])).reshape(2, -1)
    return with_edges(x, rng.uniform(size=shape)), (with_edges(logits, rng.normal(scale=3.0, size=shape)),)


def discretized_logistic_params(rng, shape):
    level = [0.0, 255.0, 0.0, 255.0, 0.0, 255.0, 102.0, 102.0, 102.0, 102.0, 102.0, 102.0, 1.0, 254.0]
    loc = [0.3, 0.3, -2.0, -2.0, 0.0, 1.0, 0.4, 0.4, 0.4, -2.0, 0.4 + 1 / 510, 0.4 + 1e-4, 0.5, -3.0]
    logscale = [-2.0, -2.0, -1.0, -3.0, -80.0, -80.0, -11.0, -80.0, 80.0, -8.0, -9.0, 4.0, -5.6, 9.0]
    x = with_edges(level, rng.integers(0, 256, size=shape)) / 255
    loc = with_edges(loc, x + rng.normal(scale=0.1, size=shape))
    return x, (loc, with_edges(logscale, rng.uniform(-8.0, 2.0, size=shape)))


def bernoulli_product_params(rng, shape):
    first = np.array([61.0, 80.0, 300.0, 1e4, 60.0, 0.0])  # all three are large
    some = [0.0, 1.0, 0.3], [0.0, 20.0, -20.0], [0.0, 59.0, 100.0, -100.0, 1e4], [-1.0, 61.0]
    x, *logits = np.array(np.meshgrid(*some)).reshape(4, -1)
    large = [np.array([0.0, 1.0, 0.5, 0.0, 1.0, 0.0]), first, first + 1, first + 0.5]
    x, *logits = (np.concatenate(pair) for pair in zip(large, [x, *logits], strict=True))
    draws = [rng.normal(scale=3.0, size=shape) for _ in range(3)]
    return with_edges(x, np.round(rng.uniform(size=shape))), [
        with_edges(*pair) for pair in zip(logits, draws, strict=True)
    ]


def bernoulli_nll(x, logits):
    return -x * special.log_expit(logits) - (1 - x) * special.log_expit(-logits)


def gaussian_nll(x, loc, logvar):
    return -stats.norm.logpdf(x, loc, np.exp(logvar / 2))


def counts(rng, shape):
    """(x, log_mean, log_inverse_dispersion) as in cells: most counts are 0. The counts are small enough for scipy's
    gammaln."""
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


def mixture_params(rng, shape):
    x, log_mean, log_size = counts(rng, shape)
    other = with_edges([0.0, 0.5, 3.0, -3.0, -9.0, 2.0, 4.0, 3.5, -9.0], rng.normal(scale=1.2, size=shape))
    logits = with_edges([0.0, 2.0, -2.0, 80.0, -80.0, 1e4, -1e4, 0.0, 30.0], rng.normal(scale=2.0, size=shape))
    return x, (log_mean, other, log_size, logits)


def poisson_nll(x, log_rate):
    return -stats.poisson.logpmf(x, np.exp(log_rate))


def negative_binomial_nll(x, log_mean, log_size):
    """The closed form, because scipy's nbinom loses four digits here (test_counts.py compares both)."""
    s, excess = np.exp(log_size), log_mean - log_size
    coefficient = np.log(special.factorial(x) / special.poch(s, x))
    return coefficient - s * special.log_expit(-excess) - x * special.log_expit(excess)


def zinb_nll(x, log_mean, log_size, logits):
    n = negative_binomial_nll(x, log_mean, log_size)
    lost = special.expit(-logits) * -special.expm1(-n)  # 1 - p(0)
    far = np.log(special.expit(logits) + special.expit(-logits) * np.exp(-n))
    zero = np.where(lost < 0.5, np.log1p(-np.minimum(lost, 0.5)), far)
    return -np.where(x == 0, zero, special.log_expit(-logits) - n)


def mixture_nll(x, log_mean, other_log_mean, log_size, logits):
    """Where both components together are close to 1, 1 - p is the sum of what both lack."""
    first, other = (negative_binomial_nll(x, mean, log_size) for mean in (log_mean, other_log_mean))
    lost = special.expit(logits) * -special.expm1(-first) + special.expit(-logits) * -special.expm1(-other)
    far = np.logaddexp(special.log_expit(logits) - first, special.log_expit(-logits) - other)
    return -np.where(lost < 0.5, np.log1p(-np.minimum(lost, 0.5)), far)


def laplace_nll(x, loc, logscale):
    """The generalized normal with exponent 1, because scipy's laplace takes the logarithm of a density that
    underflows."""
    return -stats.gennorm.logpdf(x, 1, loc, np.exp(logscale))


@np.vectorize
def continuous_bernoulli_nll(x, logits):
    """The density is e^{lx} divided by its integral, with 100 digits."""
    x, logits = mpmath.mpf(x), mpmath.mpf(logits)
    return float((mpmath.log(mpmath.expm1(logits) / logits) if logits else 0) - x * logits)


@np.vectorize
def bernoulli_product_nll(x, *logits):
    """The definition with 100 digits, and with as many more as 1 - q loses."""
    with mpmath.workdps(100 + int(max(0.0, min(logits)) / 2)):
        q = mpmath.fprod(1 / (1 + mpmath.exp(-mpmath.mpf(t))) for t in logits)
        return float(-mpmath.mpf(x) * mpmath.log(q) - (1 - mpmath.mpf(x)) * mpmath.log1p(-q))


@np.vectorize
def discretized_logistic_nll(x, loc, logscale, levels=256):
    """The definition with 100 digits: the difference of two cdfs, on the side of loc where both are small."""
    x, inverse, half = mpmath.mpf(x), mpmath.exp(-mpmath.mpf(logscale)), mpmath.mpf(1) / (2 * (int(levels) - 1))
    residual = x - mpmath.mpf(loc)
    if x < half:
        return float(mpmath.log1p(mpmath.exp(-(residual + half) * inverse)))
    if x > 1 - half:
        return float(mpmath.log1p(mpmath.exp((residual - half) * inverse)))
    upper, lower = (1 / (1 + mpmath.exp((abs(residual) + t) * inverse)) for t in (-half, half))
    return float(-mpmath.log(upper - lower))


ORACLES = {
    "bernoulli": {"nll": bernoulli_nll, "sample_params": bernoulli_params},
    "gaussian": {"nll": gaussian_nll, "sample_params": gaussian_params},
    "poisson": {"nll": poisson_nll, "sample_params": poisson_params},
    "negative_binomial": {"nll": negative_binomial_nll, "sample_params": negative_binomial_params},
    "zinb": {"nll": zinb_nll, "sample_params": zinb_params},
    "laplace": {"nll": laplace_nll, "sample_params": laplace_params},
    "continuous_bernoulli": {"nll": continuous_bernoulli_nll, "sample_params": continuous_bernoulli_params},
    "discretized_logistic": {"nll": discretized_logistic_nll, "sample_params": discretized_logistic_params},
    "bernoulli_product": {"nll": bernoulli_product_nll, "sample_params": bernoulli_product_params},
    "negative_binomial_mixture": {"nll": mixture_nll, "sample_params": mixture_params},
}


def categorical_nll(x, logits):
    """The nll of each position; x [B, ...] has integers, and logits are [B, K, ...]."""
    return special.logsumexp(logits, 1) - np.take_along_axis(logits, x[:, None], 1)[:, 0]


# the likelihoods over levels: nll(x, logits), [B, ...]; logits have one dimension more than x
LEVELS = {
    "categorical": categorical_nll,
}


def multinomial_nll(x, logits):
    """The nll of each sample; x has integers."""
    x, logits = x.reshape(len(x), -1), logits.reshape(len(logits), -1)
    return -stats.multinomial.logpmf(x, x.sum(1), special.softmax(logits, 1))


# the likelihoods of the row kind: nll(x, logits), [B]
ROWS = {
    "multinomial": multinomial_nll,
}


def discretized_logistic_mixture_nll(x, packed, levels=256, x_range=(0, 1)):
    """The nll of each pixel by the definition with 100 digits; x [N, C] are values, and packed is [N, 3 K or 10 K]."""
    return np.array([float(_pixel_nll(*pixel, levels, x_range)) for pixel in zip(x, packed, strict=True)])


def _pixel_nll(x, packed, levels, x_range):
    """A chain of masses for each component. Each mass is the difference of the cdfs at both ends of a bin."""
    x, packed, (low, high) = [*map(mpmath.mpf, x)], [*map(mpmath.mpf, packed)], map(mpmath.mpf, x_range)
    channels, bin_width = len(x), (high - low) / (levels - 1)
    each = 1 if channels == 1 else 3
    k = len(packed) // (3 if each == 1 else 10)
    kinds = 2 if each == 1 else 3
    weights = [mpmath.exp(a) for a in packed[:k]]
    total = mpmath.mpf(0)
    for i, weight in enumerate(weights):
        number = lambda channel, kind, i=i: packed[k * (1 + channel * kinds + kind) + i]  # noqa: E731
        joint = weight / mpmath.fsum(weights)
        for channel in range(channels):
            loc = number(channel, 0)
            if channel == 1:
                loc += mpmath.tanh(number(0, 2)) * x[0]
            if channel == 2:
                loc += mpmath.tanh(number(1, 2)) * x[0] + mpmath.tanh(number(2, 2)) * x[1]
            # the cdf of the logistic, or the same of its mirror image: on the side of loc where both cdfs are small
            side, scale = -1 if x[channel] > loc else 1, mpmath.exp(number(channel, 1))
            ends = [x[channel] - bin_width / 2, x[channel] + bin_width / 2]
            ends = [-mpmath.inf if ends[0] < low else ends[0], mpmath.inf if ends[1] > high else ends[1]]
            cdfs = [1 / (1 + mpmath.exp(-side * (end - loc) / scale)) for end in ends]
            joint *= side * (cdfs[1] - cdfs[0])
        total += joint
    return -mpmath.log(total)


# the likelihoods of the pixel kind: nll(x, packed), [N]
PIXELS = {
    "discretized_logistic_mixture": discretized_logistic_mixture_nll,
}


@np.vectorize
def gaussian_kl(mu, logvar, prior_mu=0.0, prior_logvar=0.0):
    """KL( N(mu, e^logvar) || N(prior_mu, e^prior_logvar) ) in closed form with 100 digits; the arguments broadcast."""
    mu, logvar, prior_mu, prior_logvar = map(mpmath.mpf, (mu, logvar, prior_mu, prior_logvar))
    t = logvar - prior_logvar
    return float(((mu - prior_mu) ** 2 * mpmath.exp(-prior_logvar) + mpmath.exp(t) - 1 - t) / 2)


def integrated_kl(mu, logvar, prior_mu, prior_logvar):
    """The same KL of scalars by its definition, the integral of q log(q / p). This shares no algebra with the closed
    form."""
    sd, prior_sd = mpmath.exp(mpmath.mpf(logvar) / 2), mpmath.exp(mpmath.mpf(prior_logvar) / 2)

    def integrand(z):
        q, p = mpmath.npdf(z, mu, sd), mpmath.npdf(z, prior_mu, prior_sd)
        return q * mpmath.log(q / p)

    return float(mpmath.quad(integrand, [mu + k * sd for k in range(-16, 17, 4)]))
