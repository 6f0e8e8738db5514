"""Priors as modules: their densities, their samples, their KL, and models that train with a prior."""

import copy

import pytest
import scipy.stats
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

import vae_kernels as vk
from vae_kernels import priors

close = torch.testing.assert_close
D = 3


def encoder(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(5, 2 * D)


def flow(features=D):
    zuko = pytest.importorskip("zuko", reason="zuko, whose flows are priors, is not installed")
    return zuko.flows.MAF(features=features, transforms=1, hidden_features=(8,))


def randomized(prior):
    """The prior, after its parameters were moved away from their first values."""
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.4 * torch.randn(p.shape))
    return prior


MAKE = {
    "standard": lambda: priors.StandardNormal(D),
    "diagonal": lambda: priors.DiagonalGaussian(D),
    "mixture": lambda: priors.MixtureOfGaussians(4, D),
    "vamp": lambda: priors.VampPrior(torch.randn(6, 5), encoder(), D),
    "flow": lambda: priors.FlowPrior(flow(), D),
}
MONTE_CARLO = ["mixture", "vamp", "flow"]


@pytest.fixture
def prior(request):
    torch.manual_seed(0)
    return randomized(MAKE[request.param]())


every = pytest.mark.parametrize("prior", MAKE, indirect=True)
monte_carlo = pytest.mark.parametrize("prior", MONTE_CARLO, indirect=True)


def posterior(n=7, dtype=torch.float32):
    g = torch.Generator().manual_seed(1)
    return [(0.8 * torch.randn(n, D, generator=g)).to(dtype).requires_grad_() for _ in range(2)]


def expected_log_prob(prior, z):
    """log p(z) by torch.distributions."""
    if isinstance(prior, priors.FlowPrior):
        return prior.flow().log_prob(z)
    if isinstance(prior, priors.StandardNormal):
        return Independent(Normal(torch.zeros(D), torch.ones(D)), 1).log_prob(z)
    if isinstance(prior, priors.DiagonalGaussian):
        return Independent(Normal(prior.mu, torch.exp(prior.logvar / 2)), 1).log_prob(z)
    if isinstance(prior, priors.VampPrior):
        mu, logvar = prior._encoder[0](prior.pseudo_inputs).chunk(2, 1)
        logits = torch.zeros(len(mu))
    else:
        mu, logvar, logits = prior.loc, prior.logvar, prior.logits
    each = Independent(Normal(mu, torch.exp(logvar / 2)), 1).log_prob(z[..., None, :])
    return torch.logsumexp(each + logits.log_softmax(0), -1)


@every
def test_log_prob(prior):
    z = torch.randn(2, 9, D, requires_grad=True)
    inputs = [z, *prior.parameters()]
    log_p, truth = prior.log_prob(z), expected_log_prob(prior, z)
    assert log_p.shape == (2, 9)
    close(log_p, truth)
    for a, b in zip(*(torch.autograd.grad(p.sum(), inputs) for p in (log_p, truth)), strict=True):
        close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["standard", "diagonal", "mixture", "vamp", "flow"])
def test_draws_are_of_the_density(name):
    """The samples follow the density. In one dimension, the probability integral transform makes uniform numbers of the
    samples, and the test of Kolmogorov and Smirnov accepts these numbers."""
    torch.manual_seed(0)
    shape = 1
    prior = {
        "standard": lambda: priors.StandardNormal(shape),
        "diagonal": lambda: priors.DiagonalGaussian(shape),
        "mixture": lambda: priors.MixtureOfGaussians(3, shape),
        "vamp": lambda: priors.VampPrior(torch.randn(4, 5), nn.Linear(5, 2), shape),
        "flow": lambda: priors.FlowPrior(flow(1), shape),
    }[name]()
    randomized(prior)
    z = prior.sample(4000, generator=torch.Generator().manual_seed(3))
    assert z.shape == (4000, 1) and not z.requires_grad
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    with torch.no_grad():
        cdf = torch.cumsum(torch.exp(prior.log_prob(grid[:, None].float()).double()), 0) * (grid[1] - grid[0])
    assert abs(cdf[-1] - 1) < 1e-4
    uniform = cdf[torch.searchsorted(grid, z[:, 0].double())]
    assert scipy.stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-3


@every
def test_draws_are_ruled_by_seed_and_generator(prior):
    draw = lambda seed: prior.sample(5, generator=torch.Generator().manual_seed(seed))  # noqa: E731
    before = torch.get_rng_state()
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    first, second = prior.sample(5), prior.sample(5)
    torch.manual_seed(4)
    assert torch.equal(prior.sample(5), first) and not torch.equal(first, second)


@monte_carlo
@pytest.mark.parametrize("n_samples", [None, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_the_kl_is_of_the_very_z(prior, n_samples, packed):
    """kl is log q(z|x) - log p(z) of the same z that sample_kl returns, and its gradients follow the path of this z."""
    mu, logvar = posterior()
    both = (torch.cat([mu, logvar], 1),) if packed else (mu, logvar)
    z, kl = vk.sample_kl(*both, prior=prior, n_samples=n_samples, generator=torch.Generator().manual_seed(2))
    assert kl.shape == (7,) and z.shape == ((7, D) if n_samples is None else (4, 7, D))
    close(z, vk.reparameterize(mu, logvar, n_samples=n_samples, generator=torch.Generator().manual_seed(2)))
    eps = ((z - mu) / torch.exp(logvar / 2)).detach()
    path = mu + torch.exp(logvar / 2) * eps
    log_q = Normal(mu, torch.exp(logvar / 2)).log_prob(path).sum(-1)
    truth = log_q - expected_log_prob(prior, path)
    truth = truth if n_samples is None else truth.mean(0)
    close(kl, truth, rtol=1e-5, atol=1e-5)
    inputs, weight = [mu, logvar, *prior.parameters()], torch.randn(7)
    grads = (torch.autograd.grad((kl_ * weight).sum(), inputs) for kl_ in (kl, truth))
    for a, b in zip(*grads, strict=True):
        close(a, b, rtol=1e-4, atol=1e-4)


def test_the_estimate_is_without_bias():
    """A mixture of one component is a Gaussian, and the KL of a Gaussian has a closed form."""
    torch.manual_seed(0)
    prior = randomized(priors.MixtureOfGaussians(1, D))
    mu, logvar = posterior(3)
    kl = torch.stack([vk.sample_kl(mu, logvar, prior=prior, n_samples=500)[1] for _ in range(40)])
    truth = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(prior.loc[0], torch.exp(prior.logvar[0] / 2))).sum(
        1
    )
    error = kl.std(0) / 40**0.5
    assert (error < 0.05 * truth).all()  # with a larger error the next line would prove little
    assert ((kl.mean(0) - truth).abs() < 4 * error).all()


@pytest.mark.parametrize("prior", ["standard", "diagonal"], indirect=True)
def test_closed_forms(prior):
    mu, logvar = posterior()
    p = Normal(prior.mu, torch.exp(prior.logvar / 2)) if prior.moments() else Normal(torch.zeros(D), torch.ones(D))
    truth = kl_divergence(Normal(mu, torch.exp(logvar / 2)), p).sum(1)
    close(vk.gaussian_kl(mu, logvar, prior=prior), truth)
    close(vk.sample_kl(mu, logvar, prior=prior)[1], truth)
    recon, x = torch.randn(7, 4), torch.rand(7, 4)
    loss = vk.fused_elbo(recon, x, mu, logvar, prior=prior, reduction="none")
    close(loss, vk.nll(recon, x) + truth)
    module = vk.FusedELBO(prior=prior)
    close(module(recon, x, mu, logvar), loss.mean())
    assert len(list(module.parameters())) == len(list(prior.parameters()))
    for p in prior.parameters():
        assert torch.autograd.grad(loss.sum(), p, retain_graph=True)[0].abs().sum() > 0


def test_a_conditional_prior():
    torch.manual_seed(0)
    prior = priors.ConditionalGaussian(nn.Linear(5, 2 * D))
    context, (mu, logvar) = torch.randn(7, 5), posterior()
    m, v = prior.network(context).chunk(2, 1)
    _, kl = vk.sample_kl(mu, logvar, prior=prior(context))
    close(kl, kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(m, torch.exp(v / 2))).sum(1))
    assert torch.autograd.grad(kl.sum(), prior.network.weight)[0].abs().sum() > 0
    draws = prior.sample(context.repeat(2000, 1)).reshape(2000, 7, D)
    assert ((draws.mean(0) - m).abs() < 5 * torch.exp(v / 2) / 2000**0.5).all()


@every
def test_a_model_trains_and_draws(prior):
    torch.manual_seed(0)
    model = vk.VAE(encoder(), nn.Linear(D, 5), prior=prior, likelihood="gaussian", latent_shape=D)
    if isinstance(prior, priors.VampPrior):
        model.prior_module = prior = priors.VampPrior(torch.randn(6, 5), model.encoder, D)
        assert not any(name.startswith("prior_module._enc") for name in model.state_dict())
    x = torch.randn(64, 5) * torch.tensor([3.0, 1, 1, 1, 1])
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    before = copy.deepcopy(model)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(model.loss(x))
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    for p in prior.parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0
    assert model.sample(3).shape == (3, 5)
    terms = model.loss(x, return_terms=True, generator=torch.Generator().manual_seed(1))
    close(terms.loss, model.loss(x, generator=torch.Generator().manual_seed(1)).detach())
    assert (terms.kl_per_dim is None) == (not prior.closed_form)
    before.load_state_dict(model.state_dict())
    again = before.loss(x, generator=torch.Generator().manual_seed(1))
    close(again, terms.loss)


def test_a_copied_vamp_prior_keeps_to_the_copied_encoder():
    enc = encoder()
    model = vk.VAE(enc, nn.Linear(D, 5), prior=priors.VampPrior(torch.randn(6, 5), enc, D))
    twin = copy.deepcopy(model)
    assert twin.prior._encoder[0] is twin.encoder is not model.encoder


def test_a_vamp_prior_transforms_its_pseudo_inputs():
    u, enc = torch.randn(6, 5), encoder()
    prior = priors.VampPrior(u, enc, D, transform=torch.sigmoid)
    z = torch.randn(4, D)
    close(prior.log_prob(z), priors.VampPrior(torch.sigmoid(u), enc, D).log_prob(z))


def test_latents_of_several_dims():
    torch.manual_seed(0)
    prior = randomized(priors.MixtureOfGaussians(4, (2, 3)))
    mu, logvar = torch.randn(2, 5, 2, 3).unbind()
    z, kl = vk.sample_kl(mu, logvar, prior=prior, n_samples=2)
    assert z.shape == (2, 5, 2, 3) and kl.shape == (5,) and prior.sample(4).shape == (4, 2, 3)
    flat = priors.MixtureOfGaussians(4, 6)
    flat.load_state_dict(
        {k: v.reshape(p.shape) for (k, v), p in zip(prior.state_dict().items(), flat.parameters(), strict=True)}
    )
    close(prior.log_prob(z), flat.log_prob(z.flatten(2)))


@monte_carlo
def test_double_and_bfloat16(prior):
    mu, logvar = posterior(dtype=torch.bfloat16)
    z, kl = vk.sample_kl(mu, logvar, prior=prior)
    assert z.dtype == torch.bfloat16 and kl.dtype == torch.float32 and torch.isfinite(kl).all()
    mu, logvar = posterior(dtype=torch.float64)
    if isinstance(prior, priors.VampPrior):
        prior._encoder[0].double()  # the encoder belongs to the model, so prior.double() does not convert it
    z, kl = vk.sample_kl(mu, logvar, prior=prior.double())
    assert z.dtype == kl.dtype == torch.float64


@pytest.mark.full
def test_compile():
    torch._dynamo.reset()
    prior = randomized(priors.MixtureOfGaussians(4, D))

    def f(mu, logvar):
        z, kl = vk.sample_kl(mu, logvar, prior=prior)
        return z.sum() + kl.sum()

    inputs = [*posterior(), prior.loc]
    torch.manual_seed(3)
    expected = torch.autograd.grad(f(*inputs[:2]), inputs)
    torch.manual_seed(3)
    for a, b in zip(
        torch.autograd.grad(torch.compile(f, backend="aot_eager")(*inputs[:2]), inputs), expected, strict=True
    ):
        close(a, b)


MU = torch.zeros(4, D)
MIXTURE = priors.MixtureOfGaussians(2, D)
ERRORS = [
    (
        lambda: vk.fused_elbo(MU, MU, MU, MU, prior=MIXTURE),
        TypeError,
        "prior: MixtureOfGaussians has no KL in closed form",
    ),
    (lambda: vk.gaussian_kl(MU, MU, prior=MIXTURE), TypeError, "expected z, kl = sample_kl(mu, logvar, prior=prior)"),
    (lambda: vk.fused_elbo(MU, MU, kl=MU[:, 0], prior=MIXTURE), ValueError, "prior: has no effect with kl="),
    (lambda: vk.sample_kl(MU[:, :2], MU[:, :2], prior=MIXTURE), ValueError, "z: got shape (4, 2), expected [..., 3]"),
    (lambda: vk.sample_kl(MU, MU[:2], prior=MIXTURE), ValueError, "logvar: got shape (2, 3), expected that of mu"),
    (lambda: vk.sample_kl(None, MU, prior=MIXTURE), TypeError, "mu: got NoneType"),
    (lambda: vk.VAE(encoder(), encoder(), prior=encoder()), TypeError, "prior: got Linear, expected None or a pair"),
    (lambda: priors.StandardNormal((2, 0)), ValueError, "shape: got (2, 0), expected"),
    (lambda: priors.MixtureOfGaussians(0, 2), ValueError, "n_components: got 0"),
    (lambda: priors.VampPrior([1], encoder(), D), TypeError, "pseudo_inputs: got list"),
    (
        lambda: priors.VampPrior(torch.zeros(2, 5), nn.Linear(5, 3), D).log_prob(MU),
        ValueError,
        "encoder: gave shape (2, 3)",
    ),
]


@pytest.mark.parametrize("call, error, words", ERRORS, ids=[e[2][:40] for e in ERRORS])
def test_errors(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)


def test_a_shard_has_the_noise_of_the_whole_batch():
    mu, logvar = posterior(8)
    draw = lambda rows, **settings: vk.sample_kl(  # noqa: E731
        mu[rows], logvar[rows], prior=MIXTURE, generator=torch.Generator().manual_seed(1), **settings
    )
    z, kl = draw(slice(None))
    part_z, part_kl = draw(slice(2, 5), shard=(2, 8))
    assert torch.equal(part_z, z[2:5])
    close(part_kl, kl[2:5])
