"""A parameter that is left out has the default of its formula, on every backend, whatever number the default is."""

import cases
import pytest
import torch
from known import BACKENDS

import vae_kernels as vk
from vae_kernels.formulas import LIKELIHOODS

WITH_DEFAULTS = [name for name, formula in LIKELIHOODS.items() if formula.DEFAULTS]


def compare_defaults(monkeypatch, backend, likelihood, dtype, device="cpu"):
    """Without the parameter, the loss and its gradients are the same as with a tensor of the default."""
    formula, default = LIKELIHOODS[likelihood], 0.7  # all real defaults are 0, so the test takes another number
    for name in formula.DEFAULTS:
        monkeypatch.setitem(formula.DEFAULTS, name, default)
    x, params = cases.draw(likelihood, (3, 37), (dtype, dtype))
    x, params = x.to(device), [p.to(device).requires_grad_() for p in params[: -len(formula.DEFAULTS)]]
    given = [torch.full((), default, dtype=torch.float64, device=device)] * len(formula.DEFAULTS)
    for reduction in ("mean", "none"):
        results = []
        for who, recon in ((backend, params), ("torch", [*(p.double() for p in params), *given])):
            recon = recon[0] if len(recon) == 1 else tuple(recon)
            loss = vk.nll(recon, x, likelihood=likelihood, reduction=reduction, backend=who)
            results.append([loss, *torch.autograd.grad(loss.sum(), params)])
        for ours, truth in zip(*results, strict=True):
            torch.testing.assert_close(ours, truth.to(ours.dtype))


def test_some_formula_has_a_default():
    assert WITH_DEFAULTS


@pytest.mark.full("triton")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("likelihood", WITH_DEFAULTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_default_belongs_to_the_formula(monkeypatch, backend, likelihood, dtype):
    compare_defaults(monkeypatch, backend, likelihood, dtype)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_default_while_compiling(monkeypatch, backend):
    monkeypatch.setitem(LIKELIHOODS["gaussian"].DEFAULTS, "logvar", 0.7)
    loc, x = torch.randn(2, 4, 9).unbind()

    def loss(loc, x, backend):
        return vk.nll(loc, x, likelihood="gaussian", reduction="mean", backend=backend)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(loc, x, backend), loss(loc, x, "torch"))
