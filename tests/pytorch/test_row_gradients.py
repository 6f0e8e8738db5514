"""The row kind under autograd, torch.func and torch.compile: second derivatives, transforms, one graph, weights that
require grad, and the gradients that a forward pass computes ahead."""

import cases
import pytest
import rows
import torch
from known import compiled
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import gradcheck, gradgradcheck

import vae_kernels as vk
from vae_kernels.formulas import ROW

close = torch.testing.assert_close


def case(likelihood, shape=(3, 2, 3), dtype=torch.float64):
    """(x, leaves, has a total): the leaves are the parameters, then log_total. No logit is -inf."""
    x, params, log_total = rows.draw(likelihood, shape, (dtype, dtype), form="column")
    params[0] = params[0].nan_to_num(neginf=-1)
    leaves = [*params, *(() if log_total is None else (log_total,))]
    return x, [t.requires_grad_() for t in leaves], log_total is not None


def nll(likelihood, x, leaves, total, **settings):
    params, last = (leaves[:-1], leaves[-1]) if total else (leaves, None)
    return vk.nll(tuple(params), x, likelihood=likelihood, log_total=last, **settings)


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_second_derivatives(likelihood, weighted, backend):
    x, leaves, total = case(likelihood)
    weight = None
    if weighted:
        shape = (3, 1, 1) if likelihood in ROW else (3, 2, 3)
        weight = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def f(*inputs):
        inputs, w = (inputs[:-1], inputs[-1]) if weighted else (inputs, None)
        return nll(likelihood, x, inputs, total, weight=w, backend=backend)

    inputs = (*leaves, weight) if weighted else tuple(leaves)
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)


@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_second_derivatives_beside_what_is_absent(likelihood):
    """A sample without counts and a logit of -inf make no NaN of a second derivative."""
    x, params, log_total = rows.draw(likelihood, (3, 5), (torch.float64, torch.float64))
    x[1] = 0
    if log_total is not None:
        log_total[1] = -torch.inf
    leaves = [t.requires_grad_() for t in (*params, *(() if log_total is None else (log_total,)))]
    value = nll(likelihood, x, leaves, log_total is not None, backend="torch").sum()
    grads = torch.autograd.grad(value, leaves, create_graph=True)
    again = torch.autograd.grad(sum(g.square().sum() for g in grads), leaves)
    assert all(t.isfinite().all() for t in (*grads, *again))


@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_torch_func(likelihood):
    x, leaves, total = case(likelihood)
    leaves = [t.detach() for t in leaves]
    places = tuple(range(len(leaves)))
    f = lambda *inputs: nll(likelihood, x, inputs, total).sum()  # noqa: E731
    found = torch.func.grad(f, places)(*leaves)
    expected = torch.autograd.grad(f(*(t.requires_grad_() for t in leaves)), leaves)
    for a, b in zip(found, expected, strict=True):
        close(a, b)
    x, leaves, total = case(likelihood, (4, 6))
    leaves = [t.detach() for t in leaves]
    dims = tuple([None if t.dim() == 1 and t.shape[0] == 6 else 0 for t in leaves])

    def one(x, *inputs):
        whole = [t[None] if d == 0 else t for t, d in zip(inputs, dims, strict=True)]
        return nll(likelihood, x[None], whole, total)[0]

    close(torch.func.vmap(one, (0, *dims))(x, *leaves), nll(likelihood, x, leaves, total))


@compiled
@pytest.mark.full
@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_one_graph(likelihood):
    """fullgraph=True, the numbers of eager mode, and one graph for batches of several sizes."""
    counter = CompileCounterWithBackend("aot_eager")
    f = torch.compile(
        lambda x, leaves, total: nll(likelihood, x, leaves, total, reduction="mean"),
        fullgraph=True, dynamic=True, backend=counter,
    )  # fmt: skip
    for batch in (3, 5, 8):
        x, leaves, total = case(likelihood, (batch, 40), torch.float32)
        ours, theirs = f(x, leaves, total), nll(likelihood, x, leaves, total, reduction="mean")
        close(ours, theirs)
        pairs = zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True)
        for a, b in pairs:
            close(a, b)
    assert counter.frame_count <= 2


@compiled
@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_gradients_ahead_are_those_of_the_backward_pass(likelihood):
    """(nll).mean() of a second step is computed ahead; a weight for each sample is not. The bits are the same."""
    x, leaves, total = case(likelihood, (4, 300), torch.float32)
    ahead = [torch.autograd.grad(nll(likelihood, x, leaves, total).mean(), leaves) for _ in range(2)]
    incoming = torch.full((4,), 0.25)
    nll(likelihood, x, leaves, total).backward(torch.rand(4))  # now other numbers are expected
    for t in leaves:
        t.grad = None
    behind = torch.autograd.grad(nll(likelihood, x, leaves, total), leaves, incoming)
    for first, second, third in zip(*ahead, behind, strict=True):
        assert cases.same(first, second) and cases.same(second, third)


@compiled
@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_a_graph_that_is_kept_gives_its_gradients_twice(likelihood):
    x, leaves, total = case(likelihood, (4, 30), torch.float32)
    loss = nll(likelihood, x, leaves, total, reduction="sum")
    first = torch.autograd.grad(loss, leaves, torch.tensor(0.7), retain_graph=True)
    second = torch.autograd.grad(loss, leaves, torch.tensor(1.4))
    for a, b in zip(first, second, strict=True):
        close(2 * a, b)
