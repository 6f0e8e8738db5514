"""Free bits in the kernels: values and gradients against float64, for every unit. tests/models/test_free_bits.py has
the same through the models."""

import cases
import pytest
import test_objective as table
import torch

import vae_kernels as vk
from vae_kernels.core.penalty import UNITS
from vae_kernels.formulas.kl import gaussian_kl

pytestmark = pytest.mark.usefixtures("poisoned")
UNITS = [unit for unit in UNITS if unit != "batch_mean"]
DIMS = [(1,), (5,), (10,), (64,), (65,), (3, 2, 5), (300,), (6, 40)]


def units_of(kl, unit):
    """The KL of each unit, and which unit each element of the KL belongs to, in a shape that broadcasts to the KL."""
    if unit == "per_sample":
        units = kl.reshape(len(kl), -1).sum(1)
        return units, torch.arange(len(units)).view(-1, *[1] * (kl.dim() - 1))
    if unit == "per_batch_mean":
        return kl.reshape(len(kl), -1).sum(1).mean().view(1), torch.zeros([1] * kl.dim(), dtype=torch.long)
    if unit == "per_dim":
        units = kl.mean(0)
        return units.flatten(), torch.arange(units.numel()).view(1, *units.shape)
    units = kl.flatten(2).sum(2).mean(0) if kl.dim() > 2 else kl.mean(0)
    return units, torch.arange(len(units)).view(1, -1, *[1] * (kl.dim() - 2))


def level(units, above):
    """Nats between the KLs of two units, far from both; of a single unit, above or below its KL."""
    if len(units) == 1:
        return units.item() * (2 if above else 0.5)
    units = units.sort().values
    widest = (units[1:] - units[:-1]).argmax().item()
    return (units[widest] + units[widest + 1]).item() / 2


def compare(backend, x, params, latent, unit, reduction="mean", above=True, tensor=False, **settings):
    """Compares with the reference, and the gradients of the units below the level with 0."""
    wide = [t.double() for t in latent]
    kl = wide[0] if len(latent) == 1 else gaussian_kl(*wide)
    if (w := settings.get("latent_weight")) is not None:
        kl = torch.where(w != 0, w.double() * kl, 0)
    units, of = units_of(kl, unit)
    nats = level(units, above)
    closed = (units <= nats)[of].expand(kl.shape)
    assert closed.any() if above else not closed.all()
    nats = torch.tensor(nats, dtype=torch.float64) if tensor else nats
    settings["free_bits"] = (nats, unit)
    ours = table.compare(backend, "bernoulli", x, params, latent, reduction, **settings)
    for name in ("mu", "logvar"):
        assert (ours[name][closed] == 0).all() and (ours[name][~closed] != 0).any() == (~closed).any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dims", DIMS, ids=str)
@pytest.mark.parametrize("unit", UNITS)
def test_units(backend, unit, dims, reduction):
    x, params = cases.draw("bernoulli", (61, 9))
    for above in (True, False):
        compare(backend, x, params, table.posterior(61, dims, torch.float32), unit, reduction, above)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_dtypes(backend, unit, prior, dtype):
    x, params = cases.draw("bernoulli", (7, 65), (dtype, dtype))
    compare(backend, x, params, table.posterior(7, (3, 5), dtype, prior), unit, "none", tensor=True)


@pytest.mark.parametrize("form", ["element", "sample", "row"])
@pytest.mark.parametrize("unit", UNITS)
def test_latent_weights(backend, unit, form):
    """A latent whose weight is 0 has a KL of 0, whatever is there, and may be the unit that is below the level."""
    x, params = cases.draw("bernoulli", (9, 5))
    latent = table.posterior(9, (4, 3), torch.float32)
    weight = cases.weight(cases.WEIGHTS[form](latent[0].shape), torch.bool)
    poisoned = [cases.poisoned(t, weight) for t in latent]
    compare(backend, x, params, latent, unit, latent_weight=weight, poisoned=(x, params, poisoned))


GIVEN = [*[(unit, (9, 4, 3)) for unit in UNITS], ("per_sample", (9,)), ("per_batch_mean", (9,))]


@pytest.mark.parametrize("terms", [False, True])
@pytest.mark.parametrize("unit, given", GIVEN, ids=str)
def test_a_given_kl(backend, unit, given, terms):
    x, params = cases.draw("bernoulli", (9, 13))
    kl = torch.rand(given, generator=torch.Generator().manual_seed(3))
    nats = level(units_of(kl.double(), unit)[0], True)
    incoming = torch.randn(9, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    results = []
    for name, dtype in (("torch", torch.float64), ("torch", torch.float32), (backend, torch.float32)):
        inputs = [t.to(dtype).requires_grad_() for t in (*params, kl)]
        settings = {"free_bits": (nats, unit), "reduction": "none", "return_terms": terms, "backend": name}
        out = vk.fused_elbo(inputs[0], x.to(dtype), kl=inputs[1], **settings)
        loss = out.loss if terms else out
        results.append([loss, *([out.kl] if terms else []), *torch.autograd.grad(loss, inputs, incoming.to(dtype))])
    for truth, theirs, ours in zip(*results, strict=True):
        cases.check(ours, theirs, truth, torch.float32, "floor of a given kl")


@pytest.mark.parametrize("unit", UNITS)
def test_a_nan_costs_nan(backend, unit):
    """A unit with a NaN is not below the level: a loss that is wrong must not look right."""
    x, params = cases.draw("bernoulli", (9, 5))
    mu, logvar = table.posterior(9, (6,), torch.float32)
    mu[2, 3] = float("nan")
    out = table.outcome(backend, "bernoulli", x, params, (mu, logvar), "none", free_bits=(1e6, unit))
    lost = torch.arange(9) == 2 if unit == "per_sample" else torch.ones(9, dtype=torch.bool)
    assert torch.equal(out["loss"].isnan(), lost)
    assert out["mu"][2, 3].isnan() and out["mu"].isnan().sum() == 1
