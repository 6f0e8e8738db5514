"""The option `levels` of the discretized logistic: masses, gradients, targets of uint8, and what tells of wrong
levels."""

import json
import warnings

import numpy as np
import pytest
import torch
from cases import check
from known import BACKENDS
from oracles import discretized_logistic_nll

import vae_kernels as vk
from vae_kernels.core import first_calls
from vae_kernels.formulas import discretized_logistic

Logistic = vk.likelihoods.DiscretizedLogistic
close = torch.testing.assert_close
LEVELS = [2, 3, 32, 256, 1024]


def draw(levels, shape=(6, 70), dtype=torch.float64, form="element", seed=0):
    """(loc, logscale, x); the samples 0 and 1 hold the first and the last level."""
    g = torch.Generator().manual_seed(seed)
    level = torch.randint(0, levels, shape, generator=g)
    level[0], level[1] = 0, levels - 1
    x = level.double() / (levels - 1)
    loc = x + 0.2 * torch.randn(shape, generator=g, dtype=torch.float64)
    size = {"element": shape, "number": (), "row": shape[1:], "sample": (shape[0], 1)}[form]
    logscale = 2 * torch.randn(size, generator=g, dtype=torch.float64) - 3
    return loc.to(dtype), logscale.to(dtype), x.to(dtype)


@pytest.mark.parametrize("levels", LEVELS)
def test_the_formula_is_the_definition(levels):
    loc, logscale, x = draw(levels)
    expected = discretized_logistic_nll(x.numpy(), loc.numpy(), logscale.numpy(), levels)
    close(discretized_logistic.nll(x, loc, logscale, levels), torch.from_numpy(expected), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("levels", LEVELS)
def test_the_masses_sum_to_1(backend, levels):
    x = torch.arange(levels, dtype=torch.float64).unsqueeze(1) / (levels - 1)
    loc, logscale = torch.full_like(x, 0.3), torch.tensor(-2.0, dtype=torch.float64)
    settings = {"likelihood": Logistic(levels), "backend": backend}
    for terms in (-vk.nll((loc, logscale), x, **settings), vk.log_prob((loc, logscale), x, **settings)):
        close(terms.exp().sum(), torch.ones((), dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("form", ["element", "number", "row", "sample"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_and_gradients(backend, levels, form, dtype):
    """The loss and the terms, against the formula in float64, under a random incoming gradient."""
    loc, logscale, x = draw(levels, dtype=dtype, form=form)
    x = x.double() if dtype == torch.float64 else x.float()
    incoming = torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def outcome(f):
        inputs = [t.detach().clone().requires_grad_() for t in (loc, logscale)]
        value = f(inputs)
        return value, *torch.autograd.grad(value, inputs, incoming.to(value.dtype))

    settings = {"likelihood": Logistic(levels)}
    ours, theirs = (outcome(lambda p, b=b: vk.nll(p, x, backend=b, **settings)) for b in (backend, "torch"))
    wide = [t.detach().double().requires_grad_() for t in (loc, logscale)]
    value = discretized_logistic.nll(x.double(), *wide, levels).sum(1)
    truth = value, *torch.autograd.grad(value, wide, incoming)
    for a, b, t in zip(ours, theirs, truth, strict=True):
        check(a, b, t, dtype, "nll and gradients", "discretized_logistic")
    terms = vk.log_prob((loc, logscale), x, backend=backend, **settings)
    close(terms.double().sum(1), -value.detach(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pictures_of_5_bits(backend):
    """What NVAE and VDVAE train with: 32 levels, whose probabilities sum to 1 beside a scale for all pixels, and ten
    logistics for each channel."""
    x = torch.arange(32)[:, None].float() / 31
    logscale = torch.full((), -3.0)
    nll = vk.nll((torch.full((32, 1), 0.5), logscale), x, likelihood=Logistic(32), backend=backend)
    close(nll.neg().exp().sum(), torch.ones(()))
    likelihood = vk.likelihoods.DiscretizedLogisticMixture(components=10, levels=32)
    g = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 32, (1, 3, 2, 1), generator=g, dtype=torch.uint8)
    packed = torch.randn(1, 100, 2, 1, generator=g)
    ours, theirs = (vk.nll(packed, t, likelihood=likelihood, backend=backend) for t in (picture, picture.float() / 31))
    close(ours, theirs)
    close(ours, vk.nll(packed.double(), picture, likelihood=likelihood, backend="torch").float())


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_default_is_256_levels(backend):
    loc, logscale, x = draw(256, dtype=torch.float32)
    results = [
        vk.nll((loc, logscale), x, likelihood=likelihood, backend=backend)
        for likelihood in ("discretized_logistic", Logistic(), Logistic(levels=256))
    ]
    assert all(torch.equal(r, results[0]) for r in results)
    other = vk.nll((loc, logscale), x, likelihood=Logistic(255), backend=backend)
    assert not torch.allclose(other, results[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_uint8_holds_the_levels(backend, dtype):
    loc, logscale, x = draw(32, dtype=torch.float64)
    loc, logscale = loc.to(dtype), logscale.to(dtype)
    levels = (x * 31).round().to(torch.uint8)
    settings = {"likelihood": Logistic(32), "backend": backend}
    wide = x if dtype == torch.float64 else x.float()
    close(vk.nll((loc, logscale), levels, **settings), vk.nll((loc, logscale), wide, **settings))
    close(vk.log_prob((loc, logscale), levels, **settings), vk.log_prob((loc, logscale), wide, **settings))


def test_second_derivatives_and_torch_func_have_the_levels():
    loc, logscale, x = draw(8, (3, 4))
    f = lambda loc, s: vk.nll((loc, s), x, likelihood=Logistic(8)).sum()  # noqa: E731
    g = lambda loc, s: discretized_logistic.nll(x, loc, s, 8).sum()  # noqa: E731
    ours, theirs = (torch.autograd.functional.hessian(h, (loc, logscale)) for h in (f, g))
    for a, b in zip(ours, theirs, strict=True):
        for one, other in zip(a, b, strict=True):
            close(one, other)
    close(torch.func.grad(f)(loc, logscale), torch.func.grad(g)(loc, logscale))


@pytest.mark.full
@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "triton"])
def test_compiled_whole(backend):
    torch._dynamo.reset()
    loc, logscale, x = draw(32, dtype=torch.float32)
    loc.requires_grad_()
    f = lambda loc: vk.nll((loc, logscale), x, likelihood=Logistic(32), backend=backend).mean()  # noqa: E731
    ours, theirs = torch.compile(f, fullgraph=True, backend="aot_eager")(loc), f(loc)
    close(ours, theirs)
    close(torch.autograd.grad(ours, loc), torch.autograd.grad(theirs, loc))


def test_the_object():
    made = Logistic(levels=32)
    assert repr(made) == "vk.likelihoods.DiscretizedLogistic(levels=32)"
    assert vk.likelihoods.Likelihood.from_dict(json.loads(json.dumps(made.to_dict()))) == made != Logistic()
    with pytest.raises(ValueError, match="levels: got 1, expected an integer >= 2"):
        Logistic(levels=1)
    with pytest.raises(TypeError, match="levels: got float, expected an integer"):
        Logistic(levels=32.0)


@pytest.mark.parametrize("levels", [2, 32])
def test_the_distribution(levels):
    loc, logscale, x = draw(levels, (4, 5))
    p = Logistic(levels).distribution((loc, logscale), validate_args=True)
    close(p.log_prob(x), vk.log_prob((loc, logscale), x, likelihood=Logistic(levels)))
    support = p.enumerate_support()
    assert len(support) == levels
    masses = torch.stack([p.log_prob(v) for v in support]).exp()
    close(masses.sum(0), torch.ones_like(loc))
    close((masses * support).sum(0), p.mean)
    close((masses * support.square()).sum(0) - p.mean.square(), p.variance, atol=1e-10, rtol=1e-6)
    close(masses.cumsum(0)[:-1], torch.stack([p.cdf(v) for v in support])[:-1])
    assert torch.isin((p.sample((50,)) * (levels - 1)).round(), torch.arange(levels).double()).all()
    with pytest.raises(ValueError, match="support"):
        p.log_prob(x + 0.3 / (levels - 1))
    assert p.expand((2, 4, 5)).log_prob(x).shape == (2, 4, 5)


def test_a_vae_gives_means_of_its_levels():
    torch.manual_seed(0)
    vae = vk.mlp_vae((5,), 2, hidden=(4,), likelihood=Logistic(levels=2), outputs=2)
    x = torch.randint(0, 2, (6, 5), dtype=torch.uint8)
    vae.loss(x).backward()
    mu, _ = vae.encode(x)
    close(mu, vae.encode(x.float())[0])  # the encoder gets the levels as numbers in [0, 1]
    loc, logscale = vae.decode(mu)
    expected = torch.sigmoid((loc - 0.5) / logscale.exp())  # the mass of the upper level
    close(vae.reconstruct(x), expected.detach())


# ---------------------------------------------------------------- values that are no level


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(first_calls, "_calls", {})
    monkeypatch.setattr(first_calls, "_warned", set())


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.tensor([[0.0, 1.0], [0.5, 1.0]]), "got values such as 0.5 that are none of the 32 levels"),
        (torch.tensor([[0, 31], [255, 1]], dtype=torch.uint8), r"got values from 0 to 8.2\d+, expected \[0, 1\]"),
        (torch.tensor([[0.0, 31.0], [2.0, 1.0]]), r"got values from 0 to 31, expected \[0, 1\] in 31 steps"),
        (torch.tensor([[-1.0, 1.0], [0.0, -0.5]]), r"got values from -1 to 1, expected \[0, 1\] in 31 steps"),
    ],
)
@pytest.mark.parametrize("likelihood", [Logistic(32), vk.likelihoods.DiscretizedLogisticMixture(1, 32, 1)])
def test_the_first_calls_warn(fresh, x, said, likelihood):
    mixture = likelihood.name != "discretized_logistic"
    x = x[:, None] if mixture else x
    recon = torch.zeros(2, 3, 2) if mixture else (torch.zeros(2, 2), torch.zeros(()))
    with pytest.warns(UserWarning, match=said):
        vk.nll(recon, x, likelihood=likelihood)


def test_right_levels_warn_of_nothing(fresh):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for levels in LEVELS:
            loc, logscale, x = draw(levels, dtype=torch.float32)
            vk.nll((loc, logscale), x, likelihood=Logistic(levels))
            first_calls._calls.clear()
        vk.nll((loc, logscale), torch.full_like(x, 0.5), likelihood="discretized_logistic")  # between two levels


def test_the_doctor_finds_what_is_no_level():
    torch.manual_seed(0)
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 6))).float() / 255
    vae = vk.mlp_vae((6,), 2, hidden=(8,), likelihood=Logistic(levels=32), outputs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = vk.diagnose(vae, x)
    text = str(found)
    assert "at no level" in text and "expected [0, 1] in 31 steps" in text
    assert "at no level" not in str(vk.diagnose(vae, (x * 31).round() / 31))
