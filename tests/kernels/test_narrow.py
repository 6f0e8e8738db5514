"""Few columns and many samples: short rows go through one loop together, and where nobody asks for a result row by row
the batch is one long row. Value and gradients against float64, around the width at which the loops change."""

import cases
import pytest
import torch
from known import BACKENDS, compiled
from test_objective import compare, posterior

pytestmark = pytest.mark.usefixtures("poisoned")

WIDTHS = [1, 2, 5, 16, 17, 127, 128, 129]  # csrc/cpu/kernels/narrow.h: rows of up to 128 columns go together
ROWS = 1500  # of one column: several tiles, the last one not full; and as many elements with other widths


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
    compare(backend, likelihood, x, params, posterior(rows, (1,), torch.float32), reduction)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("width", [1, 5, 128])
def test_weights(backend, width, dtype, form, reduction):
    rows = ROWS // width + 3
    x, params = cases.draw("bernoulli", (rows, width))
    weight = cases.weight(cases.WEIGHTS[form]((rows, width)), dtype)
    compare(backend, "bernoulli", x, params, posterior(rows, (3,), torch.float32), reduction, weight=weight)


@compiled
@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 5])
def test_dtypes(width, dtypes):
    x, params = cases.draw("gaussian", (ROWS, width), dtypes)
    compare("cpu", "gaussian", x, params, posterior(ROWS, (1,), dtypes[0]), "none")


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
