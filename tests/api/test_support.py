"""A target outside the support of its likelihood gets one warning, where the look is free."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import vae_kernels as vk
from vae_kernels.core import first_calls
from vae_kernels.formulas import ALL

INTERVALS = [name for name, formula in ALL.items() if isinstance(formula.SUPPORT, tuple) and formula.KIND == "element"]
COUNTS = [name for name, formula in ALL.items() if formula.SUPPORT == "counts"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(first_calls, "_calls", {})
    monkeypatch.setattr(first_calls, "_warned", set())


def heard(x, name="bernoulli", times=1, call=vk.nll, **settings):
    """The warnings of so many calls."""
    recon = tuple(torch.zeros(x.shape) for _ in ALL[name].PARAMETERS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            call(recon, x, likelihood=name, **settings)
    return [str(w.message) for w in caught]


@pytest.mark.parametrize("name", INTERVALS)
def test_an_interval(name):
    x = torch.tensor([[-1.0, 1.0], [0.25, 0.5]])
    text = f"x: got values from -1 to 1, expected [0, 1], for which likelihood={name!r} has no probability"
    assert heard(x, name, times=9) == [text]  # once


@pytest.mark.parametrize("x", [torch.tensor([[0, 255]]), torch.tensor([[0, 2]], dtype=torch.uint16)])
def test_integers_that_are_not_scaled(x):
    assert len(heard(x)) == 1


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    assert heard(torch.tensor([[0.0, 0.5, 3.0]]), name) == [
        f"x: got fractions such as 0.5, expected counts: 0, 1, 2, ..., for which likelihood={name!r} has no probability"
    ]
    first_calls._warned.clear()
    first_calls._calls.clear()
    (text,) = heard(torch.tensor([[0, -1]]), name)
    assert text.startswith("x: got values from -1 to 0, expected counts")


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([[0.0, 1.0, 0.3]]),
        torch.tensor([[0.0, 1.0005, float("nan")]]),  # within the rounding of a resized image; a NaN is another illness
        torch.tensor([[0, 255]], dtype=torch.uint8),
        torch.tensor([[True, False]]),
        torch.zeros(0, 3),
    ],
)
def test_nothing_is_wrong(x):
    assert heard(x) == []


def test_counts_and_the_whole_line_are_right():
    assert heard(torch.tensor([[0.0, 3.0, 1e6, float("inf")]]), "poisson") == []
    assert heard(torch.randn(3, 4), "gaussian") == []


def test_missing_elements_may_be_anything():
    x = torch.tensor([[0.5, -100.0], [1.0, -100.0]])
    assert heard(x, weight=torch.tensor([True, False])) == []
    assert heard(x, weight=torch.zeros(2, 1)) == []
    first_calls._calls.clear()
    assert len(heard(x, weight=torch.tensor([True, True]))) == 1


def test_the_calls_that_look():
    """The calls 1, 2, 4, 8, ...: a wrong target in call 3 is seen at call 4."""
    good, bad = torch.rand(2, 3), -torch.ones(2, 3)
    assert heard(good, times=2) == []
    assert heard(bad, times=1) == []
    assert len(heard(bad, times=1)) == 1


def test_the_whole_loss_warns_too():
    z = torch.zeros(2, 1)
    call = lambda recon, x, likelihood: vk.fused_elbo(recon, x, z, z, likelihood=likelihood)  # noqa: E731
    assert len(heard(torch.full((2, 3), 2.0), call=call)) == 1


def test_the_warning_names_the_line_of_the_user():
    model = vk.mlp_vae((3,), 2)
    for call in (lambda x: vk.nll(x, x), lambda x: vk.FusedELBO()(x, x, x, x), model.loss):
        first_calls._warned.clear()
        first_calls._calls.clear()
        with pytest.warns(UserWarning, match="x: got values") as said:
            call(torch.full((2, 3), 2.0))
        assert said[0].filename == __file__


def test_nothing_is_read_while_something_traces():
    logits, x = torch.zeros(2, 3), -torch.ones(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            torch.func.vmap(lambda a, b: vk.nll(a, b))(logits[None], x[None])
            torch.func.grad(lambda a: vk.nll(a, x).sum())(logits)
        make_fx(lambda a, b: vk.nll(a, b))(logits, x)
        make_fx(lambda a, b: vk.nll(a, b), tracing_mode="fake")(logits, x)
        vk.nll(logits.to("meta"), x.to("meta"), backend="torch")


@pytest.mark.full
def test_a_compiled_call_has_no_graph_break():
    code = """
import torch, vae_kernels as vk
from vae_kernels.core import first_calls
f = torch.compile(lambda a, b: vk.nll(a, b, reduction="mean"), fullgraph=True, backend="eager")
for n in range(4):
    f(torch.zeros(2, 3, requires_grad=True), -torch.ones(2, 3)).backward()
assert not first_calls._calls, first_calls._calls
"""
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
