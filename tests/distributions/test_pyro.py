"""vae_kernels.integrations.pyro: programs of Pyro give the numbers of Pyro's own classes."""

import builtins
import importlib
import sys

import pytest
import torch
import torch.distributions as td
from families import FORMS, HAS_TORCH, NAMES, params_of

import vae_kernels as vk

pyro = pytest.importorskip("pyro", reason='Pyro is not installed: pip install "vae-kernels[pyro]"')
import pyro.distributions as theirs  # noqa: E402
from pyro import poutine  # noqa: E402
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, config_enumerate  # noqa: E402

from vae_kernels.integrations import pyro as ours  # noqa: E402

LATENT = ["gaussian", "laplace", "continuous_bernoulli"]
B, G = 6, 4


@pytest.fixture(autouse=True)
def clean():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)


def kind(name, module=ours):
    return getattr(module, vk.distributions.BY_LIKELIHOOD[name].__name__)


def their_arguments(name, *params):
    """The arguments of Pyro's class."""
    if name == "poisson":
        return {"rate": torch.exp(params[0])}
    if name in ("negative_binomial", "zinb"):
        log_mean, log_theta, *dropout = params
        arguments = {"total_count": torch.exp(log_theta), "logits": log_mean - log_theta}
        return arguments | ({"gate_logits": dropout[0]} if dropout else {})
    return FORMS[name][-1 if len(params) > 1 else 0](*params)  # loc and scale, or logits


def observed(module, name, params, x, mask):
    """A program with a plate that takes a part of the data, and a mask."""

    def model():
        scale = pyro.param("scale", torch.tensor(0.3, dtype=torch.float64))
        mine = (params[0] + scale, *params[1:])
        arguments = their_arguments(name, *mine) if module is theirs else FORMS[name][0](*mine)
        with pyro.plate("batch", B, subsample=torch.tensor([0, 2, 5])) as i:
            made = kind(name, module)(**{k: v[i] for k, v in arguments.items()}).to_event(1)
            pyro.sample("x", made.mask(mask[i]), obs=x[i])

    return model


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
@pytest.mark.parametrize("name", [n for n in NAMES if n in HAS_TORCH or n == "zinb"])
def test_an_observed_site_has_pyros_loss_and_gradient(name, elbo):
    x, params = params_of(name, (B, G))
    mask = torch.tensor([True, True, False, True, True, True])
    results = []
    for module in (ours, theirs):
        pyro.clear_param_store()
        loss = elbo().differentiable_loss(observed(module, name, params, x, mask), lambda: None)
        (grad,) = torch.autograd.grad(loss, pyro.get_param_store()._params.values())
        results.append((loss.detach(), grad))
    # Pyro's continuous Bernoulli is torch's: it cuts an interval out
    rtol = 1e-4 if name == "continuous_bernoulli" else 1e-6
    torch.testing.assert_close(*results, rtol=rtol, atol=1e-6)


def test_an_observed_site_of_a_discretized_logistic():
    """Pyro has no such class: the loss is our own nll of the rows that the plate takes, times its scale."""
    x, params = params_of("discretized_logistic", (B, G))
    model = observed(ours, "discretized_logistic", params, x, torch.ones(B, dtype=torch.bool))
    nll = vk.nll((params[0] + 0.3, params[1]), x, likelihood="discretized_logistic")[[0, 2, 5]].sum()
    torch.testing.assert_close(torch.tensor(Trace_ELBO().loss(model, lambda: None)).double(), 2 * nll)


def latent(module, name, params):
    """(model, guide): z is latent, in a plate and in an event dimension; x is normal around z."""

    def arguments(shift):
        mine = (params[0] + shift, *params[1:])
        return their_arguments(name, *mine) if module is theirs else FORMS[name][0](*mine)

    def model(x):
        with pyro.plate("batch", B):
            z = pyro.sample("z", kind(name, module)(**arguments(0.0)).to_event(1))
            pyro.sample("x", kind("gaussian", module)(z, 0.5).to_event(1), obs=x)

    def guide(x):
        shift = pyro.param("shift", torch.tensor(0.2, dtype=torch.float64))
        with pyro.plate("batch", B):
            pyro.sample("z", kind(name, module)(**arguments(shift)).to_event(1))

    return model, guide


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
@pytest.mark.parametrize("name", LATENT)
def test_a_latent_site_has_pyros_loss_and_gradient(name, elbo):
    _, params = params_of(name, (B, G))
    x, results = torch.randn(B, G, dtype=torch.float64), []
    for module in (ours, theirs):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        loss = elbo(num_particles=2, vectorize_particles=True).differentiable_loss(*latent(module, name, params), x)
        (grad,) = torch.autograd.grad(loss, pyro.get_param_store()._params.values())
        results.append((loss.detach(), grad))
    rtol = 1e-3 if name == "continuous_bernoulli" else 1e-6  # as above
    torch.testing.assert_close(*results, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_a_latent_site_that_is_enumerated(name):
    results = []
    for module in (ours, theirs):

        def model(x, module=module):
            logits = pyro.param("logits", torch.tensor([0.3, -0.7, 1.0]))
            with pyro.plate("batch", 3):
                made = module.Categorical(logits=logits) if name == "categorical" else module.Bernoulli(logits=logits)
                k = pyro.sample("k", made, infer={"enumerate": "parallel"})
                pyro.sample("x", module.Normal(k.float(), 1.0), obs=x)

        pyro.clear_param_store()
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        loss = elbo.differentiable_loss(config_enumerate(model), lambda x: None, torch.tensor([0.1, 1.0, 0.4]))
        (grad,) = torch.autograd.grad(loss, pyro.get_param_store()._params.values())
        results.append((loss.detach(), grad))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_mixin(name):
    """A sample by a call, shape(), expand_by, a mask, an event dimension, and a trace that samples and replays."""
    x, params = params_of(name, (B, G))
    made = kind(name)(**FORMS[name][0](*params))
    assert isinstance(made, vk.distributions.BY_LIKELIHOOD[name]) and made.shape() == (B, G)
    assert made().shape == (B, G) and made().requires_grad is False
    assert made.expand_by([3]).sample().shape == (3, B, G) and type(made.expand_by([3])) is type(made)
    event = made.to_event(1)
    assert (event.batch_shape, event.event_shape) == ((B,), (G,))
    masked = made.mask(torch.arange(G) > 0)
    assert (masked.log_prob(x)[:, 0] == 0).all() and torch.equal(masked.log_prob(x)[:, 1:], made.log_prob(x)[:, 1:])
    trace = poutine.trace(lambda: pyro.sample("x", event)).get_trace()
    trace.compute_log_prob()
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], event.log_prob(trace.nodes["x"]["value"]))


def test_kl_beside_pyros_normal():
    """The expm1 form, and no warning about two formulas that fit equally well."""
    p, q = ours.Normal(0.1, 0.5), theirs.Normal(0.0, 1.0)
    expected = td.kl_divergence(td.Normal(0.1, 0.5), td.Normal(0.0, 1.0))
    for one, other in ((p, q), (p, ours.Normal(0.0, 1.0)), (theirs.Normal(0.1, 0.5), ours.Normal(0.0, 1.0))):
        torch.testing.assert_close(td.kl_divergence(one, other), expected)
    event = td.kl_divergence(p.expand([3]).to_event(1), q.expand([3]).to_event(1))
    torch.testing.assert_close(event, 3 * expected)
    delta = theirs.Delta(torch.tensor(0.3))
    torch.testing.assert_close(td.kl_divergence(delta, p), -p.log_prob(torch.tensor(0.3)))


def test_without_pyro(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "pyro" and (len(args) < 4 or args[3] == 0):
            raise ModuleNotFoundError("No module named 'pyro'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "vae_kernels.integrations.pyro")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pyro: not installed, .*: pip install "vae-kernels\[pyro\]"'):
        importlib.import_module("vae_kernels.integrations.pyro")
