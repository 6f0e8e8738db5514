"""Few columns and many samples: short rows go through one loop together, and where nobody asks for a result row by row
the batch is one long row. Value and gradients against float64, around the width at which the loops change."""

import cases
import pytest
import torch
from known import BACKENDS, compiled
from test_objective import compare, posterior

import vae_kernels as vk
from vae_kernels.formulas import LIKELIHOODS

pytestmark = pytest.mark.usefixtures("poisoned")

WIDTHS = [1, 2, 5, 16, 17, 127, 128, 129]  # csrc/cpu/kernels/narrow.h: rows of up to 128 columns go together
# Rows of one column: several tiles, the last one not full. Other widths have as many elements in all. With many more
# elements, the test would measure the formula's worst element, which has the same bits in a wide row (below).
ROWS = 1500


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("backend", "likelihood"), cases.pairs(BACKENDS))
def test_widths(backend, likelihood, width, reduction):
    rows = ROWS // width + 3
    x, params = cases.draw(likelihood, (rows, width))
    compare(backend, likelihood, x, params, posterior(rows, (2,), torch.float32), reduction)


@pytest.mark.full("triton")
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("width", [1, 33, 128])  # of 5 columns, nearly all would be the extremes of the oracle
@pytest.mark.parametrize("likelihood", ["gaussian", "zinb"])
def test_forms_of_parameters(backend, likelihood, width, form, reduction):
    rows = ROWS // width + 3
    x, params = cases.draw(likelihood, (rows, width, 1, 1), form=form)
    sizes = sizes_of_sums(likelihood, x, params, reduction)
    compare(backend, likelihood, x, params, posterior(rows, (1,), torch.float32), reduction, sizes=sizes)


def sizes_of_sums(likelihood, x, params, reduction):
    """For each parameter that broadcasts: the sum of the sizes of the terms that its gradient adds up. The terms have
    both signs, so the gradient may be much smaller."""
    wide = [p.double().expand(x.shape).clone().requires_grad_() for p in params]
    losses = 1.3 * vk.nll(tuple(wide), x.double(), likelihood=likelihood, backend="torch")
    loss = losses if reduction == "none" else losses.mean()
    incoming = torch.randn(loss.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)  # as outcome()
    terms = [g.abs() for g in torch.autograd.grad(loss, wide, incoming)]
    pairs = enumerate(zip(params, terms, strict=True))
    return {f"param{i}": t.sum_to_size(p.shape) for i, (p, t) in pairs if p.shape != x.shape}


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("width", [1, 5, 128])
def test_weights(backend, width, dtype, form, reduction):
    rows = ROWS // width + 3
    x, params = cases.draw("bernoulli", (rows, width))
    weight = cases.weight(cases.WEIGHTS[form]((rows, width)), dtype)
    compare(backend, "bernoulli", x, params, posterior(rows, (3,), torch.float32), reduction, weight=weight)


@pytest.mark.full("triton")
@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 5])
def test_dtypes(backend, width, dtypes):
    x, params = cases.draw("gaussian", (ROWS, width), dtypes)
    compare(backend, "gaussian", x, params, posterior(ROWS, (1,), dtypes[0]), "none")


@pytest.mark.full("triton")
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("apart", ["x", "recon", "mu"])
def test_rows_apart(backend, apart, reduction):
    """Matrices with gaps between their rows are no long row."""
    lay = lambda t: torch.cat([t, t], 1)[:, : t.shape[1]]  # noqa: E731
    x, params = cases.draw("bernoulli", (ROWS, 5))
    mu, logvar = posterior(ROWS, (2,), torch.float32)
    x, params = lay(x) if apart == "x" else x, [lay(p) if apart == "recon" else p for p in params]
    latent = [lay(mu) if apart == "mu" else mu, logvar]
    compare(backend, "bernoulli", x, params, latent, reduction)


@compiled
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_gradients_have_the_bits_of_a_wide_row(likelihood):
    x, params = cases.draw(likelihood, (300, 5))
    found = []
    for shape in ((300, 5), (1, 1500)):
        tensors = [p.reshape(shape).requires_grad_() for p in params]
        loss = vk.nll(tuple(tensors), x.reshape(shape), likelihood=likelihood, reduction="sum", backend="cpu")
        each = vk.nll(tuple(tensors), x.reshape(shape), likelihood=likelihood, backend="cpu")
        found += [[g.flatten() for g in torch.autograd.grad(loss.sum(), tensors)] for loss in (loss, each)]
    for others in found[1:]:
        assert all(cases.same(a, b) for a, b in zip(found[0], others, strict=True))


def test_a_byte_is_divided_once(backend):
    """k / 255 is rounded once, as in PyTorch, for all k."""
    x = torch.arange(256, dtype=torch.uint8)[:, None]
    for dtype in (torch.float32, torch.float64):
        loc = torch.zeros(256, 1, dtype=dtype, requires_grad=True)
        (grad,) = torch.autograd.grad(vk.nll(loc, x, likelihood="gaussian", backend=backend).sum(), loc)
        assert torch.equal(-grad, x.to(dtype) / 255)
