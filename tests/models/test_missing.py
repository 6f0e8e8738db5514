"""Missing data in the models: masks and weights of VAE, FusedELBO, iwae and log_marginal_likelihood."""

import math
from types import SimpleNamespace

import pytest
import torch
from known import BACKENDS
from test_bounds import GAUSSIAN, L, linear_gaussian
from torch import nn
from torch.distributions import MultivariateNormal, Normal

import vae_kernels as vk

close = torch.testing.assert_close
IMAGE = (1, 6, 5)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def model(**settings):
    return vk.mlp_vae(IMAGE, 3, hidden=(16,), **settings)


def images(n=7):
    """Images whose missing pixels are NaN, and the mask of the observed pixels."""
    x, mask = torch.rand(n, *IMAGE), torch.rand(n, *IMAGE) > 0.3
    return torch.where(mask, x, float("nan")), mask


@pytest.mark.parametrize("free_bits", [None, (0.1, "per_dim")])
@pytest.mark.parametrize("return_terms", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_loss_of_what_is_observed(backend, return_terms, free_bits):
    """Where x is missing, the encoder gets 0. The loss is fused_elbo of the observed pixels, and no gradient is NaN."""
    vae = model(backend=backend, free_bits=free_bits)
    x, mask = images()
    torch.manual_seed(1)
    out = vae.loss(x, weight=mask, return_terms=return_terms)
    torch.manual_seed(1)
    mu, logvar = vae.encode(torch.where(mask, x, 0.0))
    recon = vae.decode(vk.reparameterize(mu, logvar, backend=backend))
    expected = vk.fused_elbo(
        recon,
        torch.where(mask, x, 0.0),
        mu,
        logvar,
        weight=mask,
        free_bits=free_bits,
        return_terms=True,
        backend="torch",
    )
    close(out.loss if return_terms else out, expected.loss)
    if return_terms:
        close(out.nll, expected.nll)
    (out.loss if return_terms else out).backward()
    assert all(p.grad.isfinite().all() for p in vae.parameters())


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_likelihood_of_what_is_observed_is_that_of_the_elements_alone(backend):
    """The nll with a mask is the nll that torch.distributions gives for the observed elements alone, without a
    weight."""
    x, mask = images()
    loc = torch.randn(x.shape)
    expected = [-Normal(loc[b][mask[b]], 1).log_prob(x[b][mask[b]]).sum() for b in range(len(x))]
    close(vk.nll(loc, x, likelihood="gaussian", weight=mask, backend=backend), torch.stack(expected))


def test_a_weight_beside_other_weights():
    """A weight of 2 means the same as a rec_weight of 2, and latent_weight multiplies the KL of each dimension."""
    vae, x = model(), torch.rand(7, *IMAGE)
    two, half = torch.tensor(2.0), torch.full((3,), 0.5)
    torch.manual_seed(1)
    weighted = vae.loss(x, weight=two, latent_weight=half)
    torch.manual_seed(1)
    terms = vae.loss(x, return_terms=True)
    close(weighted, (2 * terms.nll + 0.5 * terms.kl).mean())


def test_an_autoregressive_decoder_is_not_given_what_is_missing():
    given = []

    class Decoder(nn.Module):
        def forward(self, z, x):
            given.append(x)
            return torch.zeros_like(x) + z.sum()

    vae = vk.VAE(nn.Linear(5, 4), Decoder(), autoregressive=True)
    x = torch.rand(3, 5)
    x[0, 0] = float("nan")
    loss = vae.loss(x, weight=~x.isnan())
    assert loss.isfinite() and given[0][0, 0] == 0
    assert torch.equal(given[0].flatten()[1:], x.flatten()[1:])


def test_padded_tokens():
    """A VAE of tokens that are padded with -100. The encoder gets token 0 there, and the loss counts the other
    tokens."""
    vae = vk.VAE(
        nn.Sequential(Embedded(), nn.Linear(20, 6)),
        nn.Sequential(nn.Linear(3, 35), nn.Unflatten(1, (7, 5))),
        likelihood="categorical",
    )
    tokens = torch.tensor([[3, 1, 2, -100, -100], [1, 2, 3, 4, 5]])
    loss = vae.loss(tokens, weight=tokens >= 0, reduction="none")
    assert loss.isfinite().all()
    loss.sum().backward()
    assert all(p.grad.isfinite().all() for p in vae.parameters())


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)

    def forward(self, tokens):
        return self.embedding(tokens.long()).flatten(1)


def test_fused_elbo_as_a_module():
    x, mask = images()
    mu, logvar, recon = torch.randn(7, 3), torch.randn(7, 3), torch.randn(7, *IMAGE)
    weights = {"weight": mask, "latent_weight": torch.rand(7, 1) > 0.5}
    module = vk.FusedELBO(beta=0.5)
    close(module(recon, x, mu, logvar, **weights), vk.fused_elbo(recon, x, mu, logvar, beta=0.5, **weights))


def test_reconstruct_fills_in():
    vae = model()
    x, mask = images()
    filled = vae.reconstruct(x, weight=mask)
    assert filled.shape == x.shape and filled.isfinite().all()
    close(filled, vae.reconstruct(torch.where(mask, x, 0.0)))


# ---------------------------------------------------------------- bounds


def test_log_p_of_what_is_observed():
    """In a linear-Gaussian model, the marginal likelihood of the observed elements has a closed form. The estimates
    with a mask agree with it."""
    decoder, x, _, _ = linear_gaussian()
    mask = torch.tensor([[True, True, False, True, False]]).repeat(len(x), 1)
    mask[1] = ~mask[1]
    noise = math.exp(GAUSSIAN["obs_logvar"])
    truth, means, logvars = [], [], []
    for b, seen in enumerate(mask):
        w, offset = decoder.weight.detach()[seen], decoder.bias.detach()[seen]
        truth.append(MultivariateNormal(offset, w @ w.t() + noise * torch.eye(len(w)).double()).log_prob(x[b, seen]))
        covariance = torch.linalg.inv(torch.eye(L).double() + w.t() @ w / noise)
        means.append((x[b, seen] - offset) @ w @ covariance / noise)
        logvars.append(covariance.diagonal().log())
    posterior = torch.stack(means), torch.stack(logvars)
    holes = torch.where(mask, x, float("nan"))
    known = SimpleNamespace(
        encode=lambda x: posterior, decode=decoder, prior=None, backend="torch", likelihood="gaussian",
        obs_logvar=GAUSSIAN["obs_logvar"],
    )  # fmt: skip
    found = vk.log_marginal_likelihood(known, holes, 4000, weight=mask)
    assert ((found.value - torch.stack(truth)).abs() <= 5 * found.standard_error + 1e-12).all()
    assert (found.standard_error < 0.05).all()
    loss = vk.iwae(decoder, holes, *posterior, n_samples=4000, weight=mask, reduction="none", **GAUSSIAN)
    assert ((-loss - torch.stack(truth)).abs() <= 5 * found.standard_error + 1e-12).all()


@pytest.mark.parametrize("estimator", ["standard", "stl", "dreg"])
def test_iwae_with_beta_and_terms(estimator):
    decoder, x, mu, logvar = linear_gaussian()
    settings = {"n_samples": 6, "estimator": estimator, **GAUSSIAN}
    weight = torch.rand(x.shape, dtype=torch.float64)

    def outcome(**more):
        torch.manual_seed(3)
        return vk.iwae(decoder, x, mu, logvar, **settings, **more)

    terms = outcome(beta=0.3, weight=weight, return_terms=True)
    close(outcome(beta=torch.tensor(0.3), weight=weight), terms.loss)
    close(outcome(beta=vk.controls.LinearWarmup(10, end=0.3, start=0.3), weight=weight), terms.loss)
    torch.manual_seed(3)
    z = vk.reparameterize(mu, logvar, n_samples=6)
    log_p = Normal(decoder(z), math.exp(GAUSSIAN["obs_logvar"] / 2)).log_prob(x) * weight
    ratio = Normal(0, 1).log_prob(z).sum(-1) - Normal(mu, (logvar / 2).exp()).log_prob(z).sum(-1)
    close(terms.nll, -log_p.sum(-1).mean(0).detach())
    close(terms.kl, -ratio.mean(0).detach())
    close(terms.loss, -(torch.logsumexp(log_p.sum(-1) + 0.3 * ratio, 0) - math.log(6)).mean())
    assert terms.kl_per_dim is None and not terms.nll.requires_grad
    close(outcome(beta=1.0), outcome())


# ---------------------------------------------------------------- a posterior with a standard deviation


def test_logvar_of():
    std = torch.rand(5, dtype=torch.float64).requires_grad_()
    close(vk.logvar_of(std=std).exp(), std**2)
    assert torch.autograd.gradcheck(lambda s: vk.logvar_of(std=s), std)
    close(vk.logvar_of(logstd=std), 2 * std)
    assert vk.logvar_of(std=std.bfloat16()).dtype == vk.logvar_of(logstd=std.half()).dtype == torch.float32
    for wrong in ({}, {"std": std, "logstd": std}):
        with pytest.raises(ValueError, match="std, logstd: got"):
            vk.logvar_of(**wrong)
    with pytest.raises(TypeError, match="std: got float"):
        vk.logvar_of(std=1.0)


# ---------------------------------------------------------------- errors

X, MU = torch.rand(4, 5), torch.zeros(4, 3)
FLOATS = torch.rand(4, 5)
VAE = vk.mlp_vae((5,), 3, hidden=(4,))
ERRORS = {
    "no closed form": (
        lambda: vk.sample_kl(MU, MU, latent_weight=MU > 0, prior=vk.priors.MixtureOfGaussians(2, 3)),
        "latent_weight: has no effect with MixtureOfGaussians",
    ),
    "in the VAE": (lambda: VAE.loss(X, weight=torch.ones(3, 5)), "weight: got shape (3, 5), expected one that"),
    "reconstruct": (lambda: VAE.reconstruct(X, weight=FLOATS), "weight: got dtype torch.float32, expected a mask"),
    "log p": (
        lambda: vk.log_marginal_likelihood(VAE, X, 10, weight=FLOATS),
        "weight: got dtype torch.float32, expected a mask",
    ),
    "iwae": (
        lambda: vk.iwae(VAE.decode, X, MU, MU, n_samples=2, weight=torch.ones(3, 5)),
        "weight: got shape (3, 5), expected",
    ),
    "beta of iwae": (lambda: vk.iwae(VAE.decode, X, MU, MU, n_samples=2, beta=-1.0), "beta: got -1.0, expected"),
    "moments of iwae": (
        lambda: vk.iwae(VAE.decode, X, torch.zeros(4, 6), n_samples=2),
        "logvar: got None, expected a tensor; one tensor [B, 2L, ...] with both is given as moments=",
    ),
    "samples of recon": (lambda: vk.nll(torch.zeros(3, 4, 5), X), "for 3 draws of z for each x, give n_samples=3"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_argument(case):
    call, message = ERRORS[case]
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert message in str(error.value)
