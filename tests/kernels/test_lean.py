"""The backend "lean": the tests of the compiled backends run with it too, and "auto" takes it where no kernels are.

The quick tier has a few cases of the tables of cases.py. The test marked `full` runs the other tests of this folder
with "lean" among the backends."""

import math
import os
import re
import subprocess

import cases
import pytest
import test_log_prob
import torch
from oracles import ORACLES
from places import DOCS, PYTEST, TESTS
from test_objective import compare, outcome, posterior
from torch._subclasses.fake_tensor import FakeTensorMode

import vae_kernels as vk
from vae_kernels.backends import choice, lean, reference
from vae_kernels.backends.lean import likelihood as passes
from vae_kernels.formulas import LIKELIHOODS

SHAPE = (7, 3, 6, 5)
WITH_LEAN = ["test_objective.py", "test_weights.py", "test_log_prob.py", "test_extremes.py", "test_draws.py"]

# the noise of the other backends; the ends of what the formulas of the reference compute in float32; and one x for the
# draws of n_samples
NOT_PROMISED = (
    "at_the_ends and (sample_and_its_kl or discretized_logistic or negative_binomial_mixture)"
    " or test_nobody_copies_x_or_its_weight"
)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of few elements: the matrices of a small test are cut by rows and by columns."""
    for name in ("_BLOCK", "_KEPT"):
        monkeypatch.setattr(passes, name, 32)
    monkeypatch.setattr(passes, "_OF_THREAD", 0)


@pytest.fixture
def alone(monkeypatch):
    """No library of ours and no Triton."""
    for name in ("cpu", "cuda", "triton"):
        monkeypatch.setitem(choice._MISSING, name, "the compiled library was not built")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", cases.SHAPES, ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_shapes(likelihood, shape, reduction):
    x, params = cases.draw(likelihood, shape)
    compare("lean", likelihood, x, params, posterior(shape[0], (5,), torch.float32), reduction)


@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_dtypes(likelihood, dtypes):
    x, params = cases.draw(likelihood, (6, 1037), dtypes)
    compare("lean", likelihood, x, params, posterior(6, (33,), dtypes[0], prior=True), "none")


@pytest.mark.parametrize("layout", ["contiguous", *cases.LAYOUTS])
@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("weight", [None, *cases.WEIGHTS])
@pytest.mark.parametrize("likelihood", [name for name, f in LIKELIHOODS.items() if len(f.PARAMETERS) > 1])
def test_blocks_of_every_layout(small_blocks, likelihood, form, layout, weight):
    x, params = cases.draw(likelihood, SHAPE, form=form)
    lay = cases.LAYOUTS.get(layout, lambda t: t)
    x, params = lay(x), [lay(params[0]), *params[1:]]
    weight = None if weight is None else cases.weight(cases.WEIGHTS[weight](SHAPE), torch.float32)
    compare("lean", likelihood, x, params, posterior(SHAPE[0], (3,), torch.float32), weight=weight)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("form", ["element", "sample", "row"])
@pytest.mark.parametrize("likelihood", ORACLES)
def test_poison_where_the_weight_is_0(likelihood, form, dtype):
    x, params = cases.draw(likelihood, SHAPE)
    weight = cases.weight(cases.WEIGHTS[form](SHAPE), dtype)
    keep, latent = (weight != 0).expand(SHAPE), posterior(SHAPE[0], (3,), torch.float32)
    bad = cases.poisoned(x, keep), [cases.poisoned(p, keep) for p in params], latent
    ours = compare("lean", likelihood, x, params, latent, "none", poisoned=bad, weight=weight)
    for name, value in ours.items():
        assert not name.startswith("param") or not value[~keep].any(), name


@pytest.mark.parametrize("incoming", test_log_prob.INCOMING)
@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("likelihood", ORACLES)
def test_terms(likelihood, form, incoming):
    test_log_prob.compare("lean", likelihood, *cases.draw(likelihood, (6, 3, 5, 7), form=form), incoming)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("likelihood", ORACLES)
def test_blocks_change_roundings_alone(small_blocks, likelihood, rows, monkeypatch):
    x, params = cases.draw(likelihood, (rows, 131), cases.DTYPES[1])
    latent = posterior(rows, (3,), torch.float64)
    cut = outcome("lean", likelihood, x, params, latent, "none")
    monkeypatch.setattr(passes, "_BLOCK", 1 << 20)
    for name, value in outcome("lean", likelihood, x, params, latent, "none").items():
        torch.testing.assert_close(cut[name], value, rtol=1e-12, atol=1e-12)


def test_two_backward_passes_of_one_graph():
    x, params = cases.draw("gaussian", (5, 9))
    params = [p.requires_grad_() for p in params]
    nll = vk.nll(tuple(params), x, likelihood="gaussian", backend="lean")
    incoming = torch.linspace(-1, 2, 5)
    first = torch.autograd.grad(nll, params, incoming, retain_graph=True)
    again = torch.autograd.grad(nll, params, 3 * incoming)
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(3 * a, b)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(nll, params, incoming)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("given", ["kl", "posterior", "none"])
def test_the_usual_loss(given, reduction, dtype):
    """The likelihood and the KL from few operations, for any incoming gradient, and twice."""
    g = torch.Generator().manual_seed(0)
    recon, x = torch.randn(4, 3, 5, generator=g), torch.rand(4, 3, 5, generator=g)
    latent = {"kl": [torch.rand(4, generator=g)], "posterior": torch.randn(2, 4, 6, generator=g), "none": []}[given]
    found = []
    for backend, to in (("lean", dtype), ("torch", torch.float64)):
        inputs = [recon.to(to).requires_grad_(), *(t.to(to).requires_grad_() for t in latent)]
        settings = {"reduction": reduction, "backend": backend}
        if given == "none":
            loss = vk.nll(inputs[0], x.to(to), **settings)
        else:
            latents = {"kl": inputs[1]} if given == "kl" else dict(zip(("mu", "logvar"), inputs[1:], strict=True))
            loss = vk.fused_elbo(inputs[0], x.to(to), **latents, rec_weight=0.7, beta=3.0, **settings)
        first = torch.autograd.grad(loss, inputs, torch.tensor(-1.5, dtype=to), retain_graph=True)
        again = torch.autograd.grad(loss, inputs, torch.tensor(0.5, dtype=to))
        found.append((loss, *first, *again))
        if backend == "lean":
            assert loss.grad_fn.name().startswith("_Loss") == (given == "posterior")  # else it is PyTorch's own
            with pytest.raises(RuntimeError, match="backward through the graph a second time"):
                torch.autograd.grad(loss, inputs)
    for ours, truth in zip(*found, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, truth.to(dtype))


def test_modes_leave_nothing_in_the_memory_that_a_thread_keeps():
    """The first call of a shape in inference mode, or with fake tensors, and then a usual call of this shape."""
    x, recon = torch.rand(3, 17), torch.randn(3, 17)
    truth = vk.nll(recon.double(), x.double(), backend="torch").float()
    with torch.inference_mode():
        torch.testing.assert_close(vk.nll(recon, x, backend="lean"), truth)
    torch.testing.assert_close(vk.nll(recon.requires_grad_(), x, backend="lean"), truth)
    with FakeTensorMode():
        fake = torch.empty(3, 19, requires_grad=True)
        assert torch.autograd.grad(vk.nll(fake, fake.detach(), backend="lean").sum(), fake)[0].shape == (3, 19)
    real = torch.randn(3, 19)
    assert type(vk.nll(real, real.sigmoid(), backend="lean")) is torch.Tensor


def gradients(backend, inputs, x, **settings):
    """The gradients of a function of the first derivatives."""
    recon, mu, logvar = (t.detach().requires_grad_() for t in inputs)
    loss = vk.fused_elbo(recon, x, mu, logvar, backend=backend, **settings)
    first = torch.autograd.grad(loss, (recon, mu, logvar), create_graph=True)
    return torch.autograd.grad(sum(g.pow(3).sum() for g in first), (recon, mu, logvar))


def test_second_derivatives_are_those_of_the_reference():
    g = torch.Generator().manual_seed(0)
    inputs = [torch.randn(4, n, generator=g, dtype=torch.float64) for n in (9, 2, 2)]
    x = torch.rand(4, 9, generator=g, dtype=torch.float64)
    for ours, theirs in zip(gradients("lean", inputs, x), gradients("torch", inputs, x), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["x", "weight"])
def test_the_gradient_of_a_target_and_of_a_weight(name):
    g = torch.Generator().manual_seed(0)
    tensors = {"x": torch.rand(4, 9, generator=g), "weight": torch.rand(4, 9, generator=g)}
    tensors[name].requires_grad_()
    recon = torch.randn(4, 9, generator=g)
    found = [
        torch.autograd.grad(vk.nll(recon, **tensors, backend=backend).sum(), tensors[name])[0]
        for backend in ("lean", "torch")
    ]
    assert found[0].any()
    assert torch.equal(*found)


# ---------------------------------------------------------------- what "auto" takes


def test_auto_takes_lean_where_there_are_no_kernels(alone):
    t = torch.zeros(3, 2)
    assert choice.choose("auto", (t,)) is lean
    assert choice.choose("auto", (t.to("meta"),)) is reference
    found = []
    torch.func.vmap(lambda t: found.append(choice.choose("auto", (t,))) or t)(t)
    assert found == [reference]


def test_auto_trains_without_kernels(alone):
    """One line of each public function, and a step of a model."""
    torch.manual_seed(0)
    vae = vk.mlp_vae((9,), 2, (4,))
    before = [p.clone() for p in vae.parameters()]
    optimizer = torch.optim.SGD(vae.parameters(), lr=0.1)
    vae(torch.rand(8, 9)).backward()
    optimizer.step()
    assert all((p != b).any() for p, b in zip(vae.parameters(), before, strict=True))


def test_lean_is_refused_under_a_transform():
    with pytest.raises(ValueError, match=r"backend='lean' cannot be used: .* only backend='torch' differentiates"):
        torch.func.grad(lambda t: vk.nll(t, torch.rand(3, 2), backend="lean").sum())(torch.zeros(3, 2))


def test_compiled_it_is_one_graph_of_plain_operations():
    x, recon, mu = torch.rand(4, 9), torch.randn(4, 9), torch.randn(4, 2)

    def loss(recon, x, mu):
        return vk.fused_elbo(recon, x, mu, mu, backend="lean")

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(recon, x, mu), loss(recon, x, mu))


# ---------------------------------------------------------------- the noise


def moments(shape=(5, 3), dtype=torch.float32):
    g = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=g).to(dtype).requires_grad_() for _ in range(2)]


@pytest.mark.parametrize("n_samples", [None, 4])
@pytest.mark.parametrize("generator", [False, True])
def test_the_noise_is_that_of_randn(n_samples, generator):
    zeros = torch.zeros(5, 3)
    draw = lambda: {"generator": torch.Generator().manual_seed(7)} if generator else {}  # noqa: E731
    torch.manual_seed(7)
    expected = torch.randn((5, 3) if n_samples is None else (n_samples, 5, 3), **draw())
    for per_dim in (False, True):
        torch.manual_seed(7)
        z, _ = vk.sample_kl(zeros, zeros, per_dim=per_dim, n_samples=n_samples, backend="lean", **draw())
        assert torch.equal(z, expected)


def test_a_shard_has_the_noise_of_the_other_backends():
    zeros, found = torch.zeros(5, 3), []
    for backend in ("lean", "torch"):
        torch.manual_seed(3)
        found.append(vk.reparameterize(zeros, zeros, shard=vk.Shard(2, 9), backend=backend))
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("n_samples", [None, 3])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(6, 8), (6,), (2, 4, 3), (0, 4)], ids=str)
def test_the_sample_and_its_kl(shape, packed, n_samples, dtype):
    if packed and len(shape) == 1:
        pytest.skip("two numbers in one need a dimension 1")
    eps = torch.randn(*(() if n_samples is None else (n_samples,)), *shape, generator=torch.Generator().manual_seed(2))
    results = []
    for backend, to in (("torch", torch.float64), ("torch", dtype), ("lean", dtype)):
        inputs = [torch.cat(moments(shape, dtype), 1)] if packed else moments(shape, dtype)
        inputs = [t.detach().to(to).requires_grad_() for t in inputs]
        module = choice.choose(backend, ())
        draw = vk.core.objective.Draw(inputs[0], None if packed else inputs[1], (), None, n_samples, True, None, eps)
        z, kl = module.sample_kl(draw)
        incoming = [torch.randn(t.shape, generator=torch.Generator().manual_seed(3)).to(t.dtype) for t in (z, kl)]
        results.append((z, kl, *torch.autograd.grad((z, kl), inputs, incoming)))
    for truth, theirs, ours in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        cases.check(ours, theirs, truth, dtype, "sample")


@pytest.mark.parametrize("packed", [False, True])
def test_a_second_derivative_of_the_sample(packed):
    found = []
    for backend in ("lean", "torch"):
        inputs = [torch.cat(moments(dtype=torch.float64), 1)] if packed else moments(dtype=torch.float64)
        eps = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        draw = vk.core.objective.Draw(inputs[0], None if packed else inputs[1], (), None, None, True, None, eps)
        z, kl = choice.choose(backend, ()).sample_kl(draw)
        first = torch.autograd.grad(z.pow(2).sum() + kl.pow(2).sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(g.pow(2).sum() for g in first), inputs))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_estimate_of_the_kl_uses_the_noise_of_its_sample(alone):
    """log q(z) of a prior without a closed form needs the eps of z."""
    mu, logvar = moments()
    z, eps, _ = vk.sampling.sample_and_noise(mu, logvar, 4, None, None, "auto")
    torch.testing.assert_close(z, mu + torch.exp(logvar / 2) * eps)
    size = eps.numel()
    assert eps.mean().abs() < 6 / math.sqrt(size) and (eps.var() - 1).abs() < 6 * math.sqrt(2 / size)


# ---------------------------------------------------------------- the page, and the other tests of this folder


@pytest.mark.skipif(not DOCS.is_dir(), reason="the tests run without the source tree beside them: there is no docs/")
def test_the_promises_of_the_page_are_tested():
    text = (DOCS / "lean.md").read_text()
    promises = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ") and "test" in line]
    named = re.findall(r"test_lean\.py::(\w+)", text)
    assert len(promises) > 5 and set(named) <= set(globals())
    own = {name for name, formula in LIKELIHOODS.items() if hasattr(formula, "lean_nll")}
    (sentence,) = re.findall(r"## What has a pass of its own\n\n(.*?)The value and", text, re.DOTALL)
    assert set(re.findall(r'"(\w+)"', sentence)) == own


@pytest.mark.full
@pytest.mark.parametrize("file", WITH_LEAN)
def test_the_tests_of_the_compiled_backends(file):
    env = os.environ | {"VAE_KERNELS_TEST_BACKENDS": "lean"}
    done = subprocess.run(
        [*PYTEST, "-k", f"lean and not ({NOT_PROMISED})", str(TESTS / "kernels" / file)],
        cwd=TESTS,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
