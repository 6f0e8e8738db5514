"""attach for each class of models: loss and gradients are those of scvi-tools' formulas with eps = 0, and a training
with the same seed is the same."""

import copy
import importlib
import json
import re

import numpy as np
import pytest
import torch
from places import EXAMPLES

pytest.importorskip("scvi", reason='scvi-tools: not installed: pip install "vae-kernels[scvi]"')
import scvi
import scvi_models

from vae_kernels.integrations.scvi import attach, steps

STEPS = {
    "SCVI": {},
    "SCVI, nb, a dispersion a cell": {"gene_likelihood": "nb", "dispersion": "gene-cell"},
    "SCVI, a latent library size": {"use_observed_lib_size": False},
    "SCVI, a size factor": {"setup": {"size_factor_key": "size"}},
    "SCANVI": {},
    "SCANVI, nb, a dispersion a batch": {"gene_likelihood": "nb", "dispersion": "gene-batch"},
    "LinearSCVI": {},
    "LinearSCVI, zinb": {"gene_likelihood": "zinb"},
    "CondSCVI": {},
    "CondSCVI, a mixture as the prior": {"prior": "mog"},
    "TOTALVI": {},
    "TOTALVI, zinb, a dispersion a batch": {"gene_likelihood": "zinb", "gene_dispersion": "gene-batch"},
    "TOTALVI, a size factor": {"setup": {"size_factor_key": "size"}},
    "TOTALVI, a panel a batch": {"empty": True},
    "PEAKVI": {},
    "PEAKVI, no depth and no region factors": {"model_depth": False, "region_factors": False},
    "MULTIVI": {},
    "MULTIVI, nb": {"gene_likelihood": "nb"},
    "MULTIVI, poisson, size factors": {"gene_likelihood": "poisson", "setup": {"size_factor_key": ["size", "depth"]}},
    "POISSONVI": {},
}


def build(case, **settings):
    name = case.partition(",")[0]
    settings = {**STEPS.get(case, {}), **settings}
    if settings.pop("empty", False):
        adata = scvi_models.cells()
        adata.obsm["protein"][adata.obs["batch"] == "1", 2] = 0  # was not measured there: scvi-tools masks it
        settings["adata"] = adata
    return scvi_models.build(name, **settings)


class _Mask(np.ndarray):
    """A mask of scvi-tools that becomes float64 where scvi-tools asks for float32."""

    def __new__(cls, mask):
        return np.asarray(mask).view(cls)

    def astype(self, dtype):
        return np.asarray(self).astype(np.float64)


def calls(monkeypatch):
    """The likelihoods that the fused op is called with."""
    made, nll = [], steps.nll
    monkeypatch.setattr(steps, "nll", lambda *a, **k: made.append(k["likelihood"]) or nll(*a, **k))
    return made


@pytest.mark.parametrize("case", STEPS)
def test_loss_and_gradients_are_those_without_eps(case, monkeypatch):
    model = build(case)
    if getattr(model.module, "protein_batch_mask", None):
        model.module.protein_batch_mask = {key: _Mask(m) for key, m in model.module.protein_batch_mask.items()}
    tensors = scvi_models.in_float64(scvi_models.batch(model))
    weight = {} if case.startswith("PEAKVI") else {"kl_weight": torch.tensor(0.25, dtype=torch.float64)}
    noise = {}
    own, ours = copy.deepcopy(model.module).double(), attach(model).module.double()
    made = calls(monkeypatch)
    scvi_models.without_eps(monkeypatch)
    own = scvi_models.step(own, tensors, monkeypatch, noise, **weight)
    assert not made
    ours = scvi_models.step(ours, tensors, monkeypatch, noise, **weight)
    assert made
    for group in ("loss", "reconstruction_loss", "kl_local"):
        got, expected = (getattr(losses, group) for losses, _ in (ours, own))
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)
    largest = max(g.abs().max() for g in own[1].values() if g is not None)
    for name, expected in own[1].items():
        got = ours[1][name]
        if expected is None or not expected.any():
            assert got is None or not got.any(), name
            continue
        # a bias before a batch norm has a gradient of 0: rounding errors of the largest gradients remain
        torch.testing.assert_close(
            got, expected, rtol=1e-6, atol=1e-12 * float(largest), msg=lambda m, n=name: f"{n}: {m}"
        )


QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def history(name, attached):
    scvi.settings.seed = 0
    model = build(name)
    if attached:
        attach(model)
    model.train(3, batch_size=20, train_size=0.8, early_stopping=False, **QUIET)
    kept = model.history["train_loss_epoch"] if "train_loss_epoch" in model.history else model.history["elbo_train"]
    return kept.to_numpy(dtype=float).ravel()


@pytest.mark.full
def test_the_example_of_real_cells(monkeypatch):
    if not EXAMPLES.is_dir():
        pytest.skip("the tests run without the source tree beside them: there is no examples/")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = importlib.import_module("scvi_cells")
    adata, model, diagnosis = example.run(epochs=40, umap=False)
    assert example.agreement(adata) > 0.2  # of clusters by chance: 0
    assert diagnosis["decoder output"].level != "ill" and diagnosis["data"].level == "healthy"
    elbo = -model.get_elbo(adata[np.arange(700) % 5 == 0])
    assert float(elbo) == pytest.approx(diagnosis.measures.nll + diagnosis.measures.kl, rel=0.02)


@pytest.mark.soak
def test_the_notebook_of_real_cells(monkeypatch, capsys):
    """Its cells of code run one after the other, and the doctor names the same symptoms as the notebook shows."""
    if not EXAMPLES.is_dir():
        pytest.skip("the tests run without the source tree beside them: there is no examples/")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("MPLBACKEND", "agg")
    verdicts = re.compile(r"^(?:healthy|watch|ill)  +[a-z ]+$", re.M)
    names, printed, shown = {}, [], []
    for cell in json.loads((EXAMPLES / "scvi_cells.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            printed += verdicts.findall(capsys.readouterr().out)
            shown += verdicts.findall("".join(line for out in cell["outputs"] for line in out.get("text", ())))
    assert printed == shown and len(shown) > 3
    assert names["agreement"](names["adata"]) > 0.2  # of clusters by chance: 0


@pytest.mark.full
@pytest.mark.parametrize("name", scvi_models.DEFAULTS)
def test_a_training_with_the_same_seed_is_the_same(name, monkeypatch):
    """The noise is the same, so the losses of three epochs differ by scvi-tools' eps and by rounding only."""
    own, made = history(name, False), calls(monkeypatch)
    ours = history(name, True)
    np.testing.assert_allclose(ours, own, rtol=1e-3)
    assert len(made) >= 3 * 2  # epochs and batches
