"""log_prob of every distribution in every form: values and gradients against scipy, mpmath and float64; shapes that
broadcast; dtypes; numbers that other libraries cannot compute."""

import mpmath
import numpy as np
import places
import pytest
import torch
import torch.distributions as td
from families import EVERY, FORMS, HAS_TORCH, NAMES, NO_CHECKS, TORCH, broadcasts, edges_of, make, params_of, reference
from known import BACKENDS
from oracles import LEVELS, ORACLES
from places import ROOT

import vae_kernels as vk

d = vk.distributions
EPS = torch.finfo(torch.float32).eps


@pytest.mark.parametrize("name", [name for name in NAMES if name in ORACLES])
def test_values_are_those_of_the_oracles(name):
    """Every parameter in its own form, edges included."""
    x, params = edges_of(name)
    ours = make(name, [torch.tensor(p) for p in params], **NO_CHECKS).log_prob(torch.tensor(x))
    np.testing.assert_allclose(ours, -ORACLES[name]["nll"](x, *params), rtol=1e-9, atol=1e-12)


def test_values_of_levels_are_those_of_the_oracle():
    x, (logits,) = params_of("categorical", (7, 3))
    oracle = -LEVELS["categorical"](x.numpy(), logits.movedim(-1, 1).numpy())
    np.testing.assert_allclose(d.Categorical(logits=logits).log_prob(x), oracle, rtol=1e-12)


@pytest.mark.parametrize(("name", "form"), EVERY)
def test_every_form_has_the_value_and_the_gradient_of_the_formula(name, form):
    """The derivatives by the formula's parameters go through the arguments of the form, so a wrong rule shows."""
    x, params = params_of(name, (40,))
    results = []
    for i in (0, form):
        leaves = [p.clone().requires_grad_() for p in params]
        value = make(name, leaves, i, **NO_CHECKS).log_prob(x)
        weight = torch.linspace(-1, 2, 40, dtype=torch.float64)
        results.append([value.detach(), *torch.autograd.grad((weight * value).sum(), leaves)])
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "form"), EVERY)
def test_every_form_has_all_parameters(name, form):
    """A parameter that is not given follows from the given ones, in the batch shape."""
    _, params = params_of(name, (2, 3))
    made = make(name, params, form)
    for i in range(len(FORMS[name])):
        for key, expected in FORMS[name][i](*params).items():
            actual = getattr(made, key)
            if (name, key) == ("categorical", "logits"):  # logits of the same probabilities may differ by a constant
                actual, expected = (torch.log_softmax(t, -1) for t in (actual, expected))
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_values_broadcast(name):
    """Sample dims in front, a parameter for each feature, a value for each sample, a single value."""
    x, params = params_of(name, (2, 3))
    for shapes in broadcasts(name, (3,), (2, 3)):
        mine = [p if shape == (2, 3) else p[0] for p, shape in zip(params, shapes, strict=True)]
        mine = [p.clone().requires_grad_() for p in mine]
        made = make(name, mine)
        assert made.batch_shape == ((2, 3) if (2, 3) in shapes else (3,))
        for value in (torch.stack([x, x.flip(0), x.roll(1, 1), x]), x, x[0], x[:, :1], x[0, 0]):
            actual, expected = made.log_prob(value), reference(name, value, mine, shapes)
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
            grads = [torch.autograd.grad(t.sum(), mine, retain_graph=True) for t in (actual, expected)]
            torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_single_number(name):
    """Parameters and a value without dimensions give a term without dimensions."""
    x, params = params_of(name, (1,))
    made = make(name, [p[0] for p in params])
    assert made.batch_shape == made.log_prob(x[0]).shape == ()
    torch.testing.assert_close(made.log_prob(x[0]), make(name, params).log_prob(x)[0])


@pytest.mark.parametrize("name", HAS_TORCH)
def test_values_and_gradients_are_those_of_torch(name):
    x, params = params_of(name, (50,))
    results = []
    for made in (lambda *p: make(name, p), TORCH[name]):
        leaves = [p.clone().requires_grad_() for p in params]
        value = made(*leaves).log_prob(x)
        results.append([value.detach(), *torch.autograd.grad(value.sum(), leaves)])
    # torch cuts the interval around probs = 1/2 out of the continuous Bernoulli, and takes a short series there
    rtol = 1e-4 if name == "continuous_bernoulli" else 1e-8
    torch.testing.assert_close(*results, rtol=rtol, atol=rtol)


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_backends(name, backend):
    x, params = params_of(name, (4, 6))
    ours = make(name, [p.float() for p in params], backend=backend, **NO_CHECKS)
    value = ours.log_prob(x if name == "categorical" else x.float())
    torch.testing.assert_close(value.double(), make(name, params).log_prob(x), rtol=1e-4, atol=1e-4)
    assert value.dtype == torch.float32


def test_dtypes():
    """A number takes the dtype of the tensor beside it. 16 bits are computed in float32."""
    assert d.Normal(torch.zeros(2, dtype=torch.float64), 1).log_prob(torch.zeros(2)).dtype == torch.float64
    assert d.Normal(0, 1).log_prob(torch.zeros(2)).dtype == torch.float32
    half = d.Normal(torch.tensor([0.5], dtype=torch.bfloat16), 3)
    assert half.scale.dtype == torch.bfloat16 and half.log_prob(torch.zeros(1)).dtype == torch.float32
    assert d.NegativeBinomial(torch.tensor(5), logits=torch.zeros(2)).total_count.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_a_value_of_integers_is_read_as_numbers(dtype):
    """uint8 too: vk.log_prob reads 1 as 1 / 255 there."""
    x, logits = torch.tensor([0, 1, 1], dtype=dtype), torch.tensor([0.3, -2.0, 1.0])
    torch.testing.assert_close(d.Bernoulli(logits=logits).log_prob(x), td.Bernoulli(logits=logits).log_prob(x.float()))
    assert d.Poisson(2.0).log_prob(x.to(torch.uint8))[1] == d.Poisson(2.0).log_prob(torch.tensor(1.0))


# ---------------------------------------------------------------- the accuracy of float32


def in_float32(made, leaves, x):
    leaves = [p.requires_grad_() for p in leaves]
    value = made(*leaves).log_prob(x)
    return [t.double() for t in (value.detach(), *torch.autograd.grad(value.sum(), leaves))]


@pytest.mark.parametrize("log_scale", [-16.0, -7.0, -1.0, 0.0, 3.0, 16.0])
@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_the_error_of_a_scale_is_one_rounding_of_its_logarithm(name, log_scale):
    """With r = (x - loc) / scale, the term is -r^2 / 2 or -|r|, and -log scale. The kernel takes the logarithm of the
    variance or of the scale, which is rounded to 2^-24 of itself: a relative error of r^2 or |r|. Everything else may
    have four further roundings, which is twice what torch has."""
    rng = np.random.default_rng(3)
    scale = torch.tensor(np.exp(log_scale) * rng.uniform(0.7, 1.4, 300)).float()
    x = (torch.tensor(rng.normal(scale=3, size=300)) * scale).float()
    actual = in_float32(lambda s: {"gaussian": d.Normal, "laplace": d.Laplace}[name](0.0, s), [scale.clone()], x)
    values, slopes = [], []
    with mpmath.workdps(40):
        for xi, s in zip(x.tolist(), scale.tolist(), strict=True):
            r, log = abs(mpmath.mpf(xi) / s), mpmath.log(s)
            if name == "gaussian":
                cost, log_kernel, constant, power = r**2 / 2, 2 * log, mpmath.log(2 * mpmath.pi) / 2, 2
            else:
                cost, log_kernel, constant, power = r, log, mpmath.log(2), 1
            rounding = (abs(log_kernel) + 8) * mpmath.mpf(2) ** -24
            bound = cost * rounding + (abs(log) + constant + 1) * 3 * mpmath.mpf(2) ** -24
            values.append((-cost - log - constant, bound))
            bound = (power * cost * (rounding + mpmath.mpf(2) ** -22) + mpmath.mpf(2) ** -22) / s
            slopes.append(((power * cost - 1) / s, bound))
    for result, rows in zip(actual, (values, slopes), strict=True):
        expected, bound = np.array(rows, dtype=np.float64).T
        assert (np.abs(result.numpy() - expected) <= bound).all()


@pytest.fixture(scope="module")
def accuracy():
    """bench/accuracy.py, which has counts that are hard, and log p with 60 digits."""
    path = ROOT / "bench/accuracy.py"
    if not path.exists():
        pytest.skip("the tests run without the source tree beside them: there is no bench/")
    return places.module(path)


def test_counts_where_torch_is_wrong_by_nats(accuracy):
    """Errors in nats beside the size of the terms. A rounding of log mu and of log theta moves log p by its derivative
    by the logarithm, which is at most |mu - x| and |log p| + 1."""
    x, mu, theta = accuracy.draws(160, 5)
    exact = np.array([accuracy.exact(*row) for row in zip(x.tolist(), mu.tolist(), theta.tolist(), strict=True)])
    x, mu, theta = map(torch.from_numpy, (x, mu, theta))
    ours = d.NegativeBinomial(mu=mu, theta=theta).log_prob(x).double().numpy()
    theirs = td.NegativeBinomial(theta, logits=mu.log() - theta.log()).log_prob(x).double().numpy()
    moved = (mu.log().abs() * (mu - x).abs()).numpy() + (theta.log().abs().numpy() + 1) * (np.abs(exact) + 1)
    assert (np.abs(ours - exact) <= 4 * 2.0**-24 * (moved + np.abs(exact))).all()
    likely = np.abs(exact) < 30
    assert np.abs(theirs - exact)[likely].max() > 5, "the counts of this test must be hard for torch"
    assert np.abs(ours - exact)[likely].max() < 1e-4


def test_zinb_of_the_extremes(accuracy):
    x, mu, theta = accuracy.draws(160, 5)
    logits = np.random.default_rng(6).normal(scale=8, size=len(x)).astype(np.float32)
    expected = []
    with mpmath.workdps(60):
        for xi, m, t, logit in zip(*(a.tolist() for a in (x, mu, theta, logits)), strict=True):
            gate = 1 / (1 + mpmath.exp(-logit))
            q = mpmath.exp(accuracy.exact(xi, m, t))
            expected.append(
                float(mpmath.log(gate + (1 - gate) * q) if xi == 0 else mpmath.log(1 - gate) + mpmath.log(q))
            )
    x, mu, theta, logits = map(torch.from_numpy, (x, mu, theta, logits))
    ours = d.ZeroInflatedNegativeBinomial(mu=mu, theta=theta, zi_logits=logits).log_prob(x)
    nb = np.abs(d.NegativeBinomial(mu=mu.double(), theta=theta.double()).log_prob(x.double()).numpy())
    moved = (mu.log().abs() * (mu - x).abs()).numpy() + (theta.log().abs().numpy() + 1) * (nb + 1)
    error = np.abs(ours.double().numpy() - expected)
    assert (error <= 4 * 2.0**-24 * (moved + np.abs(expected) + 1)).all()


@pytest.mark.parametrize("kind", [td.Bernoulli, td.ContinuousBernoulli], ids=lambda k: k.__name__)
def test_probabilities_have_no_eps(kind):
    """logit(p) has no clamp: log p(1) is log p also for p = 1e-30, where torch gives -15.9."""
    p = torch.tensor([1e-30, 1e-10, 0.1, 0.5, 0.7, 1 - 2.0**-24])
    ours = getattr(d, kind.__name__)(p)
    exact = getattr(d, kind.__name__)(p.double())
    for x in (torch.zeros(6), torch.ones(6)):
        torch.testing.assert_close(ours.log_prob(x).double(), exact.log_prob(x.double()), rtol=1e-6, atol=1e-6)
    if kind is td.Bernoulli:
        torch.testing.assert_close(ours.log_prob(torch.ones(6)).double(), p.double().log(), rtol=1e-6, atol=0)
        assert td.Bernoulli(p).log_prob(torch.ones(6))[0] > -17


def test_the_ends_of_the_parameters():
    """Probabilities of 0 and 1, a rate and a mean of 0: the possible value has log p = 0, the impossible one has an
    enormous loss, and no gradient is NaN."""
    ends = torch.tensor([0.0, 1.0], requires_grad=True)
    cases = [
        (d.Bernoulli(ends), ends.detach(), 1 - ends.detach()),
        (d.Categorical(torch.stack((1 - ends, ends), -1)), ends.detach(), 1 - ends.detach()),
        (d.Poisson(0 * ends), torch.zeros(2), torch.ones(2)),
        (d.NegativeBinomial(mu=0 * ends, theta=2.0), torch.zeros(2), torch.ones(2)),
        (d.NegativeBinomial(2.0, 0 * ends), torch.zeros(2), torch.ones(2)),
        (d.ZeroInflatedNegativeBinomial(mu=0 * ends, theta=2.0, gate=ends), torch.zeros(2), torch.ones(2)),
        (
            d.ZeroInflatedNegativeBinomial(mu=1.0 + 0 * ends, theta=2.0, gate=1 + 0 * ends),
            torch.zeros(2),
            torch.ones(2),
        ),
    ]
    for made, possible, impossible in cases:
        value = made.log_prob(possible)
        assert value.abs().max() < 1e-6, made
        assert (made.log_prob(impossible) < -1e30).all(), made
        (grad,) = torch.autograd.grad(value.sum(), ends)
        assert grad.isfinite().all(), made


def test_one_number_for_each_gene_is_not_expanded(monkeypatch):
    """The kernel gets the parameters as they were given, also after expand: it sums their gradients itself."""
    from vae_kernels.distributions import base

    seen = []
    monkeypatch.setattr(base, "log_prob", lambda recon, x, **_: seen.extend(t.shape for t in recon) or x)
    theta = torch.ones(3)
    d.NegativeBinomial(mu=torch.ones(3), theta=theta).expand((4, 3)).log_prob(torch.ones(4, 3))
    assert seen == [(4, 3), (3,)]


def test_two_losses_of_one_distribution():
    """Each loss has its own graph: a parameter that is computed is computed again."""
    scale = torch.ones(3, requires_grad=True)
    made = d.Normal(torch.zeros(3), scale)
    for _ in range(2):
        made.log_prob(torch.ones(3)).sum().backward()
    assert torch.equal(scale.grad, torch.zeros(3))


def test_many_values_of_one_row_of_logits(monkeypatch):
    """The logits are not copied for each sample dimension: the kernel is not called."""
    from vae_kernels.distributions import categorical

    x, (logits,) = params_of("categorical", (2, 3))
    expected = make("categorical", (logits,)).log_prob(x)
    monkeypatch.setattr(categorical, "log_prob", None)
    torch.testing.assert_close(make("categorical", (logits,)).log_prob(x.expand(4, 2, 3)), expected.expand(4, 2, 3))
