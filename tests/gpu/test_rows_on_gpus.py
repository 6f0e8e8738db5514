"""Rows in Triton's kernels, beside what kernels/test_rows.py has for every backend: the launches, rows of several tiles
and many rows, 16-bit logits, and approximate instructions. In the interpreter."""

import approximate
import cases
import pytest
import rows
import torch
from known import BACKENDS

triton = pytest.importorskip("triton")

import vae_kernels as vk  # noqa: E402
from vae_kernels.backends.triton import grid, launch  # noqa: E402
from vae_kernels.formulas import LOG_TOTAL  # noqa: E402

pytestmark = pytest.mark.skipif("triton" not in BACKENDS, reason="triton cannot be run here")
BACKEND = "triton"
BEFORE, LIKELIHOOD, BEHIND = "row_kernel", "elbo_kernel", "row_gradients_kernel"


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that are launched."""
    names, call = [], launch.Launch.__call__

    def record(self, *values):
        names.append(self.kernel.fn.__name__)
        call(self, *values)

    monkeypatch.setattr(launch.Launch, "__call__", record)
    return names


@pytest.mark.parametrize(
    "likelihood, weight, needed, kernels",
    [
        ("negative_binomial", None, "all", [BEFORE, LIKELIHOOD, BEHIND]),
        ("negative_binomial", None, "logits", [BEFORE, LIKELIHOOD, BEHIND]),
        ("negative_binomial", None, "others", [BEFORE, LIKELIHOOD]),
        ("negative_binomial", None, "none", [BEFORE, LIKELIHOOD]),
        ("poisson", "element", "logits", [BEFORE, LIKELIHOOD, BEHIND]),
        ("poisson", "sample", "logits", [BEFORE, LIKELIHOOD]),  # n share - x: there is nothing left to do
        ("poisson", None, "log_total", [BEFORE, LIKELIHOOD, BEHIND]),
        ("multinomial", None, "all", [BEFORE, LIKELIHOOD]),
    ],
)
def test_the_launches_of_a_row(launched, likelihood, weight, needed, kernels):
    x, params, log_total = rows.draw(likelihood, (4, 37))
    groups = {"logits": params[:1], "others": params[1:], "log_total": [log_total], "none": []}
    groups["all"] = [*params, *([] if log_total is None else [log_total])]
    for t in groups[needed]:
        t.requires_grad_()
    weight = weight and cases.weight(cases.WEIGHTS[weight](x.shape), torch.float32)
    vk.nll(
        tuple(params), x, likelihood=likelihood, log_total=log_total, weight=weight, reduction="mean", backend=BACKEND
    )
    assert launched == kernels


@pytest.mark.parametrize("likelihood", ["negative_binomial", "multinomial"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_gradient_of_16_bit_logits_is_rounded_once(likelihood, dtype):
    """It has the bits of the float32 gradient of the same numbers, rounded."""
    x, params, log_total = rows.draw(likelihood, (4, 300), (dtype, torch.float32))
    grads = []
    for of_logits in (dtype, torch.float32):
        logits = params[0].to(of_logits).requires_grad_()
        others = [p.float() for p in params[1:]]
        total = None if log_total is None else log_total.float()
        nll = vk.nll((logits, *others), x, likelihood=likelihood, log_total=total, backend=BACKEND)
        grads += torch.autograd.grad(nll.sum(), logits)
    assert cases.same(grads[0], grads[1].to(dtype))


@pytest.mark.parametrize("weight", [None, "sample", "element"])
@pytest.mark.parametrize("likelihood", [name for name in LOG_TOTAL if name != "negative_binomial"])
def test_the_other_likelihoods(likelihood, weight):
    """Beside those of kernels/test_rows.py: a row of Poisson counts is counted, unless its elements have weights."""
    x, params, log_total = rows.draw(likelihood, (5, 300))
    weight = weight and cases.weight(cases.WEIGHTS[weight](x.shape), torch.float32)
    rows.compare(BACKEND, likelihood, x, params, log_total, weight=weight)


@pytest.mark.soak
@pytest.mark.parametrize("likelihood", ["poisson", "multinomial"])
@pytest.mark.parametrize("shape", [(260, 4100), (70_001, 3)], ids=str)
def test_large_batches(likelihood, shape):
    """Many samples are added up by a further launch. The interpreter takes minutes."""
    large_batch(likelihood, shape)


@pytest.mark.full
@pytest.mark.parametrize("likelihood", ["poisson", "multinomial"])
def test_several_tiles_a_program(likelihood, monkeypatch):
    """A program of elbo_kernel has four tiles where the batch is large, and so many elements count as large here."""
    monkeypatch.setattr(grid, "FOUR_TILES", 1 << 13)
    assert grid.Tiles(3, 4100).steps == 4
    large_batch(likelihood, (3, 4100))


def large_batch(likelihood, shape):
    x, params, log_total = rows.draw(likelihood, shape)
    weight = None if log_total is None else cases.weight(shape[1:], torch.float32)
    for reduction in ("mean", "none"):
        rows.compare(BACKEND, likelihood, x, params, log_total, reduction, weight)


@pytest.mark.full
@pytest.mark.parametrize("error", approximate.ERRORS)
@pytest.mark.parametrize("shape", [(70, 31), (3, 1031)], ids=str)
@pytest.mark.parametrize("likelihood", rows.NAMES)
def test_approximate_instructions(likelihood, shape, error):
    with approximate.instructions(error):
        rows.compare(BACKEND, likelihood, *rows.draw(likelihood, shape))


def test_gradients_of_rows_are_not_corrected():
    from vae_kernels.backends.triton import kernels

    x, params, log_total = rows.draw("negative_binomial", (3, 5))
    settings = None, None, None, None, None, log_total[:, None], 1.0, 1.0, 1.0, 0, 0, 0b11
    with pytest.raises(AssertionError, match="the gradients of the row kind are not corrected in place"):
        kernels.correct_(
            [torch.zeros(3, 5), torch.zeros(3, 5)], torch.ones(3), 0.5, x, params, "negative_binomial", [], *settings
        )
