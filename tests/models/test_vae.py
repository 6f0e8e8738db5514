"""vk.VAE: its loss is the objective of the contract, its shapes are right, and its tensors are registered."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

import vae_kernels as vk
from vae_kernels import functional

IMAGE = (1, 6, 5)


def small(likelihood="bernoulli", **kwargs):
    torch.manual_seed(0)
    return vk.mlp_vae(IMAGE, 3, hidden=(16,), likelihood=likelihood, **kwargs)


def images(n=7, shape=IMAGE):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


def reference(vae, x, z, beta=1.0, rec_weight=1.0):
    """The objective in float64 by torch.distributions, for the sample z that the loss has drawn."""
    mu, logvar = (t.double() for t in vae.encode(x))
    recon, x = vae.decode(z), x.double()
    if vae.likelihood == "bernoulli":
        # for x between 0 and 1 the term is x log p + (1 - x) log(1 - p)
        logp = x * nn.functional.logsigmoid(recon.double()) + (1 - x) * nn.functional.logsigmoid(-recon.double())
    else:
        loc, lv = recon if isinstance(recon, tuple) else (recon, 0.0 if vae.obs_logvar is None else vae.obs_logvar)
        lv = torch.as_tensor(lv).double()
        logp = torch.distributions.Normal(loc.double(), (0.5 * lv).exp()).log_prob(x)
    prior_mu, prior_logvar = vae.prior or (torch.zeros(()), torch.zeros(()))
    posterior = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    prior = torch.distributions.Normal(prior_mu.double(), (0.5 * prior_logvar.double()).exp())
    kl = torch.distributions.kl_divergence(posterior, prior).flatten(1).sum(1)
    nll = -logp.flatten(1).sum(1)
    return (rec_weight * nll + beta * kl).mean(), nll, kl


CASES = {
    "bernoulli": {},
    "weights": {"beta": 4.0, "rec_weight": 0.25},
    "weights as tensors": {"beta": torch.tensor(4.0), "rec_weight": torch.tensor(0.25)},
    "prior": {"prior": (torch.full((3,), 0.5), torch.full((3,), -0.7))},
    "unit gaussian": {"likelihood": "gaussian"},
    "fixed gaussian": {"likelihood": "gaussian", "obs_logvar": -1.5},
    "learned gaussian": {"likelihood": "gaussian", "obs_logvar": nn.Parameter(torch.tensor(-1.5))},
    "gaussian per pixel": {"likelihood": "gaussian", "outputs": 2},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("return_terms", [False, True])
def test_loss_is_the_objective(case, return_terms):
    kwargs = CASES[case]
    vae, x = small(**kwargs), images()
    torch.manual_seed(5)
    got = vae.loss(x, return_terms=return_terms)
    torch.manual_seed(5)
    z = vk.reparameterize(*vae.encode(x))  # the same seed draws the same sample
    loss, nll, kl = reference(vae, x, z, float(kwargs.get("beta", 1)), float(kwargs.get("rec_weight", 1)))
    if return_terms:
        torch.testing.assert_close(got.nll.double(), nll, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(got.kl.double(), kl, rtol=1e-4, atol=1e-5)
        assert got.kl_per_dim.shape == (3,)
        torch.testing.assert_close(got.kl_per_dim.sum().double(), kl.mean(), rtol=1e-4, atol=1e-5)
        got = got.loss
    torch.testing.assert_close(got.double(), loss, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_both_paths_give_the_same_gradients(case):
    vae, x = small(**CASES[case]), images()
    grads = []
    for return_terms in (False, True):
        torch.manual_seed(5)
        loss = vae.loss(x, return_terms=return_terms)
        grads.append(torch.autograd.grad(loss.loss if return_terms else loss, list(vae.parameters())))
    for fast, plain in zip(*grads, strict=True):
        assert fast.abs().max() > 0
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_call_beta_and_generator():
    vae, x = small(beta=2.0), images()
    torch.manual_seed(5)
    expected = vae.loss(x)
    torch.manual_seed(5)
    assert torch.equal(vae(x), expected)
    losses = [vae.loss(x, beta=b, generator=torch.Generator().manual_seed(8)) for b in (0.0, 1.0, 3.0)]
    assert losses[0] < losses[1] < losses[2]
    torch.testing.assert_close((losses[2] - losses[0]) / 3, losses[1] - losses[0], rtol=1e-4, atol=1e-4)
    assert vae.beta == 2.0
    terms = vae.loss(x, beta=1.0, generator=torch.Generator().manual_seed(8), return_terms=True)
    torch.testing.assert_close(terms.loss, losses[1])


def test_uint8_reaches_the_loss_as_it_is(monkeypatch):
    vae = small()
    x = (images() * 255).to(torch.uint8)
    seen, fused_elbo = [], functional.fused_elbo

    def spy(recon, x, *args, **kwargs):
        seen.append(x)
        return fused_elbo(recon, x, *args, **kwargs)

    monkeypatch.setattr(functional, "fused_elbo", spy)
    torch.manual_seed(5)
    got = vae.loss(x)
    torch.manual_seed(5)
    torch.testing.assert_close(got, vae.loss(x.float() / 255))
    assert seen[0] is x
    torch.testing.assert_close(vae.encode(x), vae.encode(x.float() / 255))
    assert vae.double().encode(x)[0].dtype == torch.float64


SHAPES = [(1, 28, 28), (3, 17, 31), (2, 1, 5), (1, 9, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("build", [vk.mlp_vae, vk.conv_vae])
@pytest.mark.parametrize(("likelihood", "outputs"), [("bernoulli", 1), ("gaussian", 1), ("gaussian", 2)])
def test_builders_have_exact_shapes(build, shape, likelihood, outputs):
    vae, x = build(shape, 4, likelihood=likelihood, outputs=outputs), images(3, shape)
    mu, logvar = vae.encode(x)
    assert mu.shape == logvar.shape == (3, 4)
    recon = vae.decode(mu)
    parts = recon if outputs > 1 else (recon,)
    assert [part.shape for part in parts] == [x.shape] * outputs
    for mean in (vae.reconstruct(x), vae.sample(3)):
        assert mean.shape == x.shape
        assert not mean.requires_grad
        assert likelihood != "bernoulli" or (mean.min() > 0 and mean.max() < 1)
    vae.loss(x).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())


def test_reconstruct_is_the_mean_at_the_posterior_mean():
    vae, x = small(), images()
    torch.testing.assert_close(vae.reconstruct(x), torch.sigmoid(vae.decode(vae.encode(x)[0])))
    vae = small("gaussian", outputs=2)
    torch.testing.assert_close(vae.reconstruct(x), vae.decode(vae.encode(x)[0])[0])


def test_sample_draws_from_the_prior():
    def draw(prior):
        vae = vk.VAE(nn.Identity(), nn.Identity(), likelihood="gaussian", prior=prior, latent_shape=2)
        return vae.sample(20_000, generator=torch.Generator().manual_seed(0))

    z = draw(None)
    assert z.mean(0).abs().max() < 0.04 and (z.std(0) - 1).abs().max() < 0.03
    mu, logvar = torch.tensor([3.0, -1.0]), torch.tensor([-2.0, 1.0])
    z = draw((mu, logvar))
    torch.testing.assert_close(z.mean(0), mu, atol=0.06, rtol=0)
    torch.testing.assert_close(z.std(0), (0.5 * logvar).exp(), atol=0.04, rtol=0)


def test_an_autoregressive_decoder_is_given_x():
    class Both(nn.Module):
        def forward(self, z, x):
            return z.sum(1, keepdim=True) + 2 * x

    vae = vk.VAE(nn.Linear(6, 4), Both(), latent_shape=2, autoregressive=True)
    x = torch.randint(0, 256, (5, 6), dtype=torch.uint8)
    for return_terms in (False, True):
        torch.manual_seed(5)
        got = vae.loss(x, return_terms=return_terms)
        torch.manual_seed(5)
        z = vk.reparameterize(*vae.encode(x))
        loss = reference_of(vae, x / 255, z.sum(1, keepdim=True) + 2 * (x / 255))  # 2 * x of uint8 would overflow
        torch.testing.assert_close((got.loss if return_terms else got).double(), loss, rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match=r"x: got none, expected \[B, \.\.\.\] with autoregressive=True"):
        vae.sample(2)
    with pytest.raises(ValueError, match="x: got a tensor, expected none with autoregressive=False"):
        small().decode(torch.zeros(1, 3), images(1))


def reference_of(vae, x, recon):
    """-ELBO of Bernoulli logits by torch's own functions, in float64."""
    mu, logvar = (t.double() for t in vae.encode(x))
    posterior = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    nll = nn.functional.binary_cross_entropy_with_logits(recon.double(), x.double(), reduction="none").sum(1)
    return (nll + kl).mean()


def test_encoder_may_give_a_pair_and_spatial_latents():
    class Pair(nn.Module):
        def forward(self, x):
            return x[:, :2], 0.1 * x[:, 2:]

    x = images(3, (4, 5, 6))
    one = vk.VAE(nn.Identity(), nn.Conv2d(2, 4, 1), latent_shape=(2, 5, 6))
    assert one.encode(x)[0].shape == (3, 2, 5, 6)
    assert one.encode(x)[0].data_ptr() == x.data_ptr()  # a view, not a copy
    assert one.sample(2).shape == (2, 4, 5, 6)
    pair = vk.VAE(Pair(), one.decoder)
    torch.testing.assert_close(pair.encode(x), (x[:, :2], 0.1 * x[:, 2:]))
    assert pair.loss(x).isfinite()


def test_learned_variance_finds_the_variance():
    x = 0.3 * torch.randn(500, 4, generator=torch.Generator().manual_seed(0))

    class Zero(nn.Module):
        def forward(self, t):
            return torch.zeros(len(t), 4)

    vae = vk.VAE(Zero(), Zero(), likelihood="gaussian", obs_logvar=nn.Parameter(torch.zeros(())))
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        vae.loss(x).backward()
        optimizer.step()
    assert vae.obs_logvar.item() == pytest.approx(math.log(x.square().mean()), abs=1e-2)


def test_tensors_are_registered():
    vae = small(
        "gaussian",
        obs_logvar=nn.Parameter(torch.zeros(())),
        beta=torch.tensor(2.0),
        prior=(nn.Parameter(torch.zeros(3)), torch.zeros(3)),
    )
    assert {"obs_logvar", "prior_mu"} <= dict(vae.named_parameters()).keys()
    assert {"beta", "prior_logvar"} == dict(vae.named_buffers()).keys()
    vae.double()
    assert vae.beta.dtype == vae.obs_logvar.dtype == vae.prior[1].dtype == torch.float64


def test_copies_are_equal_and_apart():
    vae, x = (
        small("gaussian", obs_logvar=nn.Parameter(torch.tensor(-1.0)), prior=(torch.ones(3), torch.zeros(3))),
        images(),
    )

    def value(model):
        torch.manual_seed(5)
        return model.loss(x)

    expected = value(vae)
    loaded = small("gaussian", obs_logvar=nn.Parameter(torch.tensor(0.0)), prior=(torch.zeros(3), torch.zeros(3)))
    assert value(loaded) != expected
    loaded.load_state_dict(vae.state_dict())
    for other in (copy.deepcopy(vae), pickle.loads(pickle.dumps(vae)), loaded):
        assert torch.equal(value(other), expected)
        with torch.no_grad():
            other.obs_logvar.add_(1)
        assert torch.equal(value(vae), expected)


def needs_grad():
    return torch.zeros((), requires_grad=True)


ERRORS = {
    "likelihood": (lambda: small("poison"), ValueError, "likelihood: got 'poison', expected one of 'bernoulli'"),
    "beta shape": (lambda: small(beta=torch.ones(3)), ValueError, r"beta: got shape \(3,\)"),
    "lost gradient": (
        lambda: small("gaussian", obs_logvar=needs_grad()),
        ValueError,
        "obs_logvar: .*expected an nn.Param",
    ),
    "prior": (lambda: small(prior=torch.zeros(3)), TypeError, "prior: got Tensor, expected None or a pair"),
    "prior part": (lambda: small(prior=(0.0, torch.zeros(3))), TypeError, r"prior\[0\]: got float"),
    "latent shape": (lambda: vk.VAE(nn.Identity(), nn.Identity()).sample(2), ValueError, "latent shape is not known"),
    "odd channels": (
        lambda: vk.VAE(nn.Identity(), nn.Identity()).encode(torch.zeros(2, 3)),
        ValueError,
        r"encoder: gave .*\[B, 2L",
    ),
    "unknown option": (lambda: small(gamma=2), TypeError, "gamma"),
    "outputs": (lambda: small(outputs=2), ValueError, r"outputs: got 2, expected 1 for 'bernoulli' \(logits\)"),
    "latent_dim": (lambda: vk.mlp_vae(IMAGE, 0), ValueError, "latent_dim: got 0, expected an integer >= 1"),
    "conv shape": (lambda: vk.conv_vae((28, 28)), ValueError, r"input_shape, channels: got \(28, 28\)"),
    "no channels": (lambda: vk.conv_vae(IMAGE, channels=()), ValueError, "at least one width"),
    "bad beta": (lambda: small().loss(images(), beta=-1.0), ValueError, "beta"),
    "no effect": (lambda: small(obs_logvar=1.0).loss(images()), ValueError, "obs_logvar"),
    "backend": (lambda: small(backend="abacus").loss(images()), ValueError, "backend"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_argument(case):
    make, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        make()


def test_encoder_pair_must_match():
    class Two(nn.Module):
        def forward(self, x):
            return x, x[:, :1]

    class Three(nn.Module):
        def forward(self, x):
            return x, x, x

    with pytest.raises(ValueError, match=r"encoder: gave mu \(2, 4\) and logvar \(2, 1\)"):
        vk.VAE(Two(), nn.Identity()).encode(torch.zeros(2, 4))
    with pytest.raises(TypeError, match="encoder: gave tuple, expected"):
        vk.VAE(Three(), nn.Identity()).encode(torch.zeros(2, 4))
