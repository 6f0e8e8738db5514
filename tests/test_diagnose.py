"""vk.diagnose judges models whose optimum is known exactly: linear VAEs are probabilistic PCA.

At noise s2 the decoder W = U (eigenvalues - s2)^(1/2) with the posterior N(M^-1 W^T x, s2 M^-1), M = W^T W + s2 I, is
the optimum (Tipping & Bishop 1999, equation 7; Lucas et al. 2019, arXiv:1911.02469). With beta, or with a variance
fixed too large, it is that of the noise beta * variance: an illness has its exact model, and nothing is trained here.
"""

import math

import pytest
import torch
from torch import nn

import vae_kernels as vk
from vae_kernels.diagnose.measures import aggregate_kl, mutual_information

D, L, N = 12, 3, 1024
EIGENVALUES, NOISE = torch.tensor([3.0, 1.5, 0.8]), 0.1
F64 = torch.float64


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def axes():
    return torch.linalg.qr(torch.randn(D, L, generator=torch.Generator().manual_seed(3)))[0]


def data():
    z = torch.randn(N, L) * (EIGENVALUES - NOISE).sqrt()
    return z @ axes().T + NOISE**0.5 * torch.randn(N, D)


def ppca(noise, variance, beta=1.0):
    """The VAE that is the optimum at this noise, which says of itself that it has this variance and this beta."""
    scale = (EIGENVALUES - noise).clamp(min=0).sqrt()
    m = scale**2 + noise
    encoder, decoder = nn.Linear(D, 2 * L), nn.Linear(L, D)
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.weight[:L] = (scale / m)[:, None] * axes().T
        encoder.bias.copy_(torch.cat([torch.zeros(L), torch.log(noise / m)]))
        decoder.weight.copy_(axes() * scale)
        decoder.bias.zero_()
    options = {"likelihood": "gaussian", "obs_logvar": math.log(variance), "beta": beta}
    return vk.VAE(encoder, decoder, latent_shape=L, **options)


def levels(model, **options):
    return {verdict.symptom: verdict.level for verdict in vk.diagnose(model, data(), **options).verdicts}


def test_the_healthy_model():
    found = vk.diagnose(ppca(NOISE, NOISE), data())
    assert found.level == "healthy", found
    m = found.measures
    assert m.active_units == L and m.beta == 1
    # I(x; z) of the model: 1/2 sum log(eigenvalue / noise); the estimate from N samples falls short of it
    truth = 0.5 * torch.log(EIGENVALUES / NOISE).sum().item()
    assert m.kl == pytest.approx(truth, rel=0.05) and truth - 0.5 < m.information < truth + 3 * m.error
    # decoded and encoded again, z comes back as (1 - noise / eigenvalue) z: it is missed by noise / eigenvalue sigmas^2
    trip = (NOISE / EIGENVALUES).mean().item()
    assert (m.round_trip_prior, m.round_trip_data) == pytest.approx((trip, trip), rel=0.1)
    elbo = -torch.distributions.MultivariateNormal(
        torch.zeros(D), axes() @ torch.diag(EIGENVALUES - NOISE) @ axes().T + NOISE * torch.eye(D)
    ).log_prob(data())  # the ELBO of the optimum is log p(x) itself
    torch.manual_seed(0)
    assert m.nll + m.kl == pytest.approx(elbo.mean().item(), abs=0.2)


def test_a_beta_that_is_too_high_collapses():
    beta = 40.0  # beta * noise = 4, above every eigenvalue
    found = vk.diagnose(ppca(beta * NOISE, NOISE, beta), data())
    assert found["posterior collapse"].level == found["effective beta"].level == "ill"
    assert "lower beta" in found["posterior collapse"].advice and found.measures.active_units == 0
    assert found["rate and distortion"].level == "ill"


def test_a_beta_that_is_too_low():
    found = vk.diagnose(ppca(0.01 * NOISE, NOISE, beta=0.01), data())
    assert found["effective beta"].level == "ill" and "0.01 times" in found["effective beta"].cause
    assert found["posterior collapse"].level == "healthy"  # a linear model has no holes, as its optimum has the prior's


def test_the_aggregate_posterior_away_from_the_prior_is_a_hole():
    model = ppca(NOISE, NOISE)
    with torch.no_grad():  # z in other units: the same reconstructions, another aggregate posterior
        model.encoder.weight[:L] *= 8
        model.encoder.bias[L:] += 2 * math.log(8)
        model.decoder.weight /= 8
    found = vk.diagnose(model, data())
    assert found["holes in the latent space"].level == "ill" and found["posterior collapse"].level == "healthy"
    assert found.measures.aggregate_kl == pytest.approx(L * 0.5 * (64 - 1 - math.log(64)), rel=0.1)


def test_a_variance_fixed_too_large():
    found = vk.diagnose(ppca(1.0, 1.0), data())  # ten times the noise of the data; one of three latents is lost
    assert found["variance of the likelihood"].level in ("watch", "ill") and "too large" in str(found)
    assert found["variance of the likelihood"].advice.startswith("fit the variance")
    assert found.measures.active_units < L
    assert levels(ppca(NOISE, NOISE / 100))["variance of the likelihood"] == "ill"  # and too small


def test_a_decoder_that_ignores_z_is_not_told_to_lower_beta():
    model = ppca(NOISE, NOISE)
    with torch.no_grad():
        model.encoder.weight.zero_()
        model.encoder.bias.zero_()
        model.decoder.weight.zero_()
        model.obs_logvar = math.log(data().var().item())  # what fits without z
    verdict = vk.diagnose(model, data())["posterior collapse"]
    assert verdict.level == "ill" and "does without z" in verdict.cause and "free_bits" in verdict.advice


def test_blur_is_lost_energy_of_differences():
    class Model(nn.Module):
        def forward(self, z):
            return self.weight * X

    weight, X = 1.0, torch.rand(64, 1, 6, 6)
    for weight, level in ((0.6, "healthy"), (0.4, "watch"), (0.1, "ill")):
        model = vk.VAE(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), Model(), likelihood="gaussian", latent_shape=2)
        model.decoder.weight = weight
        found = vk.diagnose(model, X, batch_size=64)
        assert found["blur"].level == level
        assert found.measures.detail == pytest.approx(weight**2, rel=1e-5)


def test_mutual_information_of_points_that_are_told_apart_is_log_n():
    mu = torch.arange(50, dtype=F64).view(-1, 1) * 100
    zero = torch.zeros(50, 1, dtype=F64)
    assert mutual_information(mu, zero, mu)[0] == pytest.approx(math.log(50))
    assert mutual_information(zero, zero, torch.randn(50, 1, dtype=F64)) == pytest.approx((0, 0), abs=1e-12)


def test_mutual_information_is_the_average_of_densities():
    mu, logvar, z = torch.randn(3, 20, 4, dtype=F64).unbind()
    normal = torch.distributions.Normal(mu, (logvar / 2).exp())
    log_q = normal.log_prob(z[:, None]).sum(2)  # [z, x]
    each = log_q.diagonal() - (log_q.exp().mean(1)).log()
    information, error = mutual_information(mu, logvar, z)
    assert information == pytest.approx(each.mean().item()) and error == pytest.approx(each.std().item() / 20**0.5)


def test_the_aggregate_kl_is_that_of_its_gaussian():
    mu, logvar = torch.randn(2, 200, 3, dtype=F64).unbind()
    covariance = torch.cov(mu.T, correction=0) + torch.diag(logvar.exp().mean(0))
    q = torch.distributions.MultivariateNormal(mu.mean(0), covariance)
    p = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64))
    assert aggregate_kl(mu, logvar) == pytest.approx(torch.distributions.kl_divergence(q, p).item())


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "discretized_logistic", "categorical"])
def test_other_likelihoods_uint8_and_a_trained_prior(likelihood):
    prior = nn.Parameter(torch.full((2,), 0.3)), nn.Parameter(torch.full((2,), 0.7))
    outputs = 2 if likelihood == "discretized_logistic" else 1
    if likelihood == "categorical":
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
        decoder = nn.Sequential(nn.Linear(2, 5 * 16), nn.Unflatten(1, (5, 1, 4, 4)))
        model = vk.VAE(encoder, decoder, likelihood=likelihood, prior=prior, latent_shape=2)
    else:
        model = vk.mlp_vae((1, 4, 4), 2, (8,), likelihood, outputs=outputs, prior=prior)
    most = 5 if likelihood in ("poisson", "categorical") else 256
    x = torch.randint(0, most, (40, 1, 4, 4), dtype=torch.uint8)
    before = torch.get_rng_state()
    model.train()
    found = vk.diagnose(model, x)
    assert model.training and torch.equal(torch.get_rng_state(), before)
    assert found.measures.square_ratio is None and math.isfinite(found.measures.aggregate_kl)
    mu, logvar = model.encode(x)
    assert found.measures.kl == pytest.approx(vk.gaussian_kl(mu, logvar, prior=prior).mean().item(), rel=1e-5)
    assert found.measures.kl_per_dim.sum().item() == pytest.approx(found.measures.kl, rel=1e-5)


def test_priors_as_modules():
    pair = (nn.Parameter(torch.tensor([0.3, -0.2, 0.1])), nn.Parameter(torch.tensor([0.5, 0.0, -0.5])))
    module = vk.priors.DiagonalGaussian(L)
    with torch.no_grad():
        for own, given in zip(module.moments(), pair, strict=True):
            own.copy_(given)
    one, other = (vk.mlp_vae((D,), L, (8,), "gaussian", prior=prior) for prior in (pair, module))
    other.encoder.load_state_dict(one.encoder.state_dict())
    other.decoder.load_state_dict(one.decoder.state_dict())
    x = data()
    assert vk.diagnose(one, x).measures.aggregate_kl == vk.diagnose(other, x).measures.aggregate_kl
    assert str(vk.diagnose(one, x)) == str(vk.diagnose(other, x))


def mixture_model():
    return vk.mlp_vae((D,), L, (8,), "gaussian", prior=vk.priors.MixtureOfGaussians(4, L))


ERRORS = [
    (lambda: vk.diagnose(nn.Linear(2, 2), data()), TypeError, "model: got Linear"),
    (
        lambda: vk.diagnose(vk.mlp_vae((D,), L, prior=vk.priors.MixtureOfGaussians(L, 4)), data()),
        ValueError,
        "its prior is",
    ),
    (lambda: vk.diagnose(ppca(NOISE, NOISE), [1.0]), TypeError, "data: got list"),
    (lambda: vk.diagnose(ppca(NOISE, NOISE), data()[:1]), ValueError, "data: got shape"),
    (lambda: vk.diagnose(ppca(NOISE, NOISE), data(), samples=1), ValueError, "samples: got 1"),
]


@pytest.mark.parametrize("call, error, message", ERRORS)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
