"""The objective as other code writes it: each formula as in its source, in the best form that PyTorch offers.

A rival is a function (x, *params) -> -log p(x | params) in nats, summed over everything. torch.compile gets the first
rival of a likelihood. A likelihood without an entry competes with its own formula in plain PyTorch.
"""

import importlib.util
import math

import torch
import torch.nn.functional as F

from .. import functional
from ..formulas import ALL
from . import pixels

LOG_2PI = math.log(2 * math.pi)


def bce_with_logits(x, logits):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum")


def sigmoid_bce(x, logits):
    """pytorch/examples, vae/main.py: the decoder ends in a sigmoid."""
    return F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")


def product_bce(x, logits, sample_logits, feature_logits):
    """The loss of PeakVI (Ashuach et al. 2022) in scvi-tools: three sigmoids, and the entropy of their product."""
    p = torch.sigmoid(logits) * torch.sigmoid(sample_logits) * torch.sigmoid(feature_logits)
    return F.binary_cross_entropy(p, x, reduction="sum")


def mse_loss(x, loc):
    return 0.5 * F.mse_loss(loc, x, reduction="sum") + 0.5 * LOG_2PI * x.numel()


def gaussian_nll_loss(x, loc, logvar=None):
    var = 1.0 if logvar is None else logvar.exp()
    return F.gaussian_nll_loss(loc, x, var, full=True, reduction="sum")


def gaussian_formula(x, loc, logvar):
    return 0.5 * ((x - loc).square() * torch.exp(-logvar) + logvar + LOG_2PI).sum()


def l1_loss(x, loc):
    return F.l1_loss(loc, x, reduction="sum") + math.log(2) * x.numel()


def laplace_formula(x, loc, logscale):
    return ((x - loc).abs() * torch.exp(-logscale) + logscale + math.log(2)).sum()


def continuous_bernoulli(x, logits):
    """Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845. The series near 1/2 is that of the authors' code."""
    p = torch.sigmoid(logits)
    middle = (p - 0.5).abs() < 0.02
    q = torch.where(middle, torch.full_like(p, 0.3), p)
    log_c = torch.log(2 * torch.atanh(1 - 2 * q) / (1 - 2 * q))
    d = (p - 0.5).square()
    return bce_with_logits(x, logits) - torch.where(middle, math.log(2) + (4 / 3 + 104 / 45 * d) * d, log_c).sum()


def discretized_logistic(x, loc, logscale):
    """Salimans et al. 2017, PixelCNN++, arXiv:1701.05517, section 2.1, as in the authors' code, for x = k / 255."""
    centred, inverse = x - loc, torch.exp(-logscale)
    plus, minus, mid = inverse * (centred + 1 / 510), inverse * (centred - 1 / 510), inverse * centred
    mass = torch.sigmoid(plus) - torch.sigmoid(minus)
    density = mid - logscale - 2 * F.softplus(mid) - math.log(255)
    inner = torch.where(mass > 1e-5, torch.log(mass.clamp(min=1e-12)), density)
    log_p = torch.where(x > 0.999, -F.softplus(minus), inner)
    return -torch.where(x < 0.001, F.logsigmoid(plus), log_p).sum()


def cross_entropy(x, logits):
    return F.cross_entropy(logits, x.long(), reduction="sum")


def poisson(x, log_rate):
    return F.poisson_nll_loss(log_rate, x, reduction="sum") + torch.lgamma(x + 1).sum()


def _log_negative_binomial(x, log_mean, log_theta):
    theta, log_total = log_theta.exp(), torch.logaddexp(log_theta, log_mean)
    count = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    return count + theta * (log_theta - log_total) + x * (log_mean - log_total)


def negative_binomial(x, log_mean, log_theta):
    return -_log_negative_binomial(x, log_mean, log_theta).sum()


def zinb(x, log_mean, log_theta, logits):
    return zinb_of_each(x, log_mean, log_theta, logits).sum()


def zinb_of_each(x, log_mean, log_theta, logits):
    log_p = _log_negative_binomial(x, log_mean, log_theta)
    rest = F.logsigmoid(-logits)
    return -torch.where(x == 0, torch.logaddexp(F.logsigmoid(logits), rest + log_p), rest + log_p)


def negative_binomial_mixture(x, log_mean, other_log_mean, log_theta, logits):
    """One count of Gamma functions for both components."""
    theta = log_theta.exp()
    totals = torch.logaddexp(log_theta, log_mean), torch.logaddexp(log_theta, other_log_mean)
    count = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    first = theta * (log_theta - totals[0]) + x * (log_mean - totals[0]) + F.logsigmoid(logits)
    other = theta * (log_theta - totals[1]) + x * (other_log_mean - totals[1]) + F.logsigmoid(-logits)
    return -(count + torch.logaddexp(first, other)).sum()


def scvi_zinb(x, log_mean, log_theta, logits, eps=1e-8):
    """The formula of scvi-tools' log_zinb_positive, with its eps."""
    theta, rate = log_theta.exp(), log_mean.exp()
    softplus = F.softplus(-logits)
    log_total = torch.log(theta + rate + eps)
    part = -logits + theta * (torch.log(theta + eps) - log_total)
    zero = F.softplus(part) - softplus
    count = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    other = part - softplus + x * (torch.log(rate + eps) - log_total) + count
    return -(torch.mul((x < eps).float(), zero) + torch.mul((x > eps).float(), other)).sum()


def multinomial(x, logits):
    """The formula of torch.distributions.Multinomial, without its checks, which need one total for all rows."""
    of_n = torch.lgamma(x.sum(1) + 1) - torch.lgamma(x + 1).sum(1)
    return -(of_n + (x * logits.log_softmax(1)).sum(1)).sum()


def multinomial_cross_entropy(x, logits):
    """F.cross_entropy takes the probabilities of the classes as the target, and does not ask for a sum of 1."""
    of_n = torch.lgamma(x.sum(1) + 1) - torch.lgamma(x + 1).sum(1)
    return F.cross_entropy(logits, x, reduction="sum") - of_n.sum()


RIVALS = {
    ("bernoulli", 1): [bce_with_logits, sigmoid_bce],
    ("bernoulli_product", 3): [product_bce],
    ("gaussian", 1): [mse_loss, gaussian_nll_loss],
    ("gaussian", 2): [gaussian_formula, gaussian_nll_loss],
    ("laplace", 1): [l1_loss],
    ("laplace", 2): [laplace_formula],
    ("continuous_bernoulli", 1): [continuous_bernoulli],
    ("discretized_logistic", 2): [discretized_logistic],
    ("categorical", 1): [cross_entropy],
    ("poisson", 1): [poisson],
    ("negative_binomial", 2): [negative_binomial],
    ("zinb", 3): [zinb, scvi_zinb],
    ("multinomial", 1): [multinomial, multinomial_cross_entropy],
    ("discretized_logistic_mixture", 1): [pixels.discretized_logistic_mixture],
    ("negative_binomial_mixture", 4): [negative_binomial_mixture],
}
"""(likelihood, number of parameters that the decoder gives) -> rivals, the best first."""

DISTRIBUTIONS = {
    ("bernoulli", 1): ("Bernoulli", lambda logits: {"logits": logits}),
    ("gaussian", 1): ("Normal", lambda loc: {"loc": loc, "scale": 1.0}),
    ("gaussian", 2): ("Normal", lambda loc, logvar: {"loc": loc, "scale": torch.exp(0.5 * logvar)}),
    ("laplace", 1): ("Laplace", lambda loc: {"loc": loc, "scale": 1.0}),
    ("laplace", 2): ("Laplace", lambda loc, logscale: {"loc": loc, "scale": logscale.exp()}),
    ("continuous_bernoulli", 1): ("ContinuousBernoulli", lambda logits: {"logits": logits}),
    ("categorical", 1): ("Categorical", lambda logits: {"logits": logits.movedim(1, -1)}),
    ("poisson", 1): ("Poisson", lambda log_rate: {"rate": log_rate.exp()}),
    ("negative_binomial", 2): (
        "NegativeBinomial",
        lambda log_mean, log_theta: {"total_count": log_theta.exp(), "logits": log_mean - log_theta},
    ),
    ("zinb", 3): (
        "ZeroInflatedNegativeBinomial",  # only Pyro has this class
        lambda log_mean, log_theta, logits: {
            "total_count": log_theta.exp(),
            "logits": log_mean - log_theta,
            "gate_logits": logits,
        },
    ),
}
"""The same keys -> (the class in torch.distributions or pyro.distributions, a function that gives its arguments)."""


def plain_formula(likelihood):
    options = {"likelihood": likelihood, "reduction": "sum", "backend": "torch"}
    return lambda x, *params: functional.nll(params[0] if len(params) == 1 else params, x, **options)


def rivals(likelihood, outputs):
    """{name: rival}, the best first."""
    found = RIVALS.get((likelihood, outputs))
    return {f.__name__: f for f in found} if found else {"plain formula": plain_formula(likelihood)}


def kl_by_hand(mu, logvar):
    """The KL of pytorch/examples with the signs changed, which saves autograd one pass."""
    return 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum()


def kl_of_two_by_hand(mu, logvar, prior_mu, prior_logvar):
    """KL( N(mu, exp(logvar)) || N(prior_mu, exp(prior_logvar)) ), as hierarchies of latents write it."""
    ratio = (logvar.exp() + (mu - prior_mu).square()) * torch.exp(-prior_logvar)
    return 0.5 * (prior_logvar - logvar - 1 + ratio).sum()


def sample_by_hand(mu, logvar):
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)


def widened(x, tensors, likelihood):
    """(x, *tensors) in float32, as autocast gives them to a loss. Pixels of uint8 are divided by 255."""
    support = ALL[likelihood].SUPPORT
    if x.dtype == torch.uint8 and support not in ("counts", "levels"):
        x = x.float() / 255
    return x if support == "levels" else x.float(), *(t.float() for t in tensors)


def by_hand(rival, likelihood, sampled):
    """The objective with this rival: (params, x, mu, logvar) -> (loss, z or None)."""

    def objective(params, x, mu, logvar):
        wide_x, wide_mu, wide_logvar, *wide = widened(x, (mu, logvar, *params), likelihood)
        loss = (rival(wide_x, *wide) + kl_by_hand(wide_mu, wide_logvar)) / len(x)
        return loss, sample_by_hand(mu, logvar) if sampled else None

    return objective


def sample_alone(params, x, mu, logvar):
    """The KL and z, by hand."""
    return kl_by_hand(mu.float(), logvar.float()) / len(mu), sample_by_hand(mu, logvar)


def nll_alone(rival, likelihood):
    """The negative log-likelihood with this rival, the mean over the batch."""

    def nll(params, x, mu, logvar):
        wide_x, *wide = widened(x, params, likelihood)
        return rival(wide_x, *wide) / len(x), None

    return nll


def in_distributions(likelihood, outputs):
    """A rival in torch.distributions, without checks of the arguments, which is faster. None if torch.distributions
    lacks the likelihood."""
    name, arguments = DISTRIBUTIONS.get((likelihood, outputs), ("", None))
    found = getattr(torch.distributions, name, None)
    return found and (lambda x, *params: -found(**arguments(*params), validate_args=False).log_prob(x).sum())


def with_distributions(likelihood, outputs, sampled):
    """The objective in torch.distributions. None if torch.distributions lacks the likelihood."""
    d, rival = torch.distributions, in_distributions(likelihood, outputs)
    if rival is None:
        return None

    def objective(params, x, mu, logvar):
        wide_x, wide_mu, wide_logvar, *wide = widened(x, (mu, logvar, *params), likelihood)
        q = d.Normal(wide_mu, torch.exp(0.5 * wide_logvar), validate_args=False)
        kl = d.kl_divergence(q, d.Normal(0.0, 1.0, validate_args=False)).sum()
        return (rival(wide_x, *wide) + kl) / len(x), q.rsample().to(mu.dtype) if sampled else None

    return objective


def with_pyro(likelihood, outputs):
    """The objective by Pyro's TraceMeanField_ELBO. None if Pyro is not installed or lacks the likelihood."""
    if (likelihood, outputs) not in DISTRIBUTIONS or importlib.util.find_spec("pyro") is None:
        return None
    import pyro
    import pyro.distributions as d

    pyro.enable_validation(False)
    name, arguments = DISTRIBUTIONS[likelihood, outputs]
    elbo = pyro.infer.TraceMeanField_ELBO()

    def objective(params, x, mu, logvar):
        wide_x, wide_mu, wide_logvar, *wide = widened(x, (mu, logvar, *params), likelihood)
        drawn = []

        def guide():
            drawn.append(pyro.sample("z", d.Normal(wide_mu, torch.exp(0.5 * wide_logvar)).to_event(2)))

        def model():
            pyro.sample("z", d.Normal(torch.zeros_like(wide_mu), 1.0).to_event(2))
            pyro.sample("x", getattr(d, name)(**arguments(*wide)).to_event(2), obs=wide_x)

        return elbo.differentiable_loss(model, guide) / len(x), drawn[0].to(mu.dtype)

    return objective
