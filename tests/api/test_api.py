"""The contract of the public functions: on every backend, every argument does what its documentation says."""

import copy
import inspect
import pickle

import numpy as np
import oracles
import pytest
import torch
from torch import nn

import vae_kernels as vk

B, EVENT, LATENT = 4, (3, 5, 2), (6,)
close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randn(*shape, grad=False, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, requires_grad=grad)


def batch(event=EVENT, latent=LATENT, dtype=torch.float64):
    """recon, x, mu, logvar"""
    x = torch.rand(B, *event, dtype=dtype)
    return randn(B, *event, dtype=dtype), x, randn(B, *latent, dtype=dtype), randn(B, *latent, dtype=dtype)


def true_nll(name, x, *params):
    params = (p.detach().expand(x.shape).numpy() for p in params)
    return torch.from_numpy(oracles.ORACLES[name]["nll"](x.numpy(), *params)).flatten(1).sum(1)


def true_kl(*latent):
    """[B, latent dims]"""
    arrays = np.broadcast_arrays(*(t.detach().numpy() for t in latent))
    return torch.from_numpy(np.asarray(oracles.gaussian_kl(*arrays), dtype=np.float64))


def test_public_names():
    assert all(hasattr(vk, name) for name in vk.__all__)
    assert (*oracles.ORACLES, *oracles.LEVELS, *oracles.ROWS, *oracles.PIXELS) == vk.LIKELIHOODS and isinstance(
        vk.__version__, str
    )
    after = {f.__name__: [p.name for p in inspect.signature(f).parameters.values() if p.kind == p.KEYWORD_ONLY]
             for f in (vk.fused_elbo, vk.reparameterize, vk.sample_kl, vk.nll, vk.gaussian_kl)}  # fmt: skip
    assert after == {
        "fused_elbo": ["kl", "moments", "likelihood", "obs_logvar", "log_total", "weight", "latent_weight", "prior",
                       "beta", "rec_weight", "free_bits", "n_samples", "reduction", "return_terms", "backend"],
        "reparameterize": ["n_samples", "generator", "shard", "backend"],
        "sample_kl": ["prior", "latent_weight", "per_dim", "n_samples", "reduction", "generator", "shard", "backend"],
        "nll": ["likelihood", "obs_logvar", "log_total", "weight", "n_samples", "reduction", "backend"],
        "gaussian_kl": ["moments", "prior", "latent_weight", "per_dim", "reduction", "backend"],
    }  # fmt: skip


# --- the objective


@pytest.mark.parametrize("event", [(), (7,), (3, 5, 2), (2, 3, 4, 2)], ids=str)
@pytest.mark.parametrize("latent", [(), (6,), (2, 3, 3)], ids=str)
def test_loss_is_the_negative_elbo(backend, event, latent):
    recon, x, mu, logvar = batch(event, latent)
    nll = true_nll("bernoulli", x.reshape(B, -1), recon.reshape(B, -1))
    kl = true_kl(mu, logvar).reshape(B, -1).sum(1)
    close(vk.fused_elbo(recon, x, mu, logvar, reduction="none", backend=backend), nll + kl)
    close(vk.fused_elbo(recon, x, mu, logvar, backend=backend), (nll + kl).mean())
    close(vk.fused_elbo(recon, x, mu, logvar, reduction="sum", backend=backend), (nll + kl).sum())


def test_nll_and_gaussian_kl_are_the_two_terms(backend):
    recon, x, mu, logvar = batch()
    nll, kl = true_nll("bernoulli", x, recon), true_kl(mu, logvar).sum(1)
    for f, arguments, expected in ((vk.nll, (recon, x), nll), (vk.gaussian_kl, (mu, logvar), kl)):
        close(f(*arguments, backend=backend), expected)
        close(f(*arguments, reduction="none", backend=backend), expected)
        close(f(*arguments, reduction="mean", backend=backend), expected.mean())
        close(f(*arguments, reduction="sum", backend=backend), expected.sum())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_kl_in_place_of_mu_and_logvar(backend, reduction):
    recon, x, mu, logvar = batch()
    expected = vk.fused_elbo(recon, x, mu, logvar, beta=0.5, reduction=reduction, backend=backend)
    kl_bd = true_kl(mu, logvar)
    for kl in (vk.sample_kl(mu, logvar, backend=backend)[1], kl_bd, kl_bd.reshape(B, 2, 3)):
        kl = kl.requires_grad_()
        loss = vk.fused_elbo(recon, x, kl=kl, beta=0.5, reduction=reduction, backend=backend)
        close(loss, expected)
        (grad,) = torch.autograd.grad(loss.sum(), kl)
        close(grad, torch.full_like(kl, 0.5 / B if reduction == "mean" else 0.5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_kl_of_16_bits(backend, dtype):
    """Autocast or another library can give a KL of 16 bits. The loss takes this KL, and its gradient has the same
    dtype."""
    recon, x, mu, logvar = batch()
    kl = true_kl(mu, logvar).to(dtype).requires_grad_()
    loss = vk.fused_elbo(recon, x, kl=kl, reduction="sum", backend=backend)
    close(loss, vk.fused_elbo(recon, x, kl=kl.double(), reduction="sum", backend=backend))
    (grad,) = torch.autograd.grad(loss, kl)
    assert grad.dtype == dtype and torch.equal(grad, torch.ones_like(kl))


def test_terms(backend):
    recon, x, mu, logvar = batch(latent=(2, 3))
    recon.requires_grad_()
    beta = torch.rand(2, 3, dtype=torch.float64)
    settings = {"beta": beta, "rec_weight": 0.3, "backend": backend}
    terms = vk.fused_elbo(recon, x, mu, logvar, return_terms=True, **settings)
    kl_bd = true_kl(mu, logvar)
    assert terms.loss.requires_grad and not any(t.requires_grad for t in (terms.nll, terms.kl, terms.kl_per_dim))
    close(terms.nll, true_nll("bernoulli", x, recon))
    close(terms.kl, kl_bd.sum((1, 2)))
    close(terms.kl_per_dim, kl_bd.mean(0))
    close(terms.loss.detach(), (0.3 * terms.nll + (beta * kl_bd).sum((1, 2))).mean())
    # close, not equal: without terms, the kernels may add in another order
    close(terms.loss.detach(), vk.fused_elbo(recon, x, mu, logvar, **settings).detach())
    given = vk.fused_elbo(recon, x, kl=terms.kl, rec_weight=0.3, return_terms=True, backend=backend)
    assert given.kl_per_dim is None and torch.equal(given.kl, terms.kl)
    close(vk.fused_elbo(recon, x, kl=kl_bd, return_terms=True, backend=backend).kl_per_dim, kl_bd.mean(0))
    assert all(f"{name}=tensor(" in repr(terms) for name in ("loss", "nll", "kl", "kl_per_dim"))
    with pytest.raises(AttributeError):
        terms.loss = 0


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("given", ["mu and logvar", "kl", "kl of dims"])
def test_terms_are_packed_in_one_tensor(backend, reduction, given):
    """Monitor and DTensors copy all terms as one tensor. The packed tensor of an op's terms has the same numbers and
    the same layout as the tensor that ElboTerms makes of single terms when it is asked for."""
    recon, x, mu, logvar = batch(latent=(2, 3))
    kl_bd = true_kl(mu, logvar).float()
    latent = {"mu and logvar": (mu, logvar), "kl": (), "kl of dims": ()}[given]
    kl = {"mu and logvar": None, "kl": kl_bd.sum((1, 2)), "kl of dims": kl_bd}[given]
    settings = {"kl": kl, "beta": 0.5, "reduction": reduction, "return_terms": True, "backend": backend}
    terms = vk.fused_elbo(recon.requires_grad_(), x, *latent, **settings)
    again = vk.ElboTerms(terms.loss, terms.nll, terms.kl, terms.kl_per_dim)
    packed, layout = terms.packed()
    assert not packed.requires_grad and layout == again.packed()[1] == (
        True, True, (len(x), *(() if given == "kl" else (2, 3))),
    )  # fmt: skip
    torch.testing.assert_close(packed, again.packed()[0])
    assert torch.equal(packed[1:], again.packed()[0][1:])


@pytest.mark.parametrize("params, latent, expected", [
    ("float32", "float32", "float32"), ("float64", "float32", "float64"), ("float32", "float64", "float64"),
    ("bfloat16", "float32", "float32"), ("float16", "float16", "float32"), ("bfloat16", "float64", "float64"),
])  # fmt: skip
def test_dtype_of_the_loss(backend, params, latent, expected):
    recon, x, mu, logvar = batch()
    recon, mu, logvar = recon.to(getattr(torch, params)), *(t.to(getattr(torch, latent)) for t in (mu, logvar))
    terms = vk.fused_elbo(recon, x, mu, logvar, return_terms=True, backend=backend)
    assert {t.dtype for t in (terms.loss, *terms.parts())} == {getattr(torch, expected)}


def test_uint8_is_x_over_255_or_a_count(backend):
    recon, _, mu, logvar = batch()
    x = torch.arange(B * 30).mul(17).remainder(256).to(torch.uint8).reshape(B, *EVENT)
    assert {0, 255} <= set(x.flatten().tolist())
    for name, divisor in (("bernoulli", 255), ("gaussian", 255), ("poisson", 1)):
        settings = {"likelihood": name, "reduction": "none", "backend": backend}
        expected = vk.fused_elbo(recon, x.float() / divisor, mu, logvar, **settings)
        close(vk.fused_elbo(recon, x, mu, logvar, **settings), expected)


def test_a_target_that_requires_grad(backend):
    recon, x, mu, logvar = batch()
    x.requires_grad_()
    vk.fused_elbo(recon, x, mu, logvar, rec_weight=3.0, backend=backend).backward()
    close(x.grad, -3 * recon / B)


# --- weights


@pytest.mark.parametrize("shape", [None, (), (1,), (6,), (1, 6), (2, 3), (3,), (2, 1)], ids=str)
def test_beta(backend, shape):
    """beta may be a float, a 0-d tensor, or one weight for each latent dimension. The loss has the right value, and
    each weight gets its gradient."""
    dims = (2, 3) if shape in ((2, 3), (3,), (2, 1)) else LATENT
    if shape == (1, 6):
        dims = (1, 6)
    recon, x, mu, logvar = batch(latent=dims)
    beta = 0.7 if shape is None else torch.rand(shape, dtype=torch.float64).requires_grad_()
    kl_bd = true_kl(mu, logvar)
    weight = torch.tensor(beta) if shape is None else beta.detach().clone().requires_grad_()
    expected = (true_nll("bernoulli", x, recon) + (weight * kl_bd).flatten(1).sum(1)).mean()
    mu.requires_grad_()
    loss = vk.fused_elbo(recon, x, mu, logvar, beta=beta, backend=backend)
    close(loss.detach(), expected.detach())
    loss.backward()
    close(mu.grad, (weight.detach() * mu.detach()).expand(mu.shape) / B)
    if shape is not None:
        expected.backward()
        close(beta.grad, weight.grad)


def test_rec_weight(backend):
    recon, x, mu, logvar = batch()
    nll, kl = true_nll("bernoulli", x, recon), true_kl(mu, logvar).sum(1)
    for weight in (0, 0.25, torch.tensor(0.25), torch.tensor(0.25, dtype=torch.bfloat16)):
        loss = vk.fused_elbo(recon, x, mu, logvar, rec_weight=weight, backend=backend)
        close(loss, (float(weight) * nll + kl).mean())
    weight = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
    vk.fused_elbo(recon, x, mu, logvar, rec_weight=weight, backend=backend).backward()
    close(weight.grad, nll.mean())


# --- the likelihood's other parameters


@pytest.mark.parametrize(
    "shape",
    [None, (), (1,), (3, 1, 1), (2,), (5, 2), EVENT, (1, *EVENT), (B, 1, 1, 1), (B, 3, 1, 1), (B, *EVENT)],
    ids=str,
)
def test_obs_logvar(backend, shape):
    loc, x, mu, logvar = batch()
    obs = 0.4 if shape is None else randn(*shape, grad=True)
    settings = {"likelihood": "gaussian", "backend": backend}
    loss = vk.fused_elbo(loc, x, mu, logvar, obs_logvar=obs, **settings)
    value = torch.as_tensor(obs, dtype=torch.float64).detach().requires_grad_()
    close(loss.detach(), (true_nll("gaussian", x, loc, value) + true_kl(mu, logvar).sum(1)).mean())
    close(vk.fused_elbo((loc, value), x, mu, logvar, **settings), loss)  # the same variance, as the second parameter
    close(
        vk.nll([loc, value], x, reduction="mean", **settings),
        vk.nll(loc, x, obs_logvar=obs, reduction="mean", **settings),
    )
    if shape is not None:
        loss.backward()
        slope = 0.5 - 0.5 * (x - loc) ** 2 * torch.exp(-value.detach())
        close(obs.grad, slope.sum_to_size(shape) / B)


def test_unit_variance_is_the_default(backend):
    loc, x, mu, logvar = batch()
    default = vk.fused_elbo(loc, x, mu, logvar, likelihood="gaussian", backend=backend)
    close(default, vk.fused_elbo(loc, x, mu, logvar, likelihood="gaussian", obs_logvar=0, backend=backend))


# --- the prior


@pytest.mark.parametrize("shapes", [((), ()), ((6,), (1,)), ((1, 6), (6,)), ((B, 6), (B, 1))], ids=str)
def test_prior(backend, shapes):
    recon, x, mu, logvar = batch()
    prior = tuple(randn(*s, grad=True) for s in shapes)
    kl = true_kl(mu, logvar, *prior).sum(1)
    close(vk.gaussian_kl(mu, logvar, prior=prior, backend=backend).detach(), kl)
    close(vk.sample_kl(mu, logvar, prior=prior, backend=backend)[1].detach(), kl)
    loss = vk.fused_elbo(recon, x, mu, logvar, prior=list(prior), backend=backend)
    close(loss.detach(), (true_nll("bernoulli", x, recon) + kl).mean())
    u = (mu - prior[0]) * torch.exp(-prior[1])
    slopes = -u, 0.5 * (1 - torch.exp(logvar - prior[1]) - u * (mu - prior[0]))
    for p, g, slope in zip(prior, torch.autograd.grad(loss, prior), slopes, strict=True):
        close(g, slope.detach().sum_to_size(p.shape) / B)


# --- sampling


@pytest.mark.parametrize("n", [None, 1, 3])
def test_samples(backend, n):
    _, _, mu, logvar = batch(latent=(2, 3))
    draw = {"n_samples": n, "backend": backend}
    z, kl = vk.sample_kl(mu, logvar, generator=torch.Generator().manual_seed(1), **draw)
    assert z.shape == ((B, 2, 3) if n is None else (n, B, 2, 3))
    close(kl, true_kl(mu, logvar).sum((1, 2)))
    assert torch.equal(z, vk.reparameterize(mu, logvar, generator=torch.Generator().manual_seed(1), **draw))
    assert torch.equal(vk.reparameterize(mu, torch.full_like(mu, -200), **draw), mu.expand(z.shape))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_sample_kl_reduction(backend, reduction):
    _, _, mu, logvar = batch()
    kl = true_kl(mu, logvar).sum(1)
    expected = kl if reduction == "none" else getattr(kl, reduction)()
    close(vk.sample_kl(mu, logvar, reduction=reduction, backend=backend)[1], expected)


def test_a_generator_leaves_the_default_one_alone(backend):
    _, _, mu, logvar = batch()
    state = torch.get_rng_state()
    vk.sample_kl(mu, logvar, generator=torch.Generator(), backend=backend)
    vk.fused_elbo(mu, mu.sigmoid(), mu, logvar, backend=backend)
    assert torch.equal(torch.get_rng_state(), state)
    vk.sample_kl(mu, logvar, backend=backend)
    assert not torch.equal(torch.get_rng_state(), state)


# --- the module


def test_module_is_the_function(backend):
    recon, x, mu, logvar = batch()
    settings = {
        "likelihood": "gaussian", "obs_logvar": randn(3, 1, 1), "prior": (randn(6), randn(6)), "beta": torch.rand(6),
        "rec_weight": 0.5, "reduction": "sum", "backend": backend,
    }  # fmt: skip
    module = vk.FusedELBO(**settings)
    assert torch.equal(module(recon, x, mu, logvar), vk.fused_elbo(recon, x, mu, logvar, **settings))
    terms = module(recon, x, mu, logvar, return_terms=True)
    assert torch.equal(
        terms.nll, vk.nll(recon, x, likelihood="gaussian", obs_logvar=settings["obs_logvar"], backend=backend)
    )
    default = vk.FusedELBO(backend=backend)
    assert torch.equal(default(recon, x, kl=terms.kl), vk.fused_elbo(recon, x, kl=terms.kl, backend=backend))
    assert "gaussian" in repr(module) and backend in repr(module)


def test_module_keeps_its_tensors():
    prior = nn.Parameter(randn(6)), nn.Parameter(randn(6))
    make = lambda: vk.FusedELBO(  # noqa: E731
        likelihood="gaussian", obs_logvar=nn.Parameter(torch.zeros(())), prior=prior, beta=torch.ones(6), rec_weight=2.0
    )
    module = make()
    assert {n for n, _ in module.named_parameters()} == {"obs_logvar", "prior_mu", "prior_logvar"}
    assert {n for n, _ in module.named_buffers()} == {"beta"}
    recon, x, mu, logvar = batch()
    loss = module(recon, x, mu, logvar)
    loss.backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in module.parameters())
    with torch.no_grad():
        module.obs_logvar.fill_(0.3)
        module.beta.fill_(0.1)
    loss = module(recon, x, mu, logvar)
    loaded = make()
    loaded.load_state_dict(module.state_dict())
    for twin in (loaded, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(recon, x, mu, logvar), loss)
    assert {t.dtype for t in module.half().state_dict().values()} == {torch.float16}
