"""A model against the data's own mean."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from test_diagnose import NOISE, D, data, ppca
from torch import nn

import vae_kernels as vk
from vae_kernels.doctor.baseline import baseline

N = 400
diagnose = partial(vk.diagnose, log_p=None)


pytestmark = pytest.mark.usefixtures("seeded")


def model(likelihood, obs_logvar=None):
    """What baseline() reads of a VAE."""
    return SimpleNamespace(likelihood=likelihood, obs_logvar=obs_logvar)


# ---------------------------------------------------------------- the trivial model


def smooth(x):
    """The mean of each feature, with one more sample that has the mean of all features."""
    return (x.sum(0) + x.mean()) / (len(x) + 1)


def binary():
    x = (torch.rand(N, 5) < torch.tensor([0.0, 0.1, 0.5, 0.9, 0.99])).double()
    return x, scipy.stats.bernoulli(smooth(x)).logpmf(x), {}


def rates():
    x = torch.poisson(torch.tensor([0.01, 0.5, 3.0, 40.0]).expand(N, 4).double())
    return x, scipy.stats.poisson(smooth(x)).logpmf(x), {}


def fixed_variance():
    x = torch.randn(N, 4).double() * torch.tensor([1.0, 2.0, 0.1, 0.0]) + 3
    return x, scipy.stats.norm(smooth(x), math.sqrt(0.5)).logpdf(x), {"obs_logvar": math.log(0.5)}


def unit_variance():
    x = torch.randn(N, 4).double()
    return x, scipy.stats.norm(smooth(x), 1.0).logpdf(x), {}


def one_trained_variance():
    x = torch.randn(N, 4).double() * torch.tensor([1.0, 2.0, 0.1, 0.0]) + 3
    scale = (x - smooth(x)).square().mean().sqrt()
    return x, scipy.stats.norm(smooth(x), scale).logpdf(x), {"obs_logvar": nn.Parameter(torch.zeros(()))}


def a_variance_each():
    x = torch.randn(N, 4).double() * torch.tensor([1.0, 2.0, 0.1, 30.0]) + 3
    scale = (x - smooth(x)).square().mean(0).sqrt()
    return x, scipy.stats.norm(smooth(x), scale).logpdf(x), {"obs_logvar": nn.Parameter(torch.zeros(4))}


def variance_of_the_decoder():
    x, expected, _ = a_variance_each()
    return x, expected, {"given": ("loc", "logvar")}


def dispersed():
    x = torch.from_numpy(np.random.default_rng(0).negative_binomial(2.0, 0.2, (N, 3)).astype("f8"))
    mean, variance = smooth(x), (x - smooth(x)).square().mean(0)
    theta = mean**2 / (variance - mean)
    return x, scipy.stats.nbinom(theta, theta / (theta + mean)).logpmf(x), {}


def levels():
    x = torch.multinomial(torch.tensor([0.1, 0.2, 0.7, 0.0]), N * 3, replacement=True).view(N, 3)
    counts = torch.stack([x == k for k in range(4)]).double().sum(1) + 0.25
    return x, (counts / counts.sum(0)).log().gather(0, x), {"levels": 4}


CLOSED = {
    "bernoulli": [binary],
    "poisson": [rates],
    "gaussian": [fixed_variance, unit_variance, one_trained_variance, a_variance_each, variance_of_the_decoder],
    "negative_binomial": [dispersed],
    "zinb": [dispersed],  # without a dropout it is the negative binomial
    "categorical": [levels],
}


@pytest.mark.parametrize("likelihood, made", [(name, made) for name, several in CLOSED.items() for made in several])
def test_the_mean_of_the_data_against_scipy(likelihood, made):
    x, expected, options = made()
    options = dict(options)
    found = baseline(model(likelihood, options.pop("obs_logvar", None)), x, **options)
    torch.testing.assert_close(found, -torch.as_tensor(expected).sum(1), rtol=1e-5, atol=1e-4)


def test_a_family_of_one_parameter_has_the_mean_of_the_data():
    """The continuous Bernoulli's mean is no sigmoid: scipy's mean of its density at the parameter that was found."""
    x = torch.rand(N, 2).double() ** 3
    found = baseline(model("continuous_bernoulli"), x).mean().item()

    def nll(logit):  # of e^{logit x} / (integral over [0, 1])
        return math.log(math.expm1(logit) / logit) - logit * x.mean(0)

    logits = torch.linspace(-12, -0.01, 4000, dtype=torch.float64).tolist()
    best = torch.stack([nll(v) for v in logits]).min(0).values.sum().item()
    assert best - 1e-6 <= found <= best + 1e-3  # baseline() computes in float64 only where x is


@pytest.mark.parametrize("likelihood", ["laplace", "discretized_logistic"])
def test_a_scale_is_close_to_the_best(likelihood):
    """Against the best of many constants: the trivial model may be weaker, by less than 0.05 nats a feature."""
    x = torch.from_numpy(np.random.default_rng(0).laplace(0.5, 0.05, (N, 2))).clamp(0, 1)
    options = {"given": ("loc", "logscale")}
    found = baseline(model(likelihood), x, **options).mean().item()
    loc = x.median(0).values
    scales = torch.linspace(-6, 0, 200, dtype=torch.float64)
    nlls = [vk.nll((loc.expand_as(x), s.expand_as(x)), x, likelihood=likelihood).mean().item() for s in scales]
    assert min(nlls) - 1e-6 <= found <= min(nlls) + 0.1


def test_a_mask_and_the_means_of_other_data():
    x, mask = binary()[0], torch.rand(N, 5) > 0.3
    shown = torch.where(mask, x, 0.0)
    mean = (shown.sum(0) + shown.sum() / mask.sum()) / (mask.sum(0) + 1)
    expected = torch.from_numpy(scipy.stats.bernoulli(mean).logpmf(x))
    found = baseline(model("bernoulli"), shown, weight=mask)
    torch.testing.assert_close(found, -torch.where(mask, expected, 0.0).sum(1), rtol=1e-5, atol=1e-4)
    other = 1 - x[:50]
    expected = torch.from_numpy(scipy.stats.bernoulli(smooth(other)).logpmf(x))
    torch.testing.assert_close(baseline(model("bernoulli"), x, other), -expected.sum(1), rtol=1e-5, atol=1e-4)


def test_bytes_are_the_data_that_they_are_read_as():
    x = torch.randint(0, 256, (N, 5), dtype=torch.uint8)
    same = baseline(model("bernoulli"), x / 255)
    torch.testing.assert_close(baseline(model("bernoulli"), x), same, rtol=1e-5, atol=1e-4)


def test_a_parameter_that_has_no_constant():
    assert baseline(model("categorical"), torch.zeros(3, 4).long()) is None  # the number of levels is not known


# ---------------------------------------------------------------- the model against the trivial model


def test_a_model_that_is_no_better_than_the_mean_is_not_healthy():
    model, x = ppca(NOISE, NOISE), data()
    healthy = diagnose(model, x)["no better than the mean"]
    # with the variance 0.1 the mean alone costs (trace of the covariance) / (2 * 0.1) nats
    variance = x.var(0, correction=0).sum().item()
    known = 0.5 * (variance / NOISE + D * math.log(2 * math.pi * NOISE))
    assert healthy.level == "healthy" and f"has {known:.1f}" in healthy.evidence
    with torch.no_grad():
        for t in model.parameters():
            t.zero_()  # the posterior is the prior, and the mean is 0: this is the trivial model
    assert diagnose(model, x)["no better than the mean"].level in ("watch", "ill")
    model.decoder.bias.data.fill_(1.0)
    found = diagnose(model, x)
    assert found["no better than the mean"].level == found.level == "ill"


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "laplace", "zinb"])
def test_an_untrained_model_is_no_better_than_the_mean(likelihood):
    x = (torch.rand(200, 30) < 0.05).float()
    model = vk.mlp_vae((30,), 3, (16,), likelihood, outputs=3 if likelihood == "zinb" else 1)
    assert diagnose(model, x)["no better than the mean"].level == "ill"
