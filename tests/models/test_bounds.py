"""The bounds on log p(x), on linear-Gaussian models, whose log p(x) and posterior have a closed form:

z ~ N(0, I), x|z ~ N(W z + b, s^2 I):  log p(x) = log N(x; b, W W^T + s^2 I)."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import vae_kernels as vk
from vae_kernels import priors

close = torch.testing.assert_close
L, D, B, S2 = 3, 5, 4, 0.3


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def linear_gaussian(q="near", seed=0):
    """The model, x, and mu and logvar of q. q is near the true posterior, equal to it ("exact"), or far from it."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(D, L, generator=g, dtype=torch.float64)
    if q == "exact":  # with orthogonal columns of W the true posterior is diagonal
        weight = torch.linalg.qr(weight)[0] * torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    decoder = nn.Linear(L, D, dtype=torch.float64)
    with torch.no_grad():
        decoder.weight.copy_(weight)
        decoder.bias.copy_(torch.randn(D, generator=g, dtype=torch.float64))
    x = torch.randn(B, D, generator=g, dtype=torch.float64) * 1.5
    true = posterior_of(decoder, x)
    mu, logvar = true.mean.clone(), true.covariance_matrix.diagonal(dim1=-2, dim2=-1).log().clone()
    if q != "exact":
        move = {"near": 0.2, "far": 1.0}[q]
        mu += move * torch.randn(mu.shape, generator=g, dtype=torch.float64) * torch.exp(logvar / 2)
        logvar += move
    return decoder, x, mu.detach().requires_grad_(), logvar.detach().requires_grad_()


def posterior_of(decoder, x):
    w = decoder.weight.detach()
    covariance = torch.linalg.inv(torch.eye(L, dtype=w.dtype) + w.t() @ w / S2)
    mean = (x - decoder.bias.detach()) @ w @ covariance / S2
    return MultivariateNormal(mean, covariance.expand(len(x), L, L))


def log_p(decoder, x):
    w = decoder.weight.detach()
    return MultivariateNormal(decoder.bias.detach(), w @ w.t() + S2 * torch.eye(D, dtype=w.dtype)).log_prob(x)


GAUSSIAN = {"likelihood": "gaussian", "obs_logvar": math.log(S2)}


def bound(decoder, x, mu, logvar, k, estimator="standard", draws=1, seed=1, **settings):
    """iwae of `draws` independent draws, [draws, B]. The batch is repeated once for each draw."""
    repeat = lambda t: t.expand(draws, *t.shape).reshape(-1, t.shape[-1])  # noqa: E731
    settings = {"generator": torch.Generator().manual_seed(seed), "reduction": "none", **GAUSSIAN, **settings}
    loss = vk.iwae(decoder, repeat(x), repeat(mu), repeat(logvar), n_samples=k, estimator=estimator, **settings)
    return loss.reshape(draws, -1)


def mean_and_error(draws):
    return draws.mean(0), draws.std(0) / len(draws) ** 0.5


def elbo(decoder, x, mu, logvar, **settings):
    """The ELBO in closed form: E_q ||x - W z - b||^2 = ||x - W mu - b||^2 + sum_d var_d ||W_d||^2."""
    spread = (torch.exp(logvar) * (decoder.weight**2).sum(0)).sum(1)
    nll = vk.nll(decoder(mu), x, **GAUSSIAN, **settings) + 0.5 / S2 * spread
    return -(nll + vk.gaussian_kl(mu, logvar, **settings))


def model_of(decoder, mu, logvar, prior=None, **settings):
    settings = GAUSSIAN | settings
    return SimpleNamespace(encode=lambda x: (mu, logvar), decode=decoder, prior=prior, backend="auto", **settings)


def test_log_p_is_the_elbo_and_the_gap():
    """log p(x) = ELBO + KL(q(z|x) || p(z|x)), and iwae with one sample estimates the ELBO without bias."""
    decoder, x, mu, logvar = linear_gaussian("far")
    q = MultivariateNormal(mu, torch.diag_embed(torch.exp(logvar)))
    gap = kl_divergence(q, posterior_of(decoder, x))
    assert (gap > 0.1).all()
    close(elbo(decoder, x, mu, logvar) + gap, log_p(decoder, x))
    mean, error = mean_and_error(-bound(decoder, x, mu, logvar, 1, draws=20_000).detach())
    assert ((mean - elbo(decoder, x, mu, logvar)).abs() < 4 * error).all() and (error < 0.1 * gap).all()


def test_the_bound_rises_with_k():
    """ELBO < IWAE_4 < IWAE_32 < log p(x), and each difference is larger than the Monte Carlo errors."""
    decoder, x, mu, logvar = (t.detach() if isinstance(t, torch.Tensor) else t for t in linear_gaussian("far"))
    levels = [(elbo(decoder, x, mu, logvar).detach(), torch.zeros(B))]
    levels += [mean_and_error(-bound(decoder, x, mu, logvar, k, draws=4000).detach()) for k in (4, 32)]
    levels += [(log_p(decoder, x), torch.zeros(B))]
    for (low, e), (high, f) in pairwise(levels):
        assert (low + 4 * e < high - 4 * f).all()


@pytest.mark.parametrize("estimator", ["standard", "stl", "dreg"])
def test_where_q_is_the_posterior_every_draw_is_log_p(estimator):
    """If q is the true posterior, every draw gives log p(x) exactly. The gradients of "stl" and "dreg" are 0 in every
    draw; the gradient of "standard" is noise."""
    decoder, x, mu, logvar = linear_gaussian("exact")
    loss = bound(decoder, x, mu, logvar, 3, estimator)
    close(-loss[0], log_p(decoder, x))
    grads = torch.autograd.grad(loss.sum(), [mu, logvar])
    largest = max(g.abs().max() for g in grads)
    assert largest > 0.01 if estimator == "standard" else largest < 1e-12


@pytest.mark.parametrize("estimator", ["standard", "stl", "dreg"])
def test_estimators_by_hand(estimator):
    """The gradient is the sum over k of w_k d log w_k along the path of z, where w_k is the normalized weight of sample
    k. "dreg" has w_k^2 in place of w_k (Tucker et al. 2019)."""
    decoder, x, mu, logvar = linear_gaussian("near")
    k, weight = 6, torch.randn(B, dtype=torch.float64)
    generator = lambda: torch.Generator().manual_seed(9)  # noqa: E731
    loss = vk.iwae(
        decoder, x, mu, logvar, n_samples=k, estimator=estimator, reduction="none", generator=generator(), **GAUSSIAN
    )
    z = vk.reparameterize(mu, logvar, n_samples=k, generator=generator())
    q = mu, logvar
    if estimator != "standard":
        q = mu.detach(), logvar.detach()
    leaf = z.detach().requires_grad_()

    def log_w(z, q):
        log_p_x = Normal(decoder(z), S2**0.5).log_prob(x).sum(-1)
        return log_p_x + Normal(0, 1).log_prob(z).sum(-1) - Normal(q[0], torch.exp(q[1] / 2)).log_prob(z).sum(-1)

    close(loss, math.log(k) - torch.logsumexp(log_w(z, q), 0))
    share = log_w(leaf, q).detach().softmax(0)
    (pull,) = torch.autograd.grad((share * log_w(leaf, q)).sum(), leaf)
    pull = pull * share[..., None] if estimator == "dreg" else pull
    path = torch.autograd.grad(z, [mu, logvar], -pull * weight[:, None], retain_graph=True)
    expected = [t.detach() for t in path]
    if estimator == "standard":  # "standard" adds the score of q, the derivative of log w by mu and logvar at a fixed z
        score = torch.autograd.grad((-weight * share * log_w(leaf.detach(), q)).sum(), [mu, logvar])
        expected = [a + b for a, b in zip(path, score, strict=True)]
    by_theta = torch.autograd.grad((-weight * share * log_w(leaf.detach(), q)).sum(), list(decoder.parameters()))
    grads = torch.autograd.grad((loss * weight).sum(), [mu, logvar, *decoder.parameters()])
    for a, b in zip(grads, [*expected, *by_theta], strict=True):
        close(a, b)


def test_dreg_has_no_bias_and_less_noise():
    decoder, x, mu, logvar = linear_gaussian("near")
    gradients = {}
    for seed, estimator in enumerate(("standard", "dreg")):
        many = [t.detach().expand(3000, *t.shape).reshape(-1, L).clone().requires_grad_() for t in (mu, logvar)]
        loss = vk.iwae(decoder, x.repeat(3000, 1), *many, n_samples=16, estimator=estimator, reduction="sum",
                       generator=torch.Generator().manual_seed(seed), **GAUSSIAN)  # fmt: skip
        gradients[estimator] = torch.cat([g.reshape(3000, -1) for g in torch.autograd.grad(loss, many)], 1)
    (a, e), (b, f) = (mean_and_error(g) for g in gradients.values())
    assert ((a - b).abs() < 4.5 * (e**2 + f**2).sqrt()).all()
    assert f.mean() < 0.5 * e.mean()


@pytest.mark.parametrize("prior", ["pair", "mixture"])
def test_with_a_prior(prior):
    """log p(x) with a Gaussian prior, given as a pair and as a mixture of one component. The prior shifts b and scales
    W, so log p(x) still has the closed form."""
    decoder, x, mu, logvar = linear_gaussian("near")
    m, v = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64), torch.tensor([0.3, -0.5, 0.0], dtype=torch.float64)
    module = priors.MixtureOfGaussians(1, L).double()
    with torch.no_grad():
        module.loc.copy_(m[None])
        module.logvar.copy_(v[None])
    w = decoder.weight.detach()
    truth = MultivariateNormal(
        decoder(m).detach(), w * torch.exp(v) @ w.t() + S2 * torch.eye(D, dtype=w.dtype)
    ).log_prob(x)
    result = vk.log_marginal_likelihood(
        model_of(decoder, mu, logvar, {"pair": (m, v), "mixture": module}[prior]), x, 20_000
    )
    assert ((result.value - truth).abs() < 4 * result.standard_error).all() and (result.standard_error < 0.1).all()


@pytest.mark.parametrize("chunk", [None, 7, 1])
def test_log_marginal_likelihood(chunk):
    decoder, x, mu, logvar = linear_gaussian("near")
    rows = []
    model = model_of(decoder, mu, logvar)
    model.decode = lambda z: rows.append(len(z)) or decoder(z)
    n = 3000 if chunk is None else 500
    result = vk.log_marginal_likelihood(model, x, n, chunk=chunk, generator=torch.Generator().manual_seed(4))
    assert max(rows) == (4096 // B if chunk is None else chunk) * B and sum(rows) == n * B
    assert ((result.value - log_p(decoder, x)).abs() < 4 * result.standard_error).all()
    assert not result.value.requires_grad and result.value.dtype == torch.float64
    assert ((result.effective_samples > 1) & (result.effective_samples < n)).all()


def test_the_standard_error_is_that_of_repetitions():
    decoder, x, mu, logvar = linear_gaussian("near")
    many = [t.detach().repeat(400, 1) for t in (x, mu, logvar)]
    result = vk.log_marginal_likelihood(model_of(decoder, *many[1:]), many[0], 100, chunk=50)
    spread = result.value.reshape(400, B).std(0)
    said = result.standard_error.reshape(400, B).mean(0)
    # 400 repetitions estimate a standard deviation to 3.5 %; the delta method is right to about 1 / 100
    assert ((said / spread - 1).abs() < 0.15).all()


def test_log_marginal_likelihood_of_an_exact_posterior():
    """If q is the true posterior, all importance weights are equal. The estimate then has no error, even if log p(x) is
    far from 0."""
    decoder, x, _, logvar = linear_gaussian("exact")
    far = 1000 * x
    result = vk.log_marginal_likelihood(model_of(decoder, posterior_of(decoder, far).mean, logvar), far, 50)
    assert (result.value < -1e4).all()
    close(result.value, log_p(decoder, far))
    assert (result.standard_error < 1e-4).all()
    close(result.effective_samples, torch.full((B,), 50.0, dtype=torch.float64), rtol=1e-6, atol=0)


def test_a_vae():
    """The bounds of a VAE with uint8 images, a mixture prior and a trained obs_logvar are in the right order."""
    torch.manual_seed(0)
    model = vk.mlp_vae(
        (1, 4, 4), 2, (8,), "gaussian", prior=priors.MixtureOfGaussians(3, 2), obs_logvar=nn.Parameter(torch.zeros(()))
    )
    x = torch.randint(256, (6, 1, 4, 4), dtype=torch.uint8)
    settings = {"likelihood": "gaussian", "obs_logvar": model.obs_logvar, "prior": model.prior}
    loss = vk.iwae(model.decode, x, *model.encode(x), n_samples=200, estimator="dreg", **settings)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    result = vk.log_marginal_likelihood(model, x, 2000)
    assert abs(result.value.mean() + loss.item()) < 0.1
    with torch.no_grad():
        losses = torch.stack([model.loss(x) for _ in range(50)])
    assert losses.mean() + 4 * losses.std() / 50**0.5 > -result.value.mean()


def test_what_varies_by_sample():
    """A prior and an obs_logvar may have one row for each sample. Each sample must get its own row."""
    torch.manual_seed(0)
    decoder, x, mu, logvar = linear_gaussian("near")
    prior = 0.3 * torch.randn(B, L).double(), 0.3 * torch.randn(B, L).double()
    obs = math.log(S2) + 0.3 * torch.randn(B, 1).double()
    model = model_of(decoder, mu, logvar + 0.5, prior, obs_logvar=obs)  # q is wide, so no single weight dominates
    whole = vk.log_marginal_likelihood(model, x, 20_000)
    for i in range(B):
        w, m, v = decoder.weight.detach(), prior[0][i], prior[1][i]
        covariance = w * torch.exp(v) @ w.t() + torch.exp(obs[i]) * torch.eye(D, dtype=w.dtype)
        truth = MultivariateNormal(decoder(m).detach(), covariance).log_prob(x[i])
        assert (whole.value[i] - truth).abs() < 4 * whole.standard_error[i] < 0.3


X, MU, DECODER = torch.zeros(4, 5), torch.zeros(4, 3), nn.Linear(3, 5)
ERRORS = [
    (lambda: vk.iwae(DECODER, X, MU, MU, n_samples=2, estimator="vimco"), "estimator: got 'vimco', expected one of"),
    (lambda: vk.iwae(DECODER, X, MU, MU, n_samples=2, reduction="total"), "reduction: got 'total'"),
    (lambda: vk.iwae(DECODER, X, MU, MU, n_samples=0), "n_samples: got 0"),
    (lambda: vk.iwae(DECODER, X, MU, MU, n_samples=None), "n_samples: got None"),
    (lambda: vk.iwae(DECODER, X, MU[:3], MU[:3], n_samples=2), "mu: got shape (3, 3), expected the batch of x, 4"),
    (lambda: vk.iwae(nn.Linear(3, 4), X, MU, MU, n_samples=2), "recon: got shape (8, 4), expected that of x, (8, 5)"),
    (lambda: vk.log_marginal_likelihood(None, X, 1), "n_samples: got 1, expected an integer >= 2"),
    (lambda: vk.log_marginal_likelihood(None, X, chunk=0), "chunk: got 0, expected an integer >= 1"),
]


@pytest.mark.parametrize("call, words", ERRORS, ids=[e[1][:30] for e in ERRORS])
def test_errors(call, words):
    with pytest.raises(ValueError) as raised:
        call()
    assert words in str(raised.value)
