"""Where distributions are used: inside torch's own distributions, under a compiler and torch.func, in files and copies,
and as what a likelihood object gives."""

import copy
import io
import pickle

import pytest
import torch
import torch.distributions as td
from families import EVERY, HAS_TORCH, NAMES, NO_CHECKS, TORCH, make, of_shape, params_of, reference

import vae_kernels as vk

d = vk.distributions


@pytest.mark.parametrize("name", NAMES)
def test_independent(name):
    x, made = of_shape(name, (4, 2, 3))
    whole = td.Independent(made, 2)
    assert (whole.batch_shape, whole.event_shape) == ((4,), (2, 3))
    torch.testing.assert_close(whole.log_prob(x), made.log_prob(x).sum((1, 2)))
    large = whole.expand((5, 4))
    assert large.sample().shape == (5, 4, 2, 3)
    torch.testing.assert_close(large.log_prob(x), whole.log_prob(x).expand(5, 4))
    assert whole.mean.shape == whole.variance.shape == (4, 2, 3)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "categorical"])  # torch's mixture has no levels of levels
def test_mixture_same_family(name):
    x, made = of_shape(name, (4, 3))
    logits = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64).expand(4, 3)
    weights = td.Categorical(logits=logits)  # torch takes no other class here
    mixture = td.MixtureSameFamily(weights, made)
    x = x[:, 0]
    expected = torch.logsumexp(torch.log_softmax(logits, 1) + made.log_prob(x.unsqueeze(1)), 1)
    torch.testing.assert_close(mixture.log_prob(x), expected)
    assert mixture.sample((7,)).shape == (7, 4)
    torch.testing.assert_close(mixture.mean, (weights.probs * made.mean).sum(1))
    assert (mixture.variance > 0).all()


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_transformed(name):
    """The log-normal distribution, and its like."""
    _, params = params_of(name, (4, 3))
    ours, theirs = (
        td.TransformedDistribution(m, [td.ExpTransform()]) for m in (make(name, params), TORCH[name](*params))
    )
    samples = []
    for made in (ours, theirs):
        torch.manual_seed(0)
        samples.append(made.rsample((2,)))
    torch.testing.assert_close(*samples)
    torch.testing.assert_close(ours.log_prob(samples[0]), theirs.log_prob(samples[0]))
    torch.testing.assert_close(ours.cdf(samples[0]), theirs.cdf(samples[0]))


@pytest.mark.parametrize("name", [n for n in HAS_TORCH if n != "negative_binomial"])  # torch has no KL between these
def test_kl_of_independents(name):
    _, p = of_shape(name, (2, 3))
    q = p.expand((2, 3)).as_torch()
    kl = td.kl_divergence(td.Independent(p, 1), td.Independent(q, 1))
    torch.testing.assert_close(kl, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)


# ---------------------------------------------------------------- compilers and transforms


@pytest.mark.parametrize(
    ("name", "form"), [pytest.param(*case, marks=pytest.mark.full) for case in EVERY[1:]] + EVERY[:1]
)
def test_compiled_without_a_graph_break(name, form):
    """The object is made, and log p and its gradients are computed, in one graph."""
    torch._dynamo.reset()
    x, params = params_of(name, (4, 3))

    def loss(x, *params):
        made = td.Independent(make(name, params, form, **NO_CHECKS), 1, validate_args=False)
        return made.log_prob(x).sum()

    results = []
    for f in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaves = [p.clone().requires_grad_() for p in params]
        value = f(x, *leaves)
        results.append((value.detach(), *torch.autograd.grad(value, leaves)))
    torch.testing.assert_close(*results)


@pytest.mark.full
@pytest.mark.parametrize("name", ["gaussian", "laplace", "continuous_bernoulli", "bernoulli"])
def test_samples_under_a_compiler(name):
    torch._dynamo.reset()
    _, params = params_of(name, (4, 3))
    compiled = torch.compile(lambda *p: make(name, p, **NO_CHECKS).sample((2,)), fullgraph=True, backend="aot_eager")
    assert compiled(*params).shape == (2, 4, 3)


@pytest.mark.parametrize("name", NAMES)
def test_vmap_and_second_derivatives(name):
    x, params = params_of(name, (4, 3))
    log_prob = lambda x, *p: make(name, p, **NO_CHECKS).log_prob(x)  # noqa: E731
    torch.testing.assert_close(torch.func.vmap(log_prob)(x, *params), log_prob(x, *params))
    leaves = [p.clone().requires_grad_() for p in params]
    for f in (log_prob, lambda x, *p: reference(name, x, p, [x.shape] * len(p))):
        first = torch.autograd.grad(f(x, *leaves).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        if f is log_prob:
            actual = second
    torch.testing.assert_close(actual, second)


# ---------------------------------------------------------------- copies and files


@pytest.mark.parametrize(("name", "form"), EVERY)
def test_copies(name, form):
    x, params = params_of(name, (4, 3))
    made = make(name, [p.requires_grad_() for p in params] if form == 0 else params, form, backend="torch")
    file = io.BytesIO()
    torch.save(made, file)
    file.seek(0)
    copies = [
        copy.copy(made),
        copy.deepcopy(made),
        pickle.loads(pickle.dumps(made)),
        torch.load(file, weights_only=False),
    ]
    for twin in copies:
        assert type(twin) is type(made) and twin.backend == "torch" and repr(twin) == repr(made)
        assert torch.equal(twin.log_prob(x), made.log_prob(x))


def test_a_copy_of_a_distribution_with_a_broadcast_parameter():
    """torch cannot copy this one: its expanded scale is no leaf."""
    scale = torch.nn.Parameter(torch.tensor(2.0))
    made = d.Normal(torch.zeros(3), scale)
    assert copy.deepcopy(made).scale.tolist() == [2, 2, 2]


def test_repr():
    assert repr(d.Normal(torch.zeros(3), 2.0)) == "Normal(loc: torch.Size([3]), scale: torch.Size([3]))"
    assert repr(d.Poisson(log_rate=0.5)) == "Poisson(log_rate: 0.5)"


# ---------------------------------------------------------------- likelihood objects


def objects():
    return {name: vk.likelihoods.Likelihood.from_dict({"name": name}) for name in vk.LIKELIHOODS}


@pytest.mark.parametrize("name", NAMES)
def test_the_distribution_of_a_decoder_output(name):
    """The sum of log p over the events is -nll; the mean is that of the decoder output."""
    x, params = params_of(name, (4, 3))
    recon = tuple(p.movedim(-1, 1) if name == "categorical" else p for p in params)
    made = objects()[name].distribution(recon, validate_args=True)
    assert type(made) is d.BY_LIKELIHOOD[name] and made.batch_shape == (4, 3)
    torch.testing.assert_close(-made.log_prob(x).sum(1), vk.nll(recon, x, likelihood=name))
    names = dict(zip(vk.likelihoods.formula_of(name).PARAMETERS, recon, strict=True))
    assert repr(objects()[name].distribution(names, backend="torch")) == repr(made)


def test_the_defaults_of_a_decoder_output():
    loc = torch.zeros(2, 3)
    assert vk.likelihoods.Gaussian().distribution(loc).scale.eq(1).all()
    assert vk.likelihoods.Laplace().distribution(loc).scale.eq(1).all()
    with pytest.raises(ValueError, match="recon: the zinb parameter log_inverse_dispersion is missing"):
        vk.likelihoods.ZeroInflatedNegativeBinomial().distribution(loc)


def test_a_likelihood_without_a_distribution_says_so(monkeypatch):
    monkeypatch.delitem(d.BY_LIKELIHOOD, "poisson")
    with pytest.raises(ValueError, match="likelihood: 'poisson' has no distribution, expected one of 'bernoulli'"):
        vk.likelihoods.Poisson().distribution(torch.zeros(2, 3))
