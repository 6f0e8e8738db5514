"""The properties that every distribution of torch has: shapes, expand, constraints, moments of samples, support, cdf
and icdf, entropy, KL, enumeration. The bounds of random results are six standard errors, with a fixed seed."""

import numpy as np
import pytest
import torch
import torch.distributions as td
from families import EVERY, FORMS, HAS_TORCH, NAMES, OUTSIDE, TORCH, make, of_shape, params_of
from scipy import stats

import vae_kernels as vk
from vae_kernels.formulas import PIXEL

d = vk.distributions
CONTINUOUS = ("gaussian", "laplace", "continuous_bernoulli")
REPARAMETRISED = [name for name in NAMES if d.BY_LIKELIHOOD[name].has_rsample]
ENUMERABLE = [name for name in NAMES if d.BY_LIKELIHOOD[name].has_enumerate_support]
ENTROPY = ["bernoulli", "gaussian", "laplace", "continuous_bernoulli", "categorical"]
NO_CLOSED_FORM = [("negative_binomial_mixture", "mode")]
SIGMAS = 6  # the standard errors that a random result may be off: by chance once in 5e8


def test_every_likelihood_has_its_class():
    """A likelihood without a distribution must be left out on purpose: name the likelihood here."""
    assert set(NAMES) == set(vk.LIKELIHOODS) - {"multinomial", *PIXEL}  # their events are a row, and the channels
    assert set(d.BY_LIKELIHOOD) == set(vk.LIKELIHOODS) - {"multinomial"}
    for name in NAMES:
        made = d.BY_LIKELIHOOD[name]
        assert made.likelihood == name and getattr(d, made.__name__) is made
        assert issubclass(made, td.Distribution) and made.__module__ == "vae_kernels.distributions"
        assert {key for form in FORMS[name] for key in form(*params_of(name, (1,))[1])} == set(made.arg_constraints)


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0)])
@pytest.mark.parametrize("name", NAMES)
def test_shapes(name, shape):
    _, params = params_of(name, (2, 3))
    params = [p[:, :0] if shape == (2, 0) else p[(0,) * (2 - len(shape))] for p in params]
    made = make(name, params)
    assert made.batch_shape == shape and made.event_shape == ()
    for sample_shape in ((), (4,), (4, 1)):
        sample = made.sample(sample_shape)
        assert sample.shape == sample_shape + shape and not sample.requires_grad
        assert made.log_prob(sample).shape == sample_shape + shape
    for moment in ("mean", "variance", "mode", "stddev"):
        if (name, moment) not in NO_CLOSED_FORM:
            assert getattr(made, moment).shape == shape


@pytest.mark.parametrize(("name", "form"), EVERY)
def test_expand(name, form):
    """An expanded distribution has the expanded parameters, and computes what a distribution of these would."""
    _, params = params_of(name, (1, 3))
    made = make(name, [p if i else p[0] for i, p in enumerate(params)], form)
    large = made.expand((4, 2, 3))
    assert type(large) is type(made) and large.batch_shape == (4, 2, 3)
    for key in large.arg_constraints:
        value = getattr(large, key)
        assert value.shape[:3] == (4, 2, 3) and torch.equal(
            value[0, 0], getattr(made, key).expand(1, *value.shape[2:])[0]
        )
    torch.manual_seed(0)
    sample = made.expand((200, 2, 3)).sample()
    assert (sample != sample[:1]).any(), "each row has its own sample"
    sample = sample[:4]
    torch.testing.assert_close(large.log_prob(sample), made.log_prob(sample), rtol=1e-12, atol=1e-12)
    assert large.mean.shape == large.variance.shape == (4, 2, 3)
    for wrong in ((4, 2), (3,), ()):
        with pytest.raises(
            ValueError, match=r"^the batch shape: got shape \(1, 3\), expected one that broadcasts to b"
        ):
            make(name, params, form).expand(wrong)


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize("name", NAMES)
def test_the_default_is_that_of_torch(name):
    """validate_args=None is torch's setting; without checks an invalid parameter is taken."""
    bad = {key: torch.full_like(value, torch.nan) for key, value in FORMS[name][0](*params_of(name, (2,))[1]).items()}
    kind = d.BY_LIKELIHOOD[name]
    for settings in ({}, {"validate_args": True}):
        with pytest.raises(ValueError, match=f"^{next(iter(bad))}: got .*nan.*, expected values that satisfy "):
            kind(**bad, **settings)
    kind(**bad, validate_args=False)
    td.Distribution.set_default_validate_args(False)  # conftest.py undoes this
    kind(**bad)


BAD = [
    ("Normal", {"loc": 0.0, "scale": 0.0}, "scale"),
    ("Laplace", {"loc": 0.0, "scale": -1.0}, "scale"),
    ("Bernoulli", {"probs": 1.1}, "probs"),
    ("ContinuousBernoulli", {"probs": -0.1}, "probs"),
    ("Poisson", {"rate": -1.0}, "rate"),
    ("NegativeBinomial", {"total_count": 0.0, "logits": 0.0}, "total_count"),
    ("NegativeBinomial", {"total_count": 1.0, "probs": 1.0}, "probs"),
    ("NegativeBinomial", {"mu": -1.0, "theta": 1.0}, "mu"),
    ("ZeroInflatedNegativeBinomial", {"mu": 1.0, "theta": 1.0, "gate": 2.0}, "gate"),
    ("DiscretizedLogistic", {"loc": 0.0, "scale": 0.0}, "scale"),
    ("NegativeBinomialMixture", {"mu1": 1.0, "mu2": -1.0, "theta1": 1.0, "mixture_logits": 0.0}, "mu2"),
    ("Categorical", {"probs": torch.tensor([-1.0, 2.0])}, "probs"),
]


@pytest.mark.parametrize(("kind", "given", "wrong"), BAD)
def test_constraints(kind, given, wrong):
    with pytest.raises(ValueError, match=f"^{wrong}: got "):
        getattr(d, kind)(**given)


def test_the_values_of_probabilities_are_checked_before_they_are_normalised():
    with pytest.raises(ValueError, match=r"^probs: got "):
        d.Categorical(torch.tensor([-1.0, -2.0]))


WRONG_FORMS = [
    (d.Normal, {"loc": 0.0}, r"Normal: got loc, expected one of each: loc; scale \| logvar"),
    (d.Normal, {"loc": 0.0, "scale": 1.0, "logvar": 0.0}, "Normal: got loc, scale, logvar, expected"),
    (d.Bernoulli, {}, r"Bernoulli: got no parameter, expected one of each: probs \| logits"),
    (
        d.NegativeBinomial,
        {"mu": 1.0, "logits": 0.0},
        r"got logits, mu, expected .*total_count and probs \| .* mu and theta",
    ),
    (d.NegativeBinomial, {"mu": 1.0, "theta": 1.0, "logits": 0.0}, "got logits, mu, theta, expected"),
    (d.ZeroInflatedNegativeBinomial, {"mu": 1.0, "theta": 1.0}, "expected .*; gate | gate_logits"),
    (
        d.ZeroInflatedNegativeBinomial,
        {"mu": 1.0, "theta": 1.0, "gate": 0.1, "zi_logits": 0.0},
        "got .*, gate, zi_logits",
    ),
]


@pytest.mark.parametrize(("kind", "given", "said"), WRONG_FORMS)
def test_exactly_one_form_is_taken(kind, given, said):
    with pytest.raises(ValueError, match=said):
        kind(**given)


def test_other_wrong_arguments():
    with pytest.raises(TypeError, match=r"^scale: got str, expected a tensor or a number"):
        d.Normal(0.0, "1")
    with pytest.raises(
        ValueError, match=r"^Normal: got the batch shapes loc \(2,\), scale \(3,\), expected shapes that"
    ):
        d.Normal(torch.zeros(2), torch.ones(3))
    for bad, came in ((1.0, "float"), (torch.tensor(1.0), r"shape \(\)"), (torch.zeros(2, 0), r"shape \(2, 0\)")):
        with pytest.raises(ValueError, match=rf"^logits: got {came}, expected a tensor \[\.\.\., K\]"):
            d.Categorical(logits=bad)
    with pytest.raises(NotImplementedError, match=r"DiscretizedLogistic: torch.distributions has no such class"):
        d.DiscretizedLogistic(0.0, 1.0).as_torch()


@pytest.mark.parametrize("name", NAMES)
def test_values_outside_of_the_support(name):
    x, params = params_of(name, (2,))
    made = make(name, params)
    made.log_prob(x)
    for value in OUTSIDE[name]:
        with pytest.raises(ValueError, match="support"):
            made.log_prob(torch.tensor([x[0].item(), value]))


# ---------------------------------------------------------------- samples


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_moments_and_the_support(name):
    torch.manual_seed(0)
    n, (_, made) = 20000, of_shape(name, (6,))
    sample = made.sample((n,)).double()
    assert made.support.check(sample).all()
    mean, variance = made.mean, made.variance
    assert ((sample.mean(0) - mean).abs() <= SIGMAS * (variance / n).sqrt() + 1e-12).all()
    squares = (sample - mean).square()
    spread = squares.std(0) / n**0.5  # the standard error of the variance, from the sample
    assert ((squares.mean(0) - variance).abs() <= SIGMAS * spread + 1e-12).all()


@pytest.mark.parametrize("name", HAS_TORCH)
def test_samples_are_those_of_torch(name):
    """One seed, one sample. The continuous Bernoulli of torch has a quantile function of its own near 1/2."""
    _, params = params_of(name, (50,))
    samples = []
    for made in (make(name, params), TORCH[name](*params)):
        torch.manual_seed(3)
        samples.append(made.sample((2,)))
    atol = 1e-3 if name == "continuous_bernoulli" else 0
    torch.testing.assert_close(*samples, rtol=1e-12, atol=atol)


@pytest.mark.parametrize("name", REPARAMETRISED)
def test_gradients_of_samples(name):
    """The derivative of a sample x = quantile(u) by a parameter is -(dF/dparameter) / p(x), with F = cdf."""
    _, params = params_of(name, (50,))
    leaves = [p.clone().requires_grad_() for p in params]
    made = make(name, leaves)
    torch.manual_seed(0)
    x = made.rsample()
    actual = torch.autograd.grad(x.sum(), leaves)
    by_cdf = torch.autograd.grad(made.cdf(x.detach()).sum(), leaves, retain_graph=True)
    density = made.log_prob(x.detach()).exp().detach()
    torch.testing.assert_close(actual, tuple(-g / density for g in by_cdf), rtol=1e-7, atol=1e-7)


def test_only_these_have_gradients_of_samples():
    assert set(REPARAMETRISED) == {"gaussian", "laplace", "continuous_bernoulli"}
    with pytest.raises(NotImplementedError):
        d.Poisson(1.0).rsample()


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("name", CONTINUOUS)
def test_cdf_and_icdf(name):
    """The cdf is the integral of the density, and icdf is the inverse. No quantile is at the kink of Laplace."""
    _, params = params_of(name, (6,))
    made = make(name, params)
    q = torch.linspace(0.02, 0.98, 24, dtype=torch.float64).unsqueeze(1)
    x = made.icdf(q)
    torch.testing.assert_close(made.cdf(x), q.expand_as(x), rtol=1e-10, atol=1e-10)
    x = x.detach().requires_grad_()
    (density,) = torch.autograd.grad(made.cdf(x).sum(), x)
    torch.testing.assert_close(density, made.log_prob(x).exp(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("logits", [-1e4, -50.0, -1.0, -1e-3, -1e-12, 0.0, 1e-12, 1e-3, 0.5, 1.0, 50.0, 1e4])
def test_the_continuous_bernoulli_has_no_gap(logits):
    """Quantiles, the cdf and the variance at every size of logits, against the integrals in float64."""
    leaf = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    made = d.ContinuousBernoulli(logits=leaf)
    q = torch.tensor([0.01, 0.3, 0.9], dtype=torch.float64)
    x = made.icdf(q)
    assert ((x >= 0) & (x <= 1)).all()
    torch.testing.assert_close(made.cdf(x), q, rtol=1e-9, atol=1e-9)
    assert made.cdf(torch.tensor(0.0)) == 0 and made.cdf(torch.tensor(1.0)) == 1
    (grad,) = torch.autograd.grad(x.sum() + made.cdf(q).sum() + made.variance, leaf)
    assert grad.isfinite()
    if abs(logits) < 100:
        nodes, weights = np.polynomial.legendre.leggauss(200)
        at, w = torch.tensor(nodes / 2 + 0.5), torch.tensor(weights / 2)
        mass = w * made.log_prob(at).exp().detach()
        torch.testing.assert_close((mass * at).sum(), made.mean.detach(), rtol=1e-10, atol=0)
        second = (mass * (at - made.mean).square()).sum()
        torch.testing.assert_close(second.detach(), made.variance.detach(), rtol=1e-9, atol=0)


def test_normal_tails():
    """Far out in the tails the cdf is a small number and not 0, and icdf is its inverse."""
    x = torch.tensor([-12.0, -6.0])
    q = d.Normal(0.0, 1.0).cdf(x)
    torch.testing.assert_close(q, torch.tensor(stats.norm.cdf(x)).float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(d.Normal(0.0, 1.0).icdf(q), x, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ENUMERABLE)
def test_the_probabilities_sum_to_one(name):
    _, made = of_shape(name, (2, 3))
    values = made.enumerate_support()
    assert values.shape[1:] == (2, 3) and made.enumerate_support(expand=False).shape == (len(values), 1, 1)
    assert made.support.check(values).all() and (values[1:] > values[:-1]).all()
    p = made.log_prob(values).exp()
    torch.testing.assert_close(p.sum(0), torch.ones(2, 3, dtype=torch.float64), rtol=1e-12, atol=0)
    numbers = values.double()
    torch.testing.assert_close((p * numbers).sum(0), made.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close((p * (numbers - made.mean).square()).sum(0), made.variance, rtol=1e-9, atol=1e-14)
    best = p.argmax(0, keepdim=True)
    torch.testing.assert_close(made.mode, values.gather(0, best)[0])
    if name == "discretized_logistic":
        torch.testing.assert_close(made.cdf(values), p.cumsum(0), rtol=1e-10, atol=1e-12)
        assert torch.equal(
            made.cdf(torch.tensor([-0.5, 1.5])[:, None, None]),
            torch.tensor([0.0, 1.0], dtype=torch.float64)[:, None, None].expand(2, 2, 3),
        )


@pytest.mark.parametrize(("name", "moment"), NO_CLOSED_FORM)
def test_what_has_no_closed_form_says_so(name, moment):
    with pytest.raises(NotImplementedError, match=f"^{d.BY_LIKELIHOOD[name].__name__}: "):
        getattr(of_shape(name, (2,))[1], moment)


@pytest.mark.parametrize("name", ["negative_binomial", "zinb", "poisson", "negative_binomial_mixture"])
def test_the_probabilities_of_counts(name):
    """The sum over counts, mean, variance and mode. The counts above 3000 have less than 1e-12 of the mass here."""
    _, params = params_of(name, (5,))
    made = make(name, [p.clamp(-2, 2) for p in params])
    counts = torch.arange(3000, dtype=torch.float64).unsqueeze(1)
    p = made.log_prob(counts).exp()
    torch.testing.assert_close(p.sum(0), torch.ones(5, dtype=torch.float64), rtol=1e-10, atol=0)
    torch.testing.assert_close((p * counts).sum(0), made.mean, rtol=1e-9, atol=0)
    torch.testing.assert_close((p * (counts - made.mean).square()).sum(0), made.variance, rtol=1e-8, atol=0)
    if (name, "mode") not in NO_CLOSED_FORM:
        assert torch.equal(made.mode, p.argmax(0).double())


@pytest.mark.parametrize("scale", [1e-6, 1e-3])
def test_the_variance_of_a_narrow_discretized_logistic(scale):
    """All mass is at one level, or at two: the variance is right there too, where E[x^2] - E[x]^2 has no digit
    left. The rounding of loc is divided by the scale."""
    loc = torch.tensor([0.4, 0.4 + 0.499 / 255, -1.0, 2.0])  # in float32
    made, exact = (d.DiscretizedLogistic(t, scale) for t in (loc, loc.double()))
    p = exact.log_prob(values := exact.enumerate_support()).exp()
    second = (p * (values - (p * values).sum(0)).square()).sum(0)
    torch.testing.assert_close(made.variance.double(), second, rtol=1e-5 + 2.0**-22 / scale, atol=1e-12)


@pytest.mark.parametrize("name", ENTROPY)
def test_entropy_is_minus_the_mean_of_log_p(name):
    torch.manual_seed(0)
    n, (_, made) = 20000, of_shape(name, (6,))
    log_p = made.log_prob(made.sample((n,)))
    assert ((made.entropy() + log_p.mean(0)).abs() <= SIGMAS * log_p.std(0) / n**0.5 + 1e-12).all()


def test_entropy_of_a_certain_outcome():
    assert d.Bernoulli(torch.tensor([0.0, 1.0])).entropy().abs().max() < 1e-30


# ---------------------------------------------------------------- KL


@pytest.mark.parametrize("name", HAS_TORCH)
def test_kl_is_the_mean_of_the_log_ratio(name):
    torch.manual_seed(0)
    n, p, q = 20000, of_shape(name, (6,))[1], make(name, params_of(name, (6,), seed=9)[1])
    if name in ("poisson", "negative_binomial"):
        q = make(name, [0.5 * t for t in params_of(name, (6,))[1][:1]] + list(params_of(name, (6,))[1][1:]))
    if name == "negative_binomial":  # torch has no formula for it
        with pytest.raises(NotImplementedError):
            td.kl_divergence(p, q)
        return
    x = p.sample((n,))
    ratio = p.log_prob(x) - q.log_prob(x)
    kl = td.kl_divergence(p, q)
    assert ((kl - ratio.mean(0)).abs() <= SIGMAS * ratio.std(0) / n**0.5 + 1e-12).all()
    for one, other in ((p, q.as_torch()), (p.as_torch(), q)):
        torch.testing.assert_close(td.kl_divergence(one, other), kl, rtol=1e-12, atol=1e-12)


def test_kl_of_normals_near_each_other():
    """The expm1 form: the KL of a posterior near its prior is positive and right in float32. torch's has
    a rounding of the standard deviation."""
    logvar = torch.tensor([1e-4, -3e-4, 1e-3])
    expected = 0.5 * (torch.expm1(logvar.double()) - logvar.double())
    p, prior = d.Normal(0.0, logvar=logvar), td.Normal(0.0, 1.0)
    for q in (prior, d.Normal(0.0, 1.0)):
        torch.testing.assert_close(td.kl_divergence(p, q).double(), expected, rtol=1e-3, atol=0)
    backwards = 0.5 * (torch.expm1(-logvar.double()) + logvar.double())
    torch.testing.assert_close(td.kl_divergence(prior, p).double(), backwards, rtol=1e-3, atol=0)
    theirs = td.kl_divergence(p.as_torch(), prior).double()
    assert ((theirs - expected).abs() > 1e-3 * expected).any()
