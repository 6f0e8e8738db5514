"""The plain-torch reference against scipy and mpmath, its derivatives against finite differences, and elbo() against
numpy.

Tolerances are counted in eps, the spacing of numbers at 1: one eps for each rounding in the computation, and some more.
"""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from oracles import ORACLES, gaussian_kl, integrated_kl
from torch.autograd import gradcheck, gradgradcheck

from vae_kernels.backends import reference
from vae_kernels.core import noise
from vae_kernels.core.objective import Draw, objective
from vae_kernels.formulas import LIKELIHOODS, bernoulli, gaussian, kl
from vae_kernels.formulas.reparameterize import reparameterize

EPS = 2.0**-52


def elbo(*arguments, **settings):
    """(loss, nll, kl, kl_per_dim)"""
    terms = reference.elbo(objective(*arguments, **settings, terms=True))
    return terms.loss, *terms.parts()


def sample_kl(mu, logvar, prior, rng, n_samples=None, with_kl=True):
    return reference.sample_kl(Draw(mu, logvar, tuple(prior), rng, n_samples, with_kl))


def doubles(*arrays, grad=False):
    return [torch.tensor(a, dtype=torch.float64).requires_grad_(grad) for a in arrays]


def grads(value, *inputs):
    return torch.autograd.grad(value.sum(), inputs, create_graph=True)


def assert_close(actual, expected, scale=None, ulps=16, eps=EPS):
    """|actual - expected| <= ulps eps scale. The default of scale is |expected|. An empty result and a NaN fail."""
    actual, expected = np.asarray(actual.detach().double()), np.asarray(expected, dtype=np.float64)
    error, bound = np.abs(actual - expected), ulps * eps * (np.abs(expected) if scale is None else scale)
    assert actual.shape == expected.shape and actual.size
    assert (error <= bound).all(), f"worst: {np.max(error - bound)} over the bound"


# --- likelihoods


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihood_module_is_complete(name):
    formula = LIKELIHOODS[name]
    assert name in ORACLES
    assert set(formula.DEFAULTS) == set(formula.PARAMETERS[len(formula.PARAMETERS) - len(formula.DEFAULTS) :])
    assert formula.SUPPORT in (None, "counts") or len(formula.SUPPORT) == 2
    assert formula.__doc__ and formula.nll.__doc__ and formula.mean.__doc__


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_nll_is_the_oracle(name):
    x, params = ORACLES[name]["sample_params"](np.random.default_rng(0), (4000,))
    expected = ORACLES[name]["nll"](x, *params)
    # scale + 1: terms of size 1 can cancel in -log p, as v + log 2 pi does, and both sides know these terms to eps only
    assert_close(LIKELIHOODS[name].nll(*doubles(x, *params)), expected, scale=np.abs(expected) + 1)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("n", [1, 64])
def test_nll_derivatives_by_finite_differences(name, n):
    """The first and the second derivative by every argument agree with finite differences. The target is an argument
    too, unless it is a count. The samples have edge values, except the very large ones."""
    x, params = ORACLES[name]["sample_params"](np.random.default_rng(1), (200,))
    tame = np.all([np.abs(p) < 30 for p in (x, *params)], axis=0)
    inputs = doubles(*(p[tame][:n] for p in (x, *params)), grad=True)
    inputs[0].requires_grad_(LIKELIHOODS[name].SUPPORT != "counts")
    assert gradcheck(LIKELIHOODS[name].nll, inputs)
    assert gradgradcheck(LIKELIHOODS[name].nll, inputs)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edge_values_are_finite_to_first_order(name, dtype):
    x, params = ORACLES[name]["sample_params"](np.random.default_rng(0), (32,))
    inputs = [torch.tensor(p).to(dtype).requires_grad_() for p in (x, *params)]
    value = LIKELIHOODS[name].nll(*inputs)
    assert value.dtype == dtype
    for t in (value, *grads(value, *inputs)):
        assert t.isfinite().all()


LOGITS = [s * m for m in (0.0, 1e-30, 1e-8, 1.0, 20.0, 40.0, 100.0, 800.0, 1e4) for s in (1, -1)]
TARGETS = [0.0, 1.0, 0.5, 0.3, 1e-9, 0.999]


def sigmoid(t):
    return 1 / (1 + mpmath.exp(-t))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_extremes_to_full_relative_accuracy(dtype):
    """The value and two derivatives against 100 digits. Each result has a small relative error, so even a tiny result
    is right."""
    pairs = torch.tensor(list(itertools.product(TARGETS, LOGITS)), dtype=dtype)
    x, logits = (t.clone().requires_grad_() for t in pairs.unbind(1))
    value = bernoulli.nll(x, logits)
    gx, gl = grads(value, x, logits)
    (gll,) = grads(gl, logits)
    info = torch.finfo(dtype)

    def check(actual, f, scale=None):
        exact = [[mpmath.mpf(v) for v in pair] for pair in pairs.tolist()]
        expected = np.array([float(f(*pair)) for pair in exact])
        scale = np.abs(expected) if scale is None else np.array([float(scale(*pair)) for pair in exact])
        assert_close(actual, expected, scale + info.tiny / info.eps, ulps=8, eps=info.eps)  # below tiny exp is 0

    check(value, lambda x, t: -x * mpmath.log(sigmoid(t)) - (1 - x) * mpmath.log(sigmoid(-t)))
    # sigmoid(t) - x is computed on the side (t > 0 or not) where both terms are small; its error is eps of their sum
    check(gl, lambda x, t: sigmoid(t) - x, lambda x, t: 1 - x + sigmoid(-t) if t > 0 else x + sigmoid(t))
    check(gll, lambda x, t: sigmoid(t) * sigmoid(-t))
    assert torch.equal(gx, -logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_gradient_at_zero_is_exactly_half_minus_x(dtype):
    x = torch.rand(1000, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for zero in (0.0, -0.0):
        logits = torch.full_like(x, zero, requires_grad=True)
        assert torch.equal(grads(bernoulli.nll(x, logits), logits)[0], 0.5 - x)


def test_gaussian_scales_a_tiny_residual_before_it_squares():
    """float32 cannot hold (1e-30)^2 or e^180, but it can hold their product. So the formula must scale the residual
    first."""
    value = gaussian.nll(*torch.tensor([1e-30, 0.0, -180.0]))
    expected = (float(torch.tensor(1e-30)) ** 2 * math.exp(180) - 180 + math.log(2 * math.pi)) / 2
    assert_close(value[None], [expected], eps=2.0**-23)


def test_means():
    logits, loc = torch.tensor([-1e4, 0.0, math.log(3), 1e4]), torch.randn(3)
    torch.testing.assert_close(bernoulli.mean(logits), torch.tensor([0.0, 0.5, 0.75, 1.0]))
    assert gaussian.mean(loc) is loc and gaussian.mean(loc, loc) is loc


# --- KL


def test_kl_to_the_standard_normal():
    mu = [0.0, 1e-12, -1e-3, 1.0, -30.0, 1e4]
    logvar = [0.0, 1e-17, 1e-12, -1e-12, 1e-6, -1e-3, 0.5, -2.0, 10.0, 80.0, -80.0, -300.0]
    mu, logvar = np.array(list(itertools.product(mu, logvar))).T
    value = kl.gaussian_kl(*doubles(mu, logvar))
    # the error is eps |t|; a KL of 1e-13 that is written as 1 + t - e^t would have an error of eps
    assert_close(value, gaussian_kl(mu, logvar), scale=(mu**2 + np.abs(np.expm1(logvar)) + np.abs(logvar)) / 2)


def test_kl_to_another_gaussian():
    rng = np.random.default_rng(0)
    mu, prior_mu = rng.normal(scale=[[3.0], [30.0]], size=(2, 500))
    logvar, prior_logvar = rng.uniform(-40, 40, size=(2, 500))
    prior_mu[:250], prior_logvar[:250] = mu[:250], logvar[:250] + rng.normal(scale=1e-6, size=250)  # near the prior
    t, residual = logvar - prior_logvar, (mu - prior_mu) ** 2 * np.exp(-prior_logvar)
    expected = gaussian_kl(mu, logvar, prior_mu, prior_logvar)
    actual = kl.gaussian_kl(*doubles(mu, logvar, prior_mu, prior_logvar))
    # the rounding of t costs eps |t|, and e^t makes eps |t e^t| of it
    assert_close(actual, expected, scale=(residual + np.abs(np.expm1(t)) * (1 + np.abs(t)) + np.abs(t)) / 2)


@pytest.mark.parametrize("q, p", [((0, 0), (0, 0)), ((1, -1), (0, 0)), ((0.3, 0.4), (-1, 1.5)), ((-2, -3), (1, 0.2))])
def test_kl_is_the_integral_that_defines_it(q, p):
    value = kl.gaussian_kl(*doubles(*q, *p))
    assert value.item() == pytest.approx(integrated_kl(*q, *p), rel=1e-12, abs=1e-15)


def test_kl_to_a_given_standard_normal_is_the_same_number():
    mu, logvar = torch.randn(2, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros((), dtype=torch.float64)
    assert torch.equal(kl.gaussian_kl(mu, logvar), kl.gaussian_kl(mu, logvar, zero, zero))


def test_kl_is_never_negative():
    every_4099th = torch.arange(-(2**31), 2**31, 4099).to(torch.int32).view(torch.float32)
    near_zero = torch.tensor([2.0**-k for k in range(1075)], dtype=torch.float64)
    spread = 1 + torch.rand(200, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for logvar in (every_4099th[every_4099th.isfinite()], spread * near_zero, -spread * near_zero):
        value = kl.gaussian_kl(torch.zeros_like(logvar), logvar)
        assert logvar.numel() > 1e5 and (value >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_extremes_have_right_values_and_gradients(dtype):
    eps = torch.finfo(dtype).eps
    mu, logvar = (torch.tensor(v, dtype=dtype, requires_grad=True) for v in ([0.0, 1e4, 0.0], [80.0, 0.0, -300.0]))
    value = kl.gaussian_kl(mu, logvar)
    gmu, glv = grads(value, mu, logvar)
    assert_close(value, [math.expm1(80) / 2 - 40, 5e7, 149.5], ulps=4, eps=eps)
    assert_close(gmu, [0, 1e4, 0], ulps=0)
    assert_close(glv, [math.expm1(80) / 2, 0, -0.5], ulps=4, eps=eps)
    # the posterior equals a prior of variance e^-300: float32 cannot hold e^150, but the KL and the gradient must be 0
    same = [torch.tensor([v], dtype=dtype, requires_grad=True) for v in (7.0, -300.0, 7.0, -300.0)]
    value = kl.gaussian_kl(*same)
    assert [t.item() for t in (value, *grads(value, *same))] == [0, 0, 0, 0, 0]


def test_kl_derivatives_by_finite_differences():
    rng = np.random.default_rng(3)
    mu, logvar = doubles(*rng.normal(size=(2, 4, 3)), grad=True)
    prior = doubles(*rng.normal(size=(2, 3)), grad=True)
    edge = doubles([0.0, 1.0], [0.0, 0.0], grad=True)
    for inputs in ((mu, logvar), (mu, logvar, *prior), edge, (*edge, *edge)):
        assert gradcheck(kl.gaussian_kl, inputs)
        assert gradgradcheck(kl.gaussian_kl, inputs)


# --- reparameterization


def test_reparameterize():
    rng = np.random.default_rng(4)
    mu, logvar = rng.normal(size=(2, 5, 3))
    eps = rng.normal(size=(7, 5, 3)).astype(np.float32)
    z = reparameterize(*doubles(mu, logvar), torch.tensor(eps))
    expected = mu + np.exp(logvar / 2) * eps
    assert z.dtype == torch.float64
    assert_close(z, expected, scale=np.abs(mu) + np.abs(expected - mu))
    inputs = doubles(mu, logvar, eps, grad=True)
    assert gradcheck(reparameterize, inputs)
    assert gradgradcheck(reparameterize, inputs)


# --- the objective

B, EVENT, LATENT = 5, (3, 4, 2), (2, 3)


def draw(name="gaussian", seed=0, event=EVENT, latent=LATENT):
    """(x, params, (mu, logvar, prior_mu, prior_logvar)): float64 numpy arrays with B samples."""
    rng = np.random.default_rng(seed)
    x, params = ORACLES[name]["sample_params"](rng, (B, *event))
    return x, params, rng.normal(size=(4, B, *latent))


def by_hand(nll, kl, rec_weight, beta, reduction):
    """The loss from element-wise terms in numpy, with a loop over the batch."""
    loss = np.array([rec_weight * np.sum(n) + np.sum(beta * k) for n, k in zip(nll, kl, strict=True)])
    return {"mean": np.mean, "sum": np.sum, "none": np.array}[reduction](loss)


BETAS = [
    1.0,
    0.0,
    2.5,
    np.float64(0.3),
    np.array([0.5, 0.0, 4.0]),
    np.array([[2.0], [0.1]]),
    np.arange(6.0).reshape(LATENT),
]


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("beta", BETAS, ids=lambda beta: f"beta{np.shape(beta)}{np.ravel(beta)[0]}")
def test_elbo_is_the_weighted_sum(name, reduction, beta):
    x, params, latent = draw(name)
    rec_weight = 0.7 if reduction == "mean" else np.float64(1.3)
    as_weight = lambda w: w if type(w) is float else torch.tensor(w)  # noqa: E731
    loss, nll, kl_b, per_dim = elbo(
        *doubles(x),
        doubles(*params),
        name,
        doubles(*latent),
        rec_weight=as_weight(rec_weight),
        beta=as_weight(beta),
        reduction=reduction,
    )
    nll_elements, kl_elements = ORACLES[name]["nll"](x, *params), gaussian_kl(*latent)
    expected = by_hand(nll_elements, kl_elements, rec_weight, beta, reduction)
    # each sum has some tens of terms, and its error is eps of the largest term
    ulps = 64
    size = by_hand(np.abs(nll_elements) + 1, kl_elements, rec_weight, beta, reduction)
    assert_close(loss, expected, scale=size, ulps=ulps)
    flat = np.abs(nll_elements).reshape(B, -1).sum(1)
    assert_close(nll, nll_elements.reshape(B, -1).sum(1), scale=flat + EVENT[0] * EVENT[1] * EVENT[2], ulps=ulps)
    assert_close(kl_b, kl_elements.reshape(B, -1).sum(1), scale=kl_elements.reshape(B, -1).sum(1) + 6, ulps=ulps)
    assert_close(per_dim, kl_elements.mean(0), scale=kl_elements.mean(0) + 1, ulps=ulps)


@pytest.mark.parametrize("shape", [(), (3, 1, 1), (4, 2), (3, 4, 2), (B, 1, 1, 1), (B, *EVENT)], ids=str)
def test_obs_logvar_broadcasts_and_gets_its_gradient(shape):
    x, (loc, _), _ = draw()
    logvar = np.random.default_rng(5).normal(size=shape)
    loss, nll, kl_b, per_dim = elbo(*doubles(x), doubles(loc, logvar), "gaussian", (), reduction="sum")
    elements = ORACLES["gaussian"]["nll"](x, loc, np.broadcast_to(logvar, x.shape))
    assert_close(loss, elements.sum(), scale=np.abs(elements).sum(), ulps=64)
    assert nll.shape == (B,) and kl_b is None and per_dim is None
    small = [t[:, :1] for t in (x, loc)] if shape == () else [x, loc]
    inputs = [t.requires_grad_() for t in doubles(*small, logvar)]
    check = lambda x, loc, logvar: elbo(x, (loc, logvar), "gaussian", (), reduction="none")[0]  # noqa: E731
    assert gradcheck(check, inputs, fast_mode=True)
    assert gradgradcheck(check, inputs, fast_mode=True)


def test_missing_logvar_is_unit_variance():
    x, (loc, _), _ = draw()
    loss = elbo(*doubles(x), doubles(loc), "gaussian", ())[0]
    size = 0.5 * ((x - loc) ** 2 + np.log(2 * np.pi)).sum() / B
    assert_close(loss, size, ulps=64)


def test_every_weight_and_prior_gets_its_gradient():
    x, params, latent = draw("bernoulli", event=(3,), latent=(2,))
    mu, logvar, prior_mu, prior_logvar = latent
    inputs = doubles(x, *params, mu, logvar, prior_mu[:1], prior_logvar[0], 0.7, [0.5, 2.0], grad=True)

    def check(x, logits, mu, logvar, prior_mu, prior_logvar, rec_weight, beta):
        latent = (mu, logvar, prior_mu, prior_logvar)
        loss, nll, kl_b, _ = elbo(x, (logits,), "bernoulli", latent, rec_weight=rec_weight, beta=beta)
        return loss, nll, kl_b

    tame = [t.detach().clamp(-20, 20).requires_grad_() for t in inputs]  # at 1e4 finite differences are only noise
    assert gradcheck(check, tame)
    assert gradgradcheck(check, tame)


def test_given_kl():
    """kl= takes the KL as [B] or element by element, in place of mu and logvar."""
    x, params, (mu, logvar, *_) = draw()
    args = (*doubles(x), doubles(*params), "gaussian")
    elements = kl.gaussian_kl(*doubles(mu, logvar))
    whole = elements.sum((1, 2))
    beta = torch.arange(6.0, dtype=torch.float64).reshape(LATENT)
    same = elbo(*args, doubles(mu, logvar), beta=beta)
    for actual, expected in zip(elbo(*args, (elements,), beta=beta), same, strict=True):
        assert torch.equal(actual, expected)
    loss, _, kl_b, per_dim = elbo(*args, (whole,), beta=0.5, reduction="none")
    expected = elbo(*args, (elements,), beta=0.5, reduction="none")[0]
    assert torch.equal(loss, expected) and torch.equal(kl_b, whole) and per_dim is None


def test_without_a_likelihood_the_loss_is_the_kl():
    latent = doubles(*draw()[2][:2])
    loss, nll, kl_b, per_dim = elbo(None, (), None, latent, beta=3.0, reduction="none")
    assert nll is None and torch.equal(loss, 3 * kl_b)
    assert torch.equal(per_dim, kl.gaussian_kl(*latent).mean(0))
    assert_close(kl_b, gaussian_kl(*(t.numpy() for t in latent)).sum((1, 2)), ulps=64)


# --- dtypes and empty shapes

f16, bf16, f32, f64 = torch.float16, torch.bfloat16, torch.float32, torch.float64


@pytest.mark.parametrize(
    "x, params, latent, out",
    [
        (f32, f32, f32, f32),
        (f16, f16, f16, f32),
        (bf16, bf16, f32, f32),
        (torch.uint8, bf16, bf16, f32),
        (f64, f32, f32, f32),  # the dtype of the target has no part in the dtype of the loss
        (f32, f64, f32, f64),
        (f16, bf16, f64, f64),
        (torch.uint8, f64, f32, f64),
    ],
    ids=str,
)
def test_loss_dtype(x, params, latent, out):
    arrays = draw()
    loss, nll, kl_b, per_dim = elbo(
        torch.tensor(arrays[0]).abs().to(x),
        [torch.tensor(p).to(params) for p in arrays[1]],
        "gaussian",
        [torch.tensor(p).to(latent) for p in arrays[2]],
        rec_weight=torch.tensor(0.5, dtype=f64),
        beta=torch.ones(3, dtype=f64),
    )
    assert {t.dtype for t in (loss, nll, kl_b, per_dim)} == {out}


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("dtype", [f32, bf16, f16])
def test_low_precision_is_float32_arithmetic_on_rounded_inputs(name, dtype):
    x, params, latent = draw(name, event=(200,))
    inputs = [torch.tensor(t).to(dtype) for t in (x, *params, *latent)]

    def terms(inputs):
        x, params, latent = inputs[0], inputs[1:-4], inputs[-4:]
        return elbo(x, params, name, latent, reduction="none")[:3]

    wide = [t.double() for t in inputs]
    size = [np.abs(ORACLES[name]["nll"](*(t.numpy() for t in wide[:-4]))).sum(1) + 200, terms(wide)[2].numpy() + 6]
    for actual, expected, scale in zip(terms(inputs), terms(wide), (sum(size), *size), strict=True):
        assert actual.dtype == f32
        assert_close(actual, expected.numpy(), scale=scale, eps=2.0**-23)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_uint8_is_read_as_a_255th_or_as_a_count(name):
    _, params, latent = draw(name)
    x = torch.arange(B * math.prod(EVENT)).mul(7).remainder(256).to(torch.uint8).reshape(B, *EVENT)
    args = (doubles(*params), name, doubles(*latent))
    read = x.double() if LIKELIHOODS[name].SUPPORT == "counts" else x.double() / 255
    for actual, expected in zip(elbo(x, *args)[:3], elbo(read, *args)[:3], strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_empty_batch_and_empty_event(name):
    params = [torch.zeros(0, 3) for _ in LIKELIHOODS[name].PARAMETERS]
    latent = (torch.zeros(0, 4), torch.zeros(0, 4))
    loss = {r: elbo(torch.zeros(0, 3), params, name, latent, reduction=r)[0] for r in ("mean", "sum", "none")}
    assert loss["mean"].isnan() and loss["sum"] == 0 and loss["none"].shape == (0,)
    params = [torch.ones(4, 0) for _ in LIKELIHOODS[name].PARAMETERS]
    _, nll, kl_b, per_dim = elbo(torch.zeros(4, 0), params, name, (torch.ones(4, 0), torch.ones(4, 0)))
    assert nll.tolist() == kl_b.tolist() == [0, 0, 0, 0] and per_dim.shape == (0,)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_batch_of_scalars(name):
    """An x of shape [B] has no event dimension to sum over. The loss must not sum over the batch in its place."""
    x, params, _ = draw(name, event=())
    _, nll, _, _ = elbo(*doubles(x), doubles(*params), name, ())
    expected = ORACLES[name]["nll"](x, *params)
    assert_close(nll, expected, scale=np.abs(expected) + 1)


@pytest.mark.full  # two graphs; test_compile.py has the quick ones
def test_compiles_whole_with_a_dynamic_batch():
    def step(x, loc, mu, logvar, rng):
        z, kl_b = sample_kl(mu, logvar, (), rng)
        return elbo(x, (loc + z.sum(1, keepdim=True),), "gaussian", (kl_b,))[0]

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="eager")
    rng = torch.tensor([1, 2])
    for batch in (2, 3, 8):
        args = (*torch.randn(2, batch, 6), *torch.randn(2, batch, 4), rng)
        torch.testing.assert_close(compiled(*args), step(*args))


# --- sample_kl


@pytest.mark.parametrize("n_samples", [None, 1, 3])
@pytest.mark.parametrize("dtype", [f64, f32, bf16, f16])
def test_sample_kl(n_samples, dtype):
    latent = [t.to(dtype) for t in doubles(*draw()[2])]
    rng = torch.tensor([5, -6])
    z, kl_b = sample_kl(*latent[:2], latent[2:], rng, n_samples)
    shape = (B, *LATENT) if n_samples is None else (n_samples, B, *LATENT)
    compute = f64 if dtype == f64 else f32
    assert z.shape == shape and z.dtype == dtype and kl_b.shape == (B,) and kl_b.dtype == compute
    wide = [t.to(compute) for t in latent]
    assert torch.equal(z, reparameterize(*wide[:2], noise.normals(rng, shape)).to(dtype))
    assert torch.equal(kl_b, elbo(None, (), None, wide)[2])
    assert torch.equal(sample_kl(*latent[:2], (), rng)[1], elbo(None, (), None, wide[:2])[2])
    assert sample_kl(*latent[:2], (), rng, n_samples, with_kl=False)[1] is None


def test_sample_kl_derivatives_by_finite_differences():
    mu, logvar, prior_mu, prior_logvar = draw(latent=(2,))[2]
    inputs = doubles(mu, logvar, prior_mu[0], prior_logvar[:1], grad=True)

    def check(mu, logvar, *prior):
        return sample_kl(mu, logvar, prior, torch.tensor([1, 2]), 2)

    assert gradcheck(check, inputs)
    assert gradgradcheck(check, inputs)
