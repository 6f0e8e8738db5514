"""A model against the data's own mean, train against held-out data, and a loss that still falls."""

import math
from dataclasses import replace
from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from test_diagnose import NOISE, D, L, data, ppca
from torch import nn

import vae_kernels as vk
from vae_kernels.doctor import first
from vae_kernels.doctor.baseline import baseline
from vae_kernels.doctor.first import Losses
from vae_kernels.doctor.measures import LogP, Measures
from vae_kernels.doctor.verdicts import verdicts

N = 400
diagnose = partial(vk.diagnose, log_p=None)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


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


# ---------------------------------------------------------------- a loss that falls, and an overfit


def known(base):
    """The nll of the trivial model, which differs by 60 nats between the samples."""
    return torch.tensor([base - 60, base + 60] * 5)


def level_of(history, base=200.0):
    verdict = first.converged(Losses(None, None, known(base), tuple(history)))
    return verdict and verdict.level


def decay(epochs, to, start, rate):
    """A loss that approaches `to`."""
    return [to + (start - to) * math.exp(-rate * i) for i in range(epochs)]


def test_a_loss_that_still_falls():
    assert level_of([300, 200]) is None and level_of([300.0, math.nan, 200.0]) == "watch"
    levels = [level_of(decay(n, 100, 540, 0.2)) for n in range(3, 80)]
    assert levels == sorted(levels, key=("ill", "watch", "healthy").index) and len(set(levels)) == 3
    assert levels[12 - 3] == "ill" and levels[40 - 3] == "healthy"
    assert level_of([3e2, 2e2, 1e2], 400.0) == "ill" and level_of([1e2, 2e2, 3e2], 400.0) == "healthy"
    # a collapsed model gains nothing over the mean, and its loss moves by noise
    assert level_of([540.0, 230, 200.4, 200.1, 200.3, 199.9, 200.0, 199.8, 199.9]) == "healthy"
    noise = torch.randn(200, generator=torch.Generator().manual_seed(1)).tolist()
    assert {level_of([200.0 + v for v in noise[i : i + 20]]) for i in range(0, 180, 20)} == {"healthy"}
    # the loss of the case that gains one nat over the mean, and falls by ten in four epochs
    slow = [419.4, 309.4, 264.7, 242.9, 232.8, 228.3, 222.9, 220.8, 218.9, 216.0, 213.5, 210.9]
    assert level_of(slow, 212.0) == "ill"
    # a density has no zero: the scale is what the model gains, not the size of the loss
    assert [level_of([v - 1e4 for v in decay(n, 100, 540, 0.2)], 200.0 - 1e4) for n in (12, 60)] == ["ill", "healthy"]


def test_while_the_loss_falls_nothing_else_is_advised():
    model, x = ppca(40.0 * NOISE, NOISE, beta=40.0), data()
    before, falls = diagnose(model, x), diagnose(model, x, history=decay(6, 0, 50, 0.2))
    assert falls["not converged"].advice == "train longer, before anything else"
    for verdict in falls.verdicts:
        settled = verdict.level == "healthy" or verdict.symptom in ("not converged", "effective beta", "data")
        assert settled or verdict.advice.startswith("train longer first"), verdict
    assert falls["posterior collapse"].level == before["posterior collapse"].level == "ill"
    assert falls.change == falls["effective beta"].change != {}  # beta was set, and no epoch changes it


def overfit(held_out, train=None, history=(), base=200.0, spread=1.0):
    def values(mean):
        return None if mean is None else torch.tensor([mean - spread, mean + spread] * 200)

    return first.overfit(Losses(values(held_out), values(train), known(base), tuple(history)))


def test_train_against_held_out():
    assert overfit(108.9) is None
    found = overfit(108.9, 103.0)
    assert found.level == "watch" and "103.00 nats on train data and 108.90 on held-out data: +5.90" in found.evidence
    assert overfit(104.0, 103.0).level == overfit(100.0, 103.0).level == "healthy"
    assert overfit(160.0, 103.0).level == "ill"
    assert overfit(160.0, 103.0, spread=1000.0).level == "healthy"  # the difference is less than its error
    assert overfit(-9840.0, -9897.0, base=-9800.0).level == "ill"
    rose = overfit(150.0, history=[190.0, 140.0, 120.0, 130.0, 150.0])
    assert rose.level == "ill" and "was 120.00 after epoch 3 and has risen by 30.00" in rose.evidence
    assert overfit(120.0, history=[190.0, 140.0, 120.0]).level == "healthy"
    assert overfit(124.0, history=[190.0, 120.0, 124.0]).level == "watch"


def test_diagnose_compares_train_and_held_out_data():
    """Train data at half their distance to the mean have a lower loss, as data that are known by heart."""
    model, x = ppca(NOISE, NOISE), data()
    found = diagnose(model, x[:500], train=x[500:])["overfit"]
    assert found.level == "healthy"
    near = 0.5 * x[500:]
    found = diagnose(model, x[:500], train=near)["overfit"]
    losses = [model.loss(part, reduction="none").mean().item() for part in (near, x[:500])]
    assert found.level != "healthy" and "more data" in found.advice
    gap = float(found.evidence.split(": ")[1].split()[0])
    assert gap == pytest.approx(losses[1] - losses[0], abs=0.5)  # other noise


def test_train_data_at_which_the_model_is_not_finite():
    model, x = ppca(NOISE, NOISE), data()
    huge = torch.full_like(x, 1e30)
    found = diagnose(model, x, train=huge)
    assert not found.finite and found["not finite"].evidence.startswith("on the train data the KL of sample 0 is inf")


# ---------------------------------------------------------------- no advice contradicts another


def measured():
    """Measures on which every verdict has an advice."""
    m = diagnose(ppca(NOISE, NOISE), data()).measures
    assert isinstance(m, Measures) and not isinstance(m.log_p, LogP)
    return replace(
        m, hole_share=0.99, information=0.1, error=0.0, active_units=1, detail=0.01, sharpness=0.5, square_ratio=30.0
    )


def test_no_advice_contradicts_another_or_asks_for_what_is_there():
    base = measured()
    grid = product((0.01, 0.3, 1.0, 3.0, 100.0, None), (True, False), (0.01, 30.0), (True, False), (True, False))
    for beta, fixed, ratio, free_bits, trained_prior in grid:
        of = {"beta": beta, "fixed_variance": fixed, "square_ratio": ratio}
        found = verdicts(replace(base, **of, free_bits=free_bits, trained_prior=trained_prior))
        advice = " | ".join(v.advice for v in found)
        changes = [v.change for v in found]
        assert not ("lower beta" in advice and "raise beta" in advice), (of, advice)
        assert beta is None or beta >= 1 or "lower beta" not in advice
        assert beta is None or beta <= 1 or "raise beta" not in advice
        assert fixed or ("fit the variance" not in advice and not any("obs_logvar" in c for c in changes)), (of, advice)
        assert not free_bits or ("free_bits" not in advice and not any("free_bits" in c for c in changes))
        assert not trained_prior or "train the prior" not in advice
        for a, b in product(changes, changes):
            assert all(a[key] is b[key] or key == "obs_logvar" or a[key] == b[key] for key in a.keys() & b.keys())


class Both(nn.Module):
    def forward(self, h):
        return h, torch.full_like(h, 3.0)


def test_a_variance_from_the_decoder_is_not_to_be_fitted():
    model = vk.VAE(ppca(NOISE, NOISE).encoder, nn.Sequential(nn.Linear(L, D), Both()), likelihood="gaussian")
    verdict = diagnose(model, data())["variance of the likelihood"]
    assert verdict.level == "ill" and "trained already" in verdict.advice and verdict.change == {}


ERRORS = [
    ({"train": [1.0]}, TypeError, "train: got list, expected a tensor"),
    ({"train": torch.zeros(5, D + 1)}, ValueError, r"train: got \(5, 13\) torch.float32, expected .* \(12,\)"),
    ({"train": torch.zeros(5, D).double()}, ValueError, r"train: got \(5, 12\) torch.float64"),
    ({"train": torch.zeros(1, D)}, ValueError, "at least two samples"),
    ({"train": torch.full((5, D), math.inf)}, ValueError, "train: got 60 elements that are not finite"),
    ({"train": torch.zeros(5, D), "weight": torch.ones(D).bool()}, ValueError, "train: got a tensor beside weight"),
    ({"history": 3.0}, TypeError, "history: got float"),
    ({"history": [1.0, "a"]}, TypeError, "history: got str in it"),
]


@pytest.mark.parametrize("arguments, error, message", ERRORS)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        diagnose(ppca(NOISE, NOISE), data(), **arguments)
