"""Few columns and many samples: short rows go through one loop together, and where nobody asks for a result row by row the
batch is one long row. Value and gradients against float64, around the width at which the loops change."""

import cases
import pytest
import torch
from known import BACKENDS
from test_objective import compare, posterior

import vae_kernels as vk

pytestmark = pytest.mark.usefixtures("poisoned")

WIDTHS = [1, 2, 5, 16, 17, 127, 128, 129]  # csrc/cpu/kernels/narrow.h: rows of up to 128 columns go together
ROWS = 1500  # several tiles and several tasks, the last ones not full


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("backend", "likelihood"), cases.pairs(BACKENDS))
def test_widths(backend, likelihood, width, reduction):
    rows = ROWS if width < 20 else 40
    x, params = cases.draw(likelihood, (rows, width))
    compare(backend, likelihood, x, params, posterior(rows, (2,), torch.float32), reduction)


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


@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 5])
def test_dtypes(backend, width, dtypes):
    x, params = cases.draw("gaussian", (ROWS, width), dtypes)
    compare(backend, "gaussian", x, params, posterior(ROWS, (1,), dtypes[0]), "none")


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


UNITS = ["per_dim", "per_group", "per_sample", "per_batch_mean"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("dims", [(1,), (4,), (2, 3)], ids=str)
def test_free_bits(backend, dims, unit, reduction):
    """Some units are below the floor, and some above; with reduction="none" each sample has an incoming gradient of its
    own."""
    rows = 23
    x, params = cases.draw("bernoulli", (rows, 9))
    mu, logvar = posterior(rows, dims, torch.float32)
    mu = mu * torch.linspace(0.2, 2, mu[0].numel()).view(dims)
    kl = vk.gaussian_kl(mu.double(), logvar.double(), per_dim=True)
    each = {"per_sample": kl.flatten(1).sum(1), "per_batch_mean": kl.flatten(1).sum(1).mean()[None]}
    each |= {"per_dim": kl.mean(0).flatten(), "per_group": kl.mean(0).reshape(dims[0], -1).sum(1)}
    for nats in (each[unit].median().item() + 1e-3, torch.tensor(each[unit].min().item() / 2)):
        free_bits = (nats, unit)
        ours = compare(backend, "bernoulli", x, params, [mu, logvar], reduction, free_bits=free_bits)
        closed = each[unit] <= float(nats)
        gone = closed.repeat_interleave(kl[0].numel() // len(closed)) if unit != "per_sample" else closed[:, None]
        for name in ("mu", "logvar"):
            grad = ours[name].flatten(1)
            assert torch.equal(grad == 0, gone.expand_as(grad))


@pytest.mark.parametrize("unit", UNITS[2:])
def test_free_bits_of_a_kl_that_is_given(backend, unit):
    x, params = cases.draw("bernoulli", (7, 9))
    kl = torch.rand(7, requires_grad=True)
    nats, incoming = kl.median().item(), torch.randn(7)
    grads = []
    for each in (backend, "torch"):
        loss = vk.fused_elbo(params[0], x, kl=kl, free_bits=(nats, unit), beta=0.3, reduction="none", backend=each)
        grads.append([loss, *torch.autograd.grad(loss, kl, incoming)])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("unit", UNITS)
def test_a_kl_that_is_nan_stays_nan(backend, unit):
    x, params = cases.draw("bernoulli", (3, 9))
    mu, logvar = posterior(3, (4,), torch.float32)
    mu[1, 2] = torch.nan
    loss = vk.fused_elbo(params[0], x, mu, logvar, free_bits=(100.0, unit), reduction="none", backend=backend)
    assert loss[1].isnan() and (unit != "per_sample" or loss[[0, 2]].isfinite().all())
