"""vk.diagnose judges models whose optimum is known exactly: linear VAEs are probabilistic PCA.

At noise s2 the decoder W = U (eigenvalues - s2)^(1/2) with the posterior N(M^-1 W^T x, s2 M^-1), M = W^T W + s2 I, is
the optimum (Tipping & Bishop 1999, equation 7; Lucas et al. 2019, arXiv:1911.02469). With beta, or with a variance
fixed too large, it is that of the noise beta * variance: an illness has its exact model, and nothing is trained here.
"""

import math
from functools import partial

import pytest
import torch
from torch import nn

import vae_kernels as vk
from vae_kernels.doctor.estimates import aggregate_kl, hole_share, mutual_information
from vae_kernels.doctor.verdicts import alarm

D, L, N = 12, 3, 1024
EIGENVALUES, NOISE = torch.tensor([3.0, 1.5, 0.8]), 0.1
F64 = torch.float64
diagnose = partial(vk.diagnose, log_p=None)  # which takes most of the time, and has its own test


pytestmark = pytest.mark.usefixtures("seeded")


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
    return {verdict.symptom: verdict.level for verdict in diagnose(model, data(), **options).verdicts}


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
    torch.manual_seed(0)
    x = data()
    assert m.nll + m.kl == pytest.approx(-log_p(x).mean().item(), abs=0.2)  # the ELBO of the optimum is log p(x) itself
    assert found.change == {} and abs(m.log_p.gap) < 4 * m.log_p.gap_error


def log_p(x):
    """The density of probabilistic PCA."""
    covariance = axes() @ torch.diag(EIGENVALUES - NOISE) @ axes().T + NOISE * torch.eye(D)
    return torch.distributions.MultivariateNormal(torch.zeros(D), covariance).log_prob(x)


@pytest.mark.parametrize("wider", [0.0, 1.0])
def test_log_p_and_what_the_elbo_falls_short_of_it(wider):
    """A posterior that is e^wider too wide in each variance: the gap is its KL to the true one, 1/2 (e^w - 1 - w)."""
    model, x = ppca(NOISE, NOISE), data()
    with torch.no_grad():
        model.encoder.bias[L:] += wider
    found = vk.diagnose(model, x, log_p=(N, 100)).measures.log_p
    assert found.value == pytest.approx(log_p(x).mean().item(), abs=4 * found.sampling_error + 1e-4)
    assert abs(found.gap - L * 0.5 * (math.expm1(wider) - wider)) < 4 * found.gap_error
    assert (found.samples, found.draws) == (N, 100)
    assert found.effective == pytest.approx(100, rel=1e-3) if wider == 0 else 10 < found.effective < 95
    assert diagnose(model, x).measures.log_p is None


def test_a_beta_that_is_too_high_collapses():
    beta = 40.0  # beta * noise = 4, above every eigenvalue
    found = diagnose(ppca(beta * NOISE, NOISE, beta), data())
    assert found["posterior collapse"].level == found["effective beta"].level == "ill"
    assert "lower beta" in found["posterior collapse"].advice and found.measures.active_units == 0
    assert found.change == {"beta": 1.0, "rec_weight": 1.0}
    assert found["rate and distortion"].level == "ill"


def test_a_beta_that_is_too_low():
    found = diagnose(ppca(0.01 * NOISE, NOISE, beta=0.01), data())
    assert found["effective beta"].level == "ill" and "0.01 times" in found["effective beta"].cause
    assert found["posterior collapse"].level == "healthy"  # a linear model has no holes, as its optimum has the prior's


def test_the_aggregate_posterior_away_from_the_prior_is_a_hole():
    model = ppca(NOISE, NOISE)
    with torch.no_grad():  # z in other units: the same reconstructions, another aggregate posterior
        model.encoder.weight[:L] *= 8
        model.encoder.bias[L:] += 2 * math.log(8)
        model.decoder.weight /= 8
    found = diagnose(model, data())
    assert found["holes in the latent space"].level == "ill" and found["posterior collapse"].level == "healthy"
    assert found.measures.aggregate_kl == pytest.approx(L * 0.5 * (64 - 1 - math.log(64)), rel=0.1)


def test_a_variance_fixed_too_large():
    found = diagnose(ppca(1.0, 1.0), data())  # ten times the noise of the data; one of three latents is lost
    assert found["variance of the likelihood"].level in ("watch", "ill") and "too large" in str(found)
    assert found["variance of the likelihood"].advice.startswith("fit the variance")
    assert found.measures.active_units < L
    x, model = data(), ppca(1.0, 1.0)
    residual = (x - model.decode(model.encode(x)[0])).square().mean().item()  # of the mean's; a sample's is larger
    assert found["variance of the likelihood"].change["obs_logvar"].item() > math.log(residual)
    assert found.measures.residual == pytest.approx(found.measures.square_ratio, rel=1e-6)  # the variance is 1
    model.obs_logvar = nn.Parameter(torch.zeros(()))  # trained already
    assert diagnose(model, x)["variance of the likelihood"].change == {}
    assert levels(ppca(NOISE, NOISE / 100))["variance of the likelihood"] == "ill"  # and too small


def test_a_decoder_that_ignores_z_is_not_told_to_lower_beta():
    model = ppca(NOISE, NOISE)
    with torch.no_grad():
        model.encoder.weight.zero_()
        model.encoder.bias.zero_()
        model.decoder.weight.zero_()
        model.obs_logvar = math.log(data().var().item())  # what fits without z
    verdict = diagnose(model, data())["posterior collapse"]
    assert verdict.level == "ill" and "does without z" in verdict.cause and "free_bits" in verdict.advice
    assert model(data()).item() > 0 and vk.mlp_vae((D,), L, **verdict.change).free_bits == (0.25, "per_dim")


def test_blur_is_lost_energy_of_differences():
    class Model(nn.Module):
        def forward(self, z):
            return self.weight * X[torch.arange(len(z)) % len(X)]

    weight, X = 1.0, torch.rand(64, 1, 6, 6)
    for weight, level in ((0.6, "healthy"), (0.4, "watch"), (0.1, "ill")):
        model = vk.VAE(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), Model(), likelihood="gaussian", latent_shape=2)
        model.decoder.weight = weight
        found = diagnose(model, X, batch_size=64)
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
    found = diagnose(model, x)
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
    assert diagnose(one, x).measures.aggregate_kl == diagnose(other, x).measures.aggregate_kl
    assert str(diagnose(one, x)) == str(diagnose(other, x))


def test_a_mixture_of_one_is_a_gaussian():
    """The estimates for a prior without a closed form, where there is one."""
    one, other = (ppca(NOISE, NOISE) for _ in range(2))
    one.prior_module, other.prior_module = vk.priors.DiagonalGaussian(L), vk.priors.MixtureOfGaussians(1, L)
    with torch.no_grad():
        for prior, names in ((one.prior_module, ("mu", "logvar")), (other.prior_module, ("loc", "logvar"))):
            getattr(prior, names[0]).copy_(torch.tensor([0.3, -0.2, 0.1]))
            getattr(prior, names[1]).copy_(torch.tensor([0.5, 0.0, -0.5]))
    x = data()
    closed, estimated = diagnose(one, x).measures, diagnose(other, x).measures
    assert estimated.kl_per_dim is None and closed.kl_per_dim.sum().item() == pytest.approx(closed.kl, rel=1e-5)
    assert abs(estimated.kl - closed.kl) < 5 * estimated.kl_error
    # moments of 10 000 draws: a mean is off by 1 % of a standard deviation, and so is its share of the divergence
    assert estimated.aggregate_kl == pytest.approx(closed.aggregate_kl, abs=0.05)
    assert estimated.spread.tolist() == pytest.approx(closed.spread.tolist(), rel=0.06)  # 4 sqrt(2 / 10 000)
    assert abs(estimated.hole_share - closed.hole_share) < 0.05


@pytest.mark.parametrize("prior", ["mixture", "vamp", "flow"])
def test_priors_without_a_closed_form(prior):
    x = data()
    model = vk.mlp_vae((D,), L, (8,), "gaussian")
    if prior == "mixture":
        model.prior_module = vk.priors.MixtureOfGaussians(4, L)
    elif prior == "vamp":
        model.prior_module = vk.priors.VampPrior(x[:5], model.encoder, L)
    else:
        zuko = pytest.importorskip("zuko", reason="zuko, whose flows are priors, is not installed")
        model.prior_module = vk.priors.FlowPrior(zuko.flows.NSF(L, transforms=1), L)
    before = torch.get_rng_state()
    m = vk.diagnose(model, x, log_p=(16, 8)).measures
    assert torch.equal(torch.get_rng_state(), before)
    mu, logvar = model.encode(x)
    kl = vk.sample_kl(mu, logvar, prior=model.prior, n_samples=20)[1]
    assert abs(m.kl - kl.mean().item()) < 5 * m.kl_error and m.kl_per_dim is None
    assert "lie where data's codes are rare" in str(diagnose(model, x))


def test_hole_share_of_two_clusters():
    """q(z) = 1/2 N(-2, s) + 1/2 N(2, s): 95 % of it is within 1.96 s of a centre, and the rest of N(0, 1) is thin."""
    n, s = 8000, 0.2
    mu = torch.tensor([[-2.0], [2.0]], dtype=F64).repeat(n // 2, 1)
    logvar = torch.full_like(mu, 2 * math.log(s))
    z, draws = mu + s * torch.randn_like(mu), torch.randn(n, 1, dtype=F64)
    normal = torch.distributions.Normal(torch.zeros((), dtype=F64), 1.0)
    reach = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(0.975)).double() * s
    thin = 1 - 2 * (normal.cdf(2 + reach) - normal.cdf(2 - reach)).item()
    # the share's own error, and that of the quantile: 4 standard deviations of each
    assert hole_share(mu, logvar, z, draws) == pytest.approx(thin, abs=4 * math.sqrt(0.25 / n) + 0.01)
    same = hole_share(mu, logvar, z, mu + s * torch.randn_like(mu))
    assert same == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 * 3 / n))
    assert hole_share(mu, logvar, z, torch.zeros(n, 1, dtype=F64)) == 1


class Reads(nn.Module):
    """An autoregressive decoder: pixel i by the pixel before it."""

    def __init__(self):
        super().__init__()
        self.of_z = nn.Linear(L, D)

    def forward(self, z, x):
        return self.of_z(z) + nn.functional.pad(x[:, :-1], (1, 0))


def test_an_autoregressive_decoder_that_does_without_z():
    model = vk.VAE(ppca(NOISE, NOISE).encoder, Reads(), likelihood="gaussian", autoregressive=True)
    with torch.no_grad():
        for t in (*model.encoder.parameters(), *model.decoder.parameters()):
            t.zero_()
    x = data()
    found = vk.diagnose(model, x, log_p=(100, 4))
    verdict = found["posterior collapse"]
    assert verdict.level == "ill" and "reads x" in verdict.cause and found.change == verdict.change
    m = found.measures
    assert (m.round_trip_data, m.round_trip_prior, m.detail) == (None, None, None) and m.kl == 0
    # p(x|z) does not depend on z, so log p(x) is its logarithm
    nll = vk.nll(nn.functional.pad(x[:, :-1], (1, 0)), x, likelihood="gaussian")
    assert m.nll == pytest.approx(nll.mean().item(), rel=1e-6)
    assert m.log_p.value == pytest.approx(-nll[:100].mean().item(), rel=1e-6) and abs(m.log_p.gap) < 1e-4


def test_the_alarm_of_a_training():
    assert alarm(5.0, 3, 1.0) == ""
    assert alarm(0.1, 0, 30.0).startswith("posterior collapse: 0 latents active, KL 0.10")
    assert alarm(0.1, 1, 1.0).startswith("posterior collapse") and "beta" not in alarm(0.1, 1, 30.0)
    assert alarm(5.0, 3, 30.0) == "effective beta is 30" and alarm(5.0, 3, 0.01) == "effective beta is 0.01"


ERRORS = [
    (lambda: vk.diagnose(nn.Linear(2, 2), data()), TypeError, "model: got Linear"),
    (lambda: vk.diagnose(ppca(NOISE, NOISE), [1.0]), TypeError, "data: got list"),
    (lambda: vk.diagnose(ppca(NOISE, NOISE), data()[:1]), ValueError, "data: got shape"),
    (lambda: vk.diagnose(ppca(NOISE, NOISE), data(), samples=1), ValueError, "samples: got 1"),
    (lambda: vk.diagnose(ppca(NOISE, NOISE), data(), log_p=5), TypeError, "log_p: got 5"),
    (lambda: vk.diagnose(ppca(NOISE, NOISE), data(), log_p=(5, 1)), ValueError, r"log_p\[1\] \(draws\): got 1"),
    (lambda: vk.diagnose(ppca(NOISE, NOISE), data(), labels=torch.zeros(3)), ValueError, r"labels: got \(3,\)"),
    (lambda: vk.diagnose(ppca(NOISE, NOISE), data(), classes=["a"]), ValueError, "classes: has no effect"),
]


@pytest.mark.parametrize("call, error, message", ERRORS)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
