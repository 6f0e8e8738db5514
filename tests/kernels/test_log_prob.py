"""log p term by term: values and gradients against float64, for every compiled backend x likelihood x dtype x layout x
form x incoming gradient."""

import cases
import layouts
import levels
import pytest
import torch
import torch.nn.functional as F
from known import BACKENDS, compiled
from oracles import ORACLES
from torch.autograd import gradcheck, gradgradcheck

import vae_kernels as vk

pytestmark = pytest.mark.usefixtures("poisoned")
KERNELS = [name for name in BACKENDS if name != "torch"]

# each function makes an incoming gradient of the shape of x, [B, ...], from a generator
INCOMING = {
    "elements": lambda s, r: r(s),
    "one number": lambda s, r: r(()).expand(s),
    "samples": lambda s, r: r((s[0], *[1] * (len(s) - 1))).expand(s),
    "features": lambda s, r: r(s[1:]).expand(s),
}


def outcome(backend, likelihood, x, params, incoming="elements"):
    """log p, and the gradients of the parameters. A gradient of the shape of x is divided by the incoming gradient,
    which makes errors relative to it."""
    params = [p.detach().requires_grad_() for p in params]
    log_p = vk.log_prob(tuple(params), x, likelihood=likelihood, backend=backend)
    g = torch.Generator().manual_seed(7)
    r = lambda s: torch.randn(s, generator=g, dtype=torch.float64).to(log_p.dtype)  # noqa: E731
    incoming = INCOMING[incoming](x.shape, r)
    grads = torch.autograd.grad(log_p, params, incoming)
    assert all(g.dtype == p.dtype and g.shape == p.shape for p, g in zip(params, grads, strict=True))
    return log_p, *[g.double() / incoming.double() if g.shape == x.shape else g for g in grads]


def compare(backend, likelihood, x, params, incoming="elements"):
    wide = x.double() if x.is_floating_point() else x
    truth = outcome("torch", likelihood, wide, [p.double() for p in params], incoming)
    theirs = outcome("torch", likelihood, x, params, incoming)
    ours = outcome(backend, likelihood, x, params, incoming)
    dtype = params[0].dtype
    assert ours[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for i, each in enumerate(zip(ours, theirs, truth, strict=True)):
        cases.check(*each, dtype, f"gradient {i - 1}" if i else "log p", likelihood)


@pytest.mark.parametrize("shape", cases.SHAPES, ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), cases.pairs(BACKENDS))
def test_shapes(backend, likelihood, shape):
    compare(backend, likelihood, *cases.draw(likelihood, shape))


@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), cases.pairs(BACKENDS))
def test_dtypes(backend, likelihood, dtypes):
    compare(backend, likelihood, *cases.draw(likelihood, (7, 1100), dtypes))


@pytest.mark.parametrize("incoming", INCOMING)
@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("likelihood", ["gaussian", "zinb"])
@pytest.mark.full("triton")
def test_forms_of_parameters_and_gradients(backend, likelihood, form, incoming):
    compare(backend, likelihood, *cases.draw(likelihood, (6, 3, 5, 7), form=form), incoming)


@pytest.mark.parametrize("of_x", ["contiguous", *cases.LAYOUTS])
@pytest.mark.parametrize("of_params", ["contiguous", *cases.LAYOUTS])
@pytest.mark.full("triton")
def test_layouts(backend, of_x, of_params):
    """log p and the gradients lie in the order of the parameters, whatever the order of x is."""
    x, params = cases.draw("gaussian", (4, 3, 5, 7))
    lay = lambda t, name: cases.LAYOUTS.get(name, lambda t: t)(t)  # noqa: E731
    compare(backend, "gaussian", lay(x, of_x), [lay(p, of_params) for p in params])


@pytest.mark.parametrize("likelihood", ORACLES)
def test_the_values_are_those_of_the_oracle(likelihood):
    """scipy and mpmath, at their extremes, in float64."""
    x, params = cases.draw(likelihood, (1, 3001), cases.DTYPES[1])
    expected = -torch.from_numpy(ORACLES[likelihood]["nll"](x.numpy(), *[p.numpy() for p in params]))
    for backend in BACKENDS:
        if backend != "triton" or likelihood in cases.INTERPRETED:
            found = vk.log_prob(tuple(params), x, likelihood=likelihood, backend=backend)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@compiled
@pytest.mark.parametrize("likelihood", ORACLES)
def test_the_sum_is_minus_the_nll(likelihood):
    x, params = cases.draw(likelihood, (5, 700), cases.DTYPES[1])
    log_p = vk.log_prob(tuple(params), x, likelihood=likelihood)
    torch.testing.assert_close(-log_p.sum(1), vk.nll(tuple(params), x, likelihood=likelihood))


def test_where_the_incoming_gradient_is_0_the_gradient_is_0(backend):
    x, params = cases.draw("gaussian", (6, 40))
    keep = torch.rand(6, 40, generator=torch.Generator().manual_seed(1)) > 0.5
    spoilt = [cases.poisoned(p, keep).requires_grad_() for p in params]
    clean = [p.requires_grad_() for p in params]
    found = [
        torch.autograd.grad(vk.log_prob(tuple(p), x, likelihood="gaussian", backend=backend), p, keep.float())
        for p in (spoilt, clean)
    ]
    assert all(cases.same(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", ["logvar", "logscale"])
def test_a_default_that_is_not_0(backend, name):
    """A parameter that is left out has the formula's default."""
    likelihood = {"logvar": "gaussian", "logscale": "laplace"}[name]
    x, (loc, _) = cases.draw(likelihood, (5, 9))
    short, full = (
        vk.log_prob(recon, x, likelihood=likelihood, backend=backend)
        for recon in (loc, (loc, torch.full((), vk.likelihoods.formula_of(likelihood).DEFAULTS[name])))
    )
    assert torch.equal(short, full)


# ---------------------------------------------------------------- levels


@pytest.mark.parametrize("layout", ["contiguous", *layouts.LAYOUTS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_levels(backend, layout, dtype):
    logits, x = levels.draw(4, 9, (5, 7), dtype)
    logits = layouts.LAYOUTS.get(layout, lambda t: t)(logits).detach().requires_grad_()
    log_p = vk.log_prob(logits, x, likelihood="categorical", backend=backend)
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (grad,) = torch.autograd.grad(log_p, logits, g)
    wide = logits.detach().double().requires_grad_()
    truth = -F.cross_entropy(wide, x, reduction="none")
    (of_truth,) = torch.autograd.grad(truth, wide, g.double())
    theirs = vk.log_prob(logits, x, likelihood="categorical", backend="torch")
    (of_theirs,) = torch.autograd.grad(theirs, logits, g)
    cases.check(log_p, theirs, truth, dtype, "log p")
    cases.check(grad, of_theirs, of_truth, dtype, "gradient", size=1.0)


@pytest.mark.parametrize("incoming", INCOMING)
@pytest.mark.parametrize("positions", [(), (6,)], ids=str)
def test_gradients_of_levels(backend, positions, incoming):
    logits, x = levels.draw(5, 4, positions, torch.float64)
    found = [outcome(b, "categorical", x, (logits,), incoming) for b in (backend, "torch")]
    for ours, truth in zip(*found, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)


def test_what_is_no_level_gives_nan(backend):
    logits, x = levels.draw(3, 5, (4,))
    x[1, 2], x[2, 0] = 5, -1
    nan = vk.log_prob(logits, x, likelihood="categorical", backend=backend).isnan()
    assert torch.equal(nan, (x < 0) | (x > 4))


# ---------------------------------------------------------------- other derivatives


@pytest.mark.parametrize("likelihood", ["gaussian", "negative_binomial", "bernoulli"])
@pytest.mark.full("triton")
def test_derivatives_of_every_input_and_second_ones(backend, likelihood):
    x, params = cases.draw(likelihood, (2, 3), cases.DTYPES[1])
    x = torch.rand(2, 3, dtype=torch.float64) if likelihood == "bernoulli" else x
    x = x if likelihood == "negative_binomial" else x.requires_grad_()
    mild = [(0.3 * torch.randn(p.shape, dtype=torch.float64)).requires_grad_() for p in params]
    f = lambda x, *p: vk.log_prob(tuple(p), x, likelihood=likelihood, backend=backend)  # noqa: E731
    assert gradcheck(f, (x, *mild)) and gradgradcheck(f, (x, *mild))


def test_torch_func():
    """vmap, jvp and a Jacobian take the formula, as those of fused_elbo do."""
    x, (loc, logvar) = cases.draw("gaussian", (4, 6), cases.DTYPES[1])
    f = lambda loc, x: vk.log_prob((loc, logvar), x, likelihood="gaussian")  # noqa: E731
    one = lambda loc, x: vk.log_prob(loc, x, likelihood="gaussian")  # noqa: E731
    batched = torch.func.vmap(one)(loc, x)
    assert torch.equal(batched, vk.log_prob(loc, x, likelihood="gaussian", backend="torch"))
    tangent = torch.randn_like(loc)
    _, forward = torch.func.jvp(lambda loc: f(loc, x), (loc,), (tangent,))
    torch.testing.assert_close(forward, tangent * (x - loc) * (-logvar).exp())


@compiled
@pytest.mark.full
@pytest.mark.parametrize("likelihood", ["gaussian", "zinb", "categorical"])
@pytest.mark.parametrize("incoming", INCOMING)
def test_compile_without_a_graph_break(likelihood, incoming):
    if likelihood == "categorical":
        logits, x = levels.draw(4, 5, (6,))
        params = [logits.nan_to_num(neginf=-9.0)]
    else:
        x, params = cases.draw(likelihood, (4, 6), form="column")
    params = [p.requires_grad_() for p in params]

    def run(f):
        log_p = f(params, x)
        g = torch.Generator().manual_seed(1)
        r = lambda s: torch.randn(s, generator=g)  # noqa: E731
        return log_p, *torch.autograd.grad(log_p, params, INCOMING[incoming](x.shape, r))

    f = lambda params, x: vk.log_prob(tuple(params), x, likelihood=likelihood)  # noqa: E731
    for ours, theirs in zip(run(torch.compile(f, fullgraph=True)), run(f), strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)  # the extremes are among the values
