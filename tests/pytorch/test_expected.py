"""The gradients that the pass of a loss per sample computes ahead, for the incoming gradient that it expects."""

import pytest
import torch
from known import BACKENDS, compiled

import vae_kernels as vk
from vae_kernels.backends import compiled as ops
from vae_kernels.backends.compiled import expected

pytestmark = compiled
B = 6


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(expected, "_last", {})


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    shapes = [(B, 70), (B, 4), (B, 4)]
    return [torch.randn(s, requires_grad=True) for s in shapes] + [torch.rand(B, 70)]


@pytest.fixture
def computed(monkeypatch):
    """The names of the ops that computed gradients of the objective, in their order."""
    names, kernels = [], ops.KERNELS["compiled"]
    for name in ("elbo", "elbo_backward"):
        op = kernels[name]
        at = [a.name for a in op._schema.arguments].index("need")
        monkeypatch.setitem(kernels, name, lambda *a, o=op, n=name, i=at: (a[i] and names.append(n), o(*a))[1])
    return names


def losses(inputs):
    recon, mu, logvar, x = inputs
    return vk.fused_elbo(recon, x, mu, logvar, reduction="none", backend="cpu")


def grads(loss, inputs, incoming=None):
    return torch.autograd.grad(loss, inputs[:3], incoming)


def test_a_mean_gets_the_gradients_of_the_forward_pass(inputs, computed):
    grads(losses(inputs).mean(), inputs)
    assert computed == ["elbo"]


@pytest.mark.parametrize("reduce", [lambda t: t.sum(), lambda t: 0.3 * t.mean()], ids=["sum", "scaled mean"])
def test_what_came_last_is_expected_next(inputs, computed, reduce):
    grads(reduce(losses(inputs)), inputs)
    assert computed == ["elbo", "elbo_backward"]
    grads(reduce(losses(inputs)), inputs)
    assert computed == ["elbo", "elbo_backward", "elbo"]


def test_after_incoming_gradients_that_differ_nothing_is_computed_ahead(inputs, computed):
    grads(losses(inputs), inputs, torch.rand(B))
    computed.clear()
    grads(losses(inputs), inputs, torch.rand(B))
    assert computed == ["elbo_backward"]
    computed.clear()
    for _ in range(2):
        grads(losses(inputs).mean(), inputs)
    assert computed == ["elbo_backward", "elbo"]


INCOMING = {
    "mean": lambda: torch.full((B,), 1 / B),
    "expanded": lambda: torch.tensor(1 / B).expand(B),
    "sum": lambda: torch.ones(B),
    "one differs": lambda: torch.tensor([1 / B] * (B - 1) + [0.5]),
    "all differ": lambda: torch.rand(B),
}


@pytest.mark.parametrize("incoming", INCOMING)
@pytest.mark.parametrize("columns", [1, 3, 70])
@pytest.mark.parametrize("likelihood, outputs", [("bernoulli", 1), ("gaussian", 2), ("zinb", 3)])
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "torch"])
def test_the_expectation_changes_no_bit(backend, incoming, columns, likelihood, outputs, monkeypatch):
    torch.manual_seed(0)
    incoming = INCOMING[incoming]()
    x = torch.randint(3, (B, columns)).float() if likelihood == "zinb" else torch.rand(B, columns)
    params = [torch.randn(B, columns, requires_grad=True)]
    params += [torch.randn(form, requires_grad=True) for form in ((), (B, 1))[: outputs - 1]]

    def found():
        nll = vk.nll(tuple(params), x, likelihood=likelihood, backend=backend)
        return torch.autograd.grad(nll, params, incoming)

    ahead = found()
    monkeypatch.setattr(expected, "of", lambda *_: None)
    for a, b in zip(ahead, found(), strict=True):
        assert torch.equal(a, b)


def test_a_graph_that_is_kept_gives_the_gradients_twice(inputs):
    loss = losses(inputs).mean()
    first = torch.autograd.grad(loss, inputs[:3], retain_graph=True)
    first = [g.clone() for g in first], [g.zero_() for g in first]
    for a, b in zip(first[0], grads(loss, inputs), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="second time"):
        grads(loss, inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_no_gradient_of_half_precision_is_computed_ahead(dtype, computed):
    recon, x = torch.randn(B, 70, dtype=dtype, requires_grad=True), torch.rand(B, 70)
    vk.nll(recon, x, backend="cpu").mean().backward()
    assert computed == ["elbo_backward"]


def test_no_gradient_is_computed_without_need(inputs, computed):
    with torch.no_grad():
        losses(inputs)
        vk.fused_elbo(inputs[0], inputs[3], inputs[1], inputs[2], backend="cpu")
    assert computed == []


def test_an_importance_weighted_bound_computes_no_gradient_ahead(inputs, computed):
    _, mu, logvar, x = inputs
    weight = torch.randn(4, 70, requires_grad=True)
    loss = vk.iwae(lambda z: z @ weight, x, mu, logvar, n_samples=3, backend="cpu")
    assert computed == []
    loss.backward()
    assert computed == ["elbo_backward"]


def test_only_so_many_sizes_are_remembered(monkeypatch):
    monkeypatch.setattr(expected, "_MOST", 2)
    for rows in range(1, 6):
        recon = torch.zeros(rows, 2, requires_grad=True)
        vk.nll(recon, torch.zeros(rows, 2), backend="cpu").sum().backward()
    assert len(expected._last) <= 2
