"""The objects of vk.likelihoods, which an argument takes in place of a name; and recon as a mapping from names to
parameters."""

import copy
import dataclasses
import inspect
import json
import pickle
from types import SimpleNamespace

import pytest
import torch
from cases import LIKELIHOODS, draw
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import vae_kernels as vk
from vae_kernels import formulas, likelihoods
from vae_kernels.core import checks
from vae_kernels.likelihoods import Likelihood

# those whose name alone is a likelihood; test_table_arguments.py has the object of a table
CLASSES = {made.name: made for made in likelihoods._CLASSES if made.name in formulas.ALL}
B, L = 6, 3
same = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def batch(name):
    """(recon as a tuple of parameters, x)"""
    if name == "categorical":
        return (torch.randn(B, 4, 2),), torch.randint(0, 4, (B, 2))
    if name in formulas.PIXEL:
        return (torch.randn(B, 100, 2),), torch.randint(0, 256, (B, 3, 2), dtype=torch.uint8)
    if name in formulas.ROW:
        return (torch.randn(B, 5),), torch.randint(0, 4, (B, 5))
    x, params = draw(name, (B, 5))
    return params, x


def named(name, params):
    return dict(zip(formulas.ALL[name].PARAMETERS, params, strict=True))


# --- the objects


# The classes of version 0.1, whose names must never change. A new likelihood needs no line here.
FOR_EVER = {
    "bernoulli": "Bernoulli",
    "gaussian": "Gaussian",
    "laplace": "Laplace",
    "continuous_bernoulli": "ContinuousBernoulli",
    "discretized_logistic": "DiscretizedLogistic",
    "poisson": "Poisson",
    "negative_binomial": "NegativeBinomial",
    "zinb": "ZeroInflatedNegativeBinomial",
    "categorical": "Categorical",
}


def test_there_is_one_class_for_each_name():
    assert tuple(CLASSES) == vk.LIKELIHOODS
    for name, title in FOR_EVER.items():
        assert getattr(vk.likelihoods, title) is CLASSES[name] and CLASSES[name].__name__ == title


@pytest.mark.parametrize("made", CLASSES.values(), ids=CLASSES)
def test_an_object_is_a_value(made):
    one, other = made(), made()
    assert one == other and hash(one) == hash(other) and one is not other
    assert {one: "here"}[other] == "here"
    assert all(one != c() for c in CLASSES.values() if c is not made) and one != made.name
    for again in (
        eval(repr(one), {"vk": vk}),
        Likelihood.from_dict(json.loads(json.dumps(one.to_dict()))),
        made.from_dict(one.to_dict()),
        pickle.loads(pickle.dumps(one)),
        copy.deepcopy(one),
        dataclasses.replace(one),
    ):
        assert again == one and type(again) is made
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "another"
    assert made.__module__ == "vae_kernels.likelihoods" and formulas.ALL[made.name].__doc__ in made.__doc__


def test_what_a_dict_looks_like():
    assert vk.likelihoods.ZeroInflatedNegativeBinomial().to_dict() == {"name": "zinb"}
    assert repr(vk.likelihoods.ZeroInflatedNegativeBinomial()) == "vk.likelihoods.ZeroInflatedNegativeBinomial()"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Likelihood.from_dict({"name": "normal"}), "got {'name': 'normal'}, expected a dict whose \"name\" is"),
        (lambda: Likelihood.from_dict({}), "got {}, expected a dict whose \"name\" is one of 'bernoulli', 'gaussian',"),
        (lambda: Likelihood.from_dict("gaussian"), "got 'gaussian', expected a dict"),
        (
            lambda: vk.likelihoods.Poisson.from_dict({"name": "zinb"}),
            "got {'name': 'zinb'}, expected a dict whose \"name\" is one of 'poisson'",
        ),
        (
            lambda: Likelihood.from_dict({"name": "zinb", "levels": 3}),
            "got the options 'levels', expected those of ZeroInflatedNegativeBinomial: None",
        ),
    ],
)
def test_a_dict_that_is_none_of_an_object(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value).startswith("state: ") and words in str(error.value)


def test_a_likelihood_may_have_options(monkeypatch):
    """The formula names the options and their defaults, and the class takes, shows and saves these options."""
    toy = SimpleNamespace(PARAMETERS=("loc",), OPTIONS={"levels": 256, "low": 0.0}, __doc__="A toy.")
    made = likelihoods._class_of("toy_of_levels", toy)
    monkeypatch.setattr(likelihoods, "_CLASSES", (*likelihoods._CLASSES, made))
    one = made(levels=32)
    assert one == made(levels=32, low=0.0) != made() and len({one, made(levels=32), made()}) == 2
    assert repr(one) == "vk.likelihoods.ToyOfLevels(levels=32, low=0.0)"
    assert one.to_dict() == {"name": "toy_of_levels", "levels": 32, "low": 0.0}
    assert Likelihood.from_dict(one.to_dict()) == one and Likelihood.from_dict({"name": "toy_of_levels"}) == made()
    with pytest.raises(ValueError, match="got the options 'bins', expected those of ToyOfLevels: 'levels', 'low'"):
        Likelihood.from_dict({"name": "toy_of_levels", "bins": 3})


# --- an object in place of a name


@pytest.mark.full("triton")
@pytest.mark.parametrize("name", CLASSES)
def test_the_object_is_the_name(backend, name):
    params, x = batch(name)
    params = tuple(p.requires_grad_() for p in params)
    mu, logvar = torch.randn(2, B, L).unbind()
    results = []
    for likelihood in (name, CLASSES[name]()):
        settings = {"likelihood": likelihood, "backend": backend}
        loss = vk.fused_elbo(params, x, mu, logvar, **settings)
        of_module = vk.FusedELBO(free_bits=(0.1, "per_dim"), **settings)(params, x, mu, logvar)
        results.append([loss, vk.nll(params, x, **settings), of_module, *torch.autograd.grad(loss, params)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_a_module_keeps_what_was_given():
    gaussian = vk.likelihoods.Gaussian()
    for likelihood in ("gaussian", gaussian):
        loss = vk.FusedELBO(likelihood=likelihood)
        vae = vk.mlp_vae((5,), L, hidden=(4,), likelihood=likelihood, obs_logvar=0.0)
        conv = vk.conv_vae((1, 6, 6), L, channels=(2,), likelihood=likelihood)
        for module in (loss, vae, conv, pickle.loads(pickle.dumps(vae)), copy.deepcopy(loss)):
            assert module.likelihood == likelihood and type(module.likelihood) is type(likelihood)
            assert f"likelihood={likelihood!r}" in repr(module)


def test_a_vae_with_an_object_does_what_one_with_a_name_does():
    x = torch.randint(0, 9, (B, 5), dtype=torch.uint8)
    results = []
    for likelihood in ("poisson", vk.likelihoods.Poisson()):
        torch.manual_seed(0)
        vae = vk.mlp_vae((5,), L, hidden=(4,), likelihood=likelihood)
        found = vk.diagnose(vae, x, log_p=(4, 8))
        log_p = vk.log_marginal_likelihood(vae, x, 8, generator=torch.Generator().manual_seed(1)).value
        results.append((vae(x), vae.reconstruct(x), vae.sample(2), log_p, torch.tensor(found.measures.nll)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_the_builders_name_what_is_wrong():
    with pytest.raises(ValueError, match="likelihood: 'categorical' needs a decoder with levels along dimension 1"):
        vk.mlp_vae((5,), L, likelihood=vk.likelihoods.Categorical())
    with pytest.raises(ValueError, match="outputs: got 3, expected 1 to 2 for 'gaussian'"):
        vk.mlp_vae((5,), L, likelihood=vk.likelihoods.Gaussian(), outputs=3)
    with pytest.raises(ValueError, match=r"likelihood: got 'gausian', expected one of .*; did you mean 'gaussian'"):
        vk.mlp_vae((5,), L, likelihood="gausian")


@pytest.mark.full
@pytest.mark.parametrize("where", ["argument", "attribute", "global"])
def test_an_object_is_a_constant_to_a_compiler(where):
    """torch.compile makes one graph. An equal object must not compile it again; another likelihood must."""
    torch._dynamo.reset()
    (loc, _), x = batch("gaussian")
    mu = torch.randn(B, L)
    counter = CompileCounterWithBackend("aot_eager")
    compile = lambda f: torch.compile(f, fullgraph=True, backend=counter)  # noqa: E731
    if where == "argument":
        f = compile(lambda likelihood: vk.fused_elbo(loc, x, mu, mu, likelihood=likelihood))
    elif where == "attribute":
        module = vk.FusedELBO()
        g = compile(module)

        def f(likelihood):
            module.likelihood = likelihood
            return g(loc, x, mu, mu)
    else:
        g = compile(lambda: vk.fused_elbo(loc, x, mu, mu, likelihood=GLOBAL["likelihood"]))

        def f(likelihood):
            GLOBAL["likelihood"] = likelihood
            return g()

    for n in (1, 2):
        for kind in (vk.likelihoods.Gaussian, vk.likelihoods.Laplace)[:n]:
            for _ in range(3):
                same(f(kind()), vk.fused_elbo(loc, x, mu, mu, likelihood=kind.name))
        assert counter.frame_count == n


GLOBAL = {}


# --- recon by names


@pytest.mark.full("triton")
@pytest.mark.parametrize("name", CLASSES)
def test_recon_by_names(backend, name):
    """Every function that takes a recon takes a mapping, with its keys in any order."""
    params, x = batch(name)
    params = tuple(p.requires_grad_() for p in params)
    mu, logvar = torch.randn(2, B, L).unbind()
    backwards = dict(reversed(named(name, params).items()))
    settings = {"likelihood": name, "backend": backend}
    results = []
    for recon in (params, backwards):
        loss = vk.fused_elbo(recon, x, mu, logvar, **settings)
        results.append([loss, vk.nll(recon, x, **settings), *torch.autograd.grad(loss, params)])
        if isinstance(recon, dict):
            repeated = {k: torch.cat([p, p]) for k, p in recon.items()}
        else:
            repeated = tuple(torch.cat([p, p]) for p in recon)
        torch.manual_seed(1)
        results[-1].append(vk.iwae(lambda z, r=repeated: r, x, mu, logvar, n_samples=2, **settings))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_what_has_a_default_may_be_left_out(backend):
    (loc, logvar), x = batch("gaussian")
    for name, second in (("gaussian", "logvar"), ("laplace", "logscale")):
        settings = {"likelihood": name, "backend": backend}
        assert torch.equal(vk.nll({"loc": loc}, x, **settings), vk.nll(loc, x, **settings))
        zero = vk.nll({"loc": loc, second: torch.zeros(())}, x, **settings)
        same(vk.nll({"loc": loc}, x, **settings), zero)
    settings = {"likelihood": "gaussian", "backend": backend}
    assert torch.equal(vk.nll({"loc": loc}, x, obs_logvar=0.3, **settings), vk.nll(loc, x, obs_logvar=0.3, **settings))
    assert torch.equal(vk.nll({"loc": loc}, x, obs_logvar=logvar, **settings), vk.nll((loc, logvar), x, **settings))


def test_a_parameter_in_the_middle_may_be_left_out(monkeypatch):
    """The parameters after the one that was left out keep their places. No likelihood has two defaults yet, so this
    test makes a toy."""
    toy = SimpleNamespace(PARAMETERS=("a", "b", "c", "d"), DEFAULTS={"b": 0.5, "c": 2.0, "d": 1.0}, SUPPORT=None)
    for registry in (formulas.LIKELIHOODS, formulas.ALL):
        monkeypatch.setitem(registry, "toy", toy)
    x = torch.randn(B, 5)
    for dtype in (torch.float64, torch.bfloat16):
        a, c = x.to(dtype), torch.ones(5, dtype=dtype)
        params = checks.parameters({"c": c, "a": a}, x, "toy", None)
        assert params[0] is a and params[2] is c and len(params) == 3
        same(params[1], torch.tensor(0.5, dtype=dtype if dtype == torch.float64 else torch.float32))
    with pytest.raises(ValueError, match="recon: the toy parameter a is missing: got 'b'; expected a, b, c, d"):
        checks.parameters({"b": x}, x, "toy", None)


class Named(nn.Module):
    """A decoder that gives a mapping, or a tuple of the same tensors."""

    def __init__(self, d, by_name):
        super().__init__()
        self.loc, self.logvar, self.by_name = nn.Linear(L, d), nn.Linear(L, d), by_name

    def forward(self, z):
        parts = {"logvar": self.logvar(z), "loc": self.loc(z)}
        return parts if self.by_name else (parts["loc"], parts["logvar"])


def test_a_decoder_may_give_a_mapping():
    """Every method of a VAE, `diagnose` and `log_marginal_likelihood` give the same numbers for a mapping and a
    tuple."""
    results = []
    x = torch.rand(B, 5)
    for by_name in (False, True):
        torch.manual_seed(0)
        vae = vk.VAE(nn.Linear(5, 2 * L), Named(5, by_name), likelihood="gaussian", latent_shape=L)
        found = vk.diagnose(vae, x, log_p=(4, 8)).measures
        draw = {"generator": torch.Generator().manual_seed(1)}
        log_p = vk.log_marginal_likelihood(vae, x, 8, **draw).value
        terms = vae.loss(x, return_terms=True)
        numbers = torch.tensor(
            [found.nll, found.square_ratio, found.residual, found.round_trip_data, found.log_p.value]
        )
        results.append((vae(x), terms.loss, vae.reconstruct(x), vae.sample(2, **draw), log_p, numbers))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert results[0][2].shape == x.shape


def test_one_output_in_a_tuple_is_diagnosed_as_the_output_itself():
    results = []
    for give in (lambda t: t, lambda t: (t,), lambda t: {"loc": t}):
        torch.manual_seed(0)
        decoder = nn.Linear(L, 5)
        decoder.register_forward_hook(lambda module, given, out, give=give: give(out))
        vae = vk.VAE(nn.Linear(5, 2 * L), decoder, likelihood="gaussian", obs_logvar=0.5, latent_shape=L)
        results.append(vk.diagnose(vae, torch.rand(B, 5), log_p=None).measures.square_ratio)
    assert results[0] == results[1] == results[2] is not None


@pytest.mark.parametrize("name", CLASSES)
def test_formulas_take_their_parameters_by_the_names_that_they_say(name):
    formula = formulas.ALL[name]
    options = tuple(getattr(formula, "OPTIONS", ()))
    assert tuple(inspect.signature(formula.nll).parameters) == ("x", *formula.PARAMETERS, *options)
    mean = inspect.signature(formula.mean).parameters
    assert tuple(mean) == (*formula.PARAMETERS, *options)
    assert {p for p in mean if mean[p].default is not inspect.Parameter.empty} >= {*formula.DEFAULTS, *options}
    for option in options:
        assert mean[option].default == formula.OPTIONS[option]


def test_one_graph_for_a_mapping():
    torch._dynamo.reset()
    (loc, logvar), x = batch("gaussian")
    mu = torch.randn(B, L)
    counter = CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, backend=counter)
    def f(loc, logvar):
        return vk.fused_elbo({"logvar": logvar, "loc": loc}, x, mu, mu, likelihood="gaussian")

    for _ in range(2):
        same(f(loc, logvar), vk.fused_elbo((loc, logvar), x, mu, mu, likelihood="gaussian"))
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_an_audit_of_a_loss_that_takes_a_mapping(name):
    """The audit finds the same for a mapping, with its keys in any order, as for a tuple."""
    params, x = batch(name)
    params, x = tuple(p.double() for p in params), x.double()
    mu, logvar = torch.randn(2, B, L).unbind()
    loss = lambda r, x, m, v: vk.fused_elbo(r, x, m, v, likelihood=name, beta=0.5)  # noqa: E731
    one, other = (
        vk.audit(loss, (recon, x, mu, logvar)) for recon in (params, dict(reversed(named(name, params).items())))
    )
    assert one.effective_beta == pytest.approx(0.5) == other.effective_beta
    assert (one.likelihood, one.equal, one.findings) == (other.likelihood, other.equal, other.findings)


@pytest.mark.parametrize("form", ["mapping", "tuple"])
def test_an_audits_texts_say_the_first_parameter(form):
    """The user pastes the call that the audit prints. So where the call needs the first parameter itself (for
    probabilities, and for an x of another shape), the call must write it as the user's recon has it."""
    p, x = torch.rand(B, 4), torch.rand(B, 2, 2)
    first = 'recon["logits"]' if form == "mapping" else "recon[0]"
    mu, logvar = torch.randn(2, B, L).unbind()

    def loss(recon, x, mu, logvar):
        p = recon["logits"] if form == "mapping" else recon[0]
        nll = -(x.flatten(1) * p.log() + (1 - x.flatten(1)) * (1 - p).log()).sum()
        return (nll + vk.gaussian_kl(mu, logvar, reduction="sum")) / len(x)

    found = vk.audit(loss, ({"logits": p} if form == "mapping" else (p,), x, mu, logvar))
    assert found.equal == f"vk.fused_elbo(torch.logit({first}), x.reshape({first}.shape), mu, logvar)"


def test_an_audit_of_names_that_no_likelihood_has():
    words = "recon: got the keys 'mean', expected the parameters of one likelihood, of background_log_mean, dropout"
    with pytest.raises(ValueError, match=words):
        vk.audit(lambda *a: None, ({"mean": torch.rand(B, 4)}, torch.rand(B, 4), torch.rand(B, 2), torch.rand(B, 2)))


def test_the_monitor_takes_logits_by_their_name():
    logits, x = torch.full((B, 4), 30.0), torch.rand(B, 4)
    mu = torch.randn(B, L)
    rows = []
    for recon in (logits, {"logits": logits}):
        monitor = vk.Monitor(every=1, to=rows.append)
        monitor.update(vk.fused_elbo(recon, x, mu, mu, return_terms=True), logits=recon)
        monitor.close()
    assert rows[0] == rows[1] and rows[0]["saturated"] == 1
    terms = vk.fused_elbo(logits, x, mu, mu, return_terms=True)
    with pytest.raises(ValueError, match="logits: got the keys 'loc', expected 'logits'"):
        vk.Monitor(every=1).update(terms, logits={"loc": logits})
