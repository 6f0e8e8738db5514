"""The GPU of a Mac has no float64. A loop that trains there, and its monitor, need none."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import vae_kernels as vk
from vae_kernels.cli import fit
from vae_kernels.core import dtypes
from vae_kernels.monitor import reading


class WithoutFloat64(TorchDispatchMode):
    """Every operation that gives a float64 tensor is an error, as on "mps"."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor) and t.dtype == torch.float64:
                raise TypeError(f"{function}: this device has no float64")
        return out


@pytest.fixture
def mac(monkeypatch):
    """The CPU as a device without float64."""
    for module in (fit, reading):
        monkeypatch.setattr(module, "widest", lambda device: dtypes.widest(torch.device("mps")))
    with WithoutFloat64():
        yield


def test_the_device_has_no_float64(mac):
    with pytest.raises(TypeError, match="no float64"):
        torch.zeros(2, dtype=torch.float64)


@pytest.mark.parametrize(
    "kind, likelihood",
    [("eager", "bernoulli"), *[("fused", name) for name in ("bernoulli", "gaussian", "laplace")]],
)
def test_training_and_its_measures(mac, kind, likelihood):
    images = (torch.rand(60, 1, 5, 5, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    vae = vk.mlp_vae((1, 5, 5), 2, likelihood=likelihood, backend="lean")
    index = torch.arange(60)
    data = SimpleNamespace(images=images, split=lambda: (index[:40], index[40:]))
    config = {"device": torch.device("cpu"), "batch_size": 10, "loss": kind, "compiled": False, "precision": "float32"}
    config |= {"epochs": 2, "patience": None, "lr": 1e-3, "schedule": "constant", "seed": 0}
    progress, rows = {"rows": [], "step": 0, "loss_sum": 0.0, "seconds": 0.0}, []
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
    steps = {"interrupt": False, "on_step": lambda *_: None, "on_epoch": rows.append}
    assert fit.fit(vae, optimizer, data, config, progress, **steps)
    assert len(rows) == 2 and abs(rows[1]["train_neg_elbo_nats"]) < 1000


def test_the_monitor(mac):
    rows = []
    monitor = vk.Monitor(every=2, to=rows.append, likelihood="bernoulli")
    g = torch.Generator().manual_seed(0)
    for _ in range(4):
        x, logits, mu, logvar = (torch.rand(6, 5, generator=g) for _ in range(4))
        terms = vk.fused_elbo(logits, x, mu, logvar, return_terms=True, backend="lean")
        monitor.update(terms, mu=mu, logvar=logvar, logits=logits, x=x)
    monitor.close()
    assert len(rows) == 2 and all(row["loss"] < 100 for row in rows)
