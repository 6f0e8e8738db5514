"""Each example runs and learns, with fewer steps than by default."""

import importlib
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from places import EXAMPLES

import vae_kernels as vk

if not EXAMPLES.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no examples/", allow_module_level=True)


@pytest.fixture
def example(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are small: two threads would wait for each other longer than they compute
    yield importlib.import_module
    torch.set_num_threads(threads)


def of_blobs(example, scale=1):
    """(the pixels, the Bernoulli nll in nats of a model that knows only the mean of each pixel)"""
    x = example("blobs").blobs(2000) / 255
    mean = x.mean(0)
    return x, torch.nn.functional.binary_cross_entropy(mean.expand_as(x), x, reduction="sum").item() / len(x)


def test_loop(example):
    _, known = of_blobs(example)
    lines = []
    terms = example("loop").train(200, log=lines.append)
    assert (terms.nll + terms.kl).mean() < known  # -ELBO: the model has learned more than the mean picture
    assert len(lines) == 2 and "active latents" in lines[-1]


@pytest.mark.full
def test_hierarchy(example):
    module = example("hierarchy")
    levels = torch.bincount(module.DATA["blobs"]().flatten().long()) / (3000 * 28 * 28)
    known = -torch.xlogy(levels, levels).sum().item() / math.log(2)  # of a model with one distribution for all pixels
    bits, model = module.train("blobs", 100, log=lambda _: None)
    assert 0 < bits < known
    assert model.sample(2).shape == (2, 1, 28, 28)


def test_latent_autoencoder(example):
    nll, kl, model = example("latent_autoencoder").train(40, log=lambda _: None)
    x = example("blobs").blobs(1000) / 127.5 - 1
    known = 0.5 * x[0].numel() * (math.log(2 * math.pi * x.var().item()) + 1)  # one Gaussian for all pixels
    assert nll < known and kl > 0
    assert model.obs_logvar.item() < 0


def test_lightning(example):
    pytest.importorskip("lightning", reason="lightning is not installed: pip install lightning")
    _, known = of_blobs(example)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = example("lightning_vae").train(4, n=1000, enable_checkpointing=False, accelerator="cpu", **quiet)
    logged = {k: v.item() for k, v in trainer.callback_metrics.items()}
    assert logged.keys() == {
        f"{part}/{k}" for part in ("train", "val") for k in ("loss", "nll", "kl", "active_latents")
    }
    assert logged["val/loss"] == pytest.approx(logged["val/nll"] + logged["val/kl"], rel=1e-5)
    assert logged["val/loss"] < known


@pytest.mark.full
def test_pyro_vae(example, monkeypatch):
    """The loss falls below that of a model that knows only the mean of each pixel. Pyro's own distributions give the
    same losses, because one seed gives the same samples."""
    pytest.importorskip("pyro", reason='Pyro is not installed: pip install "vae-kernels[pyro]"')
    import pyro.distributions

    made = example("pyro_vae")
    binary = (example("blobs").blobs(2000).flatten(1) > 127).float()
    p = binary.mean(0).expand_as(binary)
    known = torch.nn.functional.binary_cross_entropy(p, binary, reduction="sum").item() / len(binary)
    losses = made.train(200, log=lambda _: None)
    assert sum(losses[-20:]) / 20 < known
    normal = pyro.distributions.Normal
    theirs = SimpleNamespace(
        Bernoulli=pyro.distributions.Bernoulli,
        Normal=lambda loc, scale=None, logvar=None: normal(loc, torch.exp(0.5 * logvar) if scale is None else scale),
    )
    monkeypatch.setattr(made, "dist", theirs)
    assert made.train(3, log=lambda _: None) == pytest.approx(losses[:3], rel=1e-5)


def test_table(example):
    """A drawn table in the place of the survey: the model explains the two columns that depend on each other."""
    made = example("table")
    size = torch.randn(1500)
    code = ((size > 0).long() + (size > 1).long()).float()
    x = torch.stack([size, torch.randn(1500), code], 1)
    names = ["size", "noise", "colour"]
    likelihood = vk.likelihoods.Mixed(("gaussian", "gaussian", ("categorical", 3)), codes=True)
    lines = []
    vae, test, _ = made.train(20, latents=2, hidden=32, log=lines.append, data=(x, likelihood, names))
    found = vk.diagnose(vae, test, log_p=None).measures.columns
    assert [column.kind for column in found] == ["gaussian", "gaussian", "categorical"]
    assert found[0].explained and found[2].explained
    assert len(lines) == 2 and "nats per row" in lines[-1]


def test_the_survey_of_the_table(example):
    pytest.importorskip("statsmodels", reason="statsmodels is not installed")
    x, likelihood, names = example("table").survey()
    assert x.shape == (6366, 9) and names[0] == "rate_marriage" and likelihood.columns[1] == "gaussian"
    assert not vk.log_prob(torch.zeros(6366, likelihood.width), x, likelihood=likelihood, backend="torch").isnan().any()


@pytest.mark.full
def test_doctor_cases(example):
    """One epoch is enough for a collapse. bench/results/doctor/cases.csv has the whole table, of 20 epochs."""
    cases = example("doctor_cases")
    stages = cases.judged("beta too high", seed=0, epochs=1)
    (made, _), (after, found) = stages
    assert made["right"] and made["posterior collapse"] == made["effective beta"] == "ill" and not made["change"]
    assert after["change"] == "beta=1.0, rec_weight=1.0" and found["effective beta"].level == "healthy"
    cases.draw(stages, "figure.png")
    assert Path("figure.png").stat().st_size > 1000


def test_one_script_makes_every_picture_of_the_doctors_page(example):
    """In full colour, and wide enough to be read."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    script = example("docs_pictures")
    made = {name.replace(" ", "-") for name, case in script.doctor_cases.CASES.items() if case.ill} | {"report"}
    there = {path.stem: image.open(path) for path in (EXAMPLES.parent / "docs/doctor").glob("*.png")}
    shown = set(re.findall(r"\]\(doctor/(.*?)\.png\)", (EXAMPLES.parent / "docs/doctor.md").read_text()))
    assert made == set(there) == shown
    for name, picture in there.items():
        assert picture.mode in ("RGB", "RGBA") and picture.width >= 600, name


@pytest.mark.full
def test_the_picture_of_the_report(example):
    """A run of one epoch. The second run has the options that the report of the first run suggests."""
    script = example("docs_pictures")
    browser = next((found for found in map(shutil.which, script.BROWSERS) if found), None)
    if browser is None:
        pytest.skip("no browser is installed that takes the picture")
    script.report(Path("report.png"), browser, ("--beta", "30", "--epochs", "1", "--latent-dim", "2"))
    assert Path("report.png").stat().st_size > 10_000


@pytest.mark.full
def test_first_look_cases(example):
    """Two of the cases, after one epoch. bench/results/doctor/first_look.csv has the whole table."""
    cases = example("first_look_cases")
    pixels = cases.digits()
    for name, level in (("uint8 of 0 and 1", "ill"), ("bool", "healthy")):
        row, levels = cases.judged(name, replace(cases.CASES[name], epochs=1), pixels, seed=0)
        assert levels["data"] == level and row["symptom"] == "data" and row["made"] == (level == "ill")
    assert row["right"] == ("ill" not in levels.values())
    cases.write(Path("rows.csv"), [row | {"levels": levels}])
    header, values = Path("rows.csv").read_text().splitlines()
    assert dict(zip(header.split(","), values.split(","), strict=True))["data"] == "healthy"


@pytest.mark.full
@pytest.mark.parametrize(
    "name", ["the aggregate posterior is the prior", "two latents, the prior fitted too", "beta 0.001"]
)
def test_doctor_holes(example, name):
    """bench/results/doctor/holes.csv has the whole table, with more epochs and the large digits too."""
    pytest.importorskip("sklearn", reason="scikit-learn, which has the small digits, is not installed")
    holes = example("doctor_holes")
    of = holes.small_digits()
    nets = holes.classifiers(of[0][of[2]] / 255, of[1][of[2]], epochs=1, seeds=1)
    row = holes.judged(name, 0, of, nets)
    assert row["verdict"] == row["expected"], row


def test_the_powerful_decoder_reads_only_what_is_before(example):
    """The gradient of each logit by x is 0 at the pixel itself and at all later pixels."""
    torch.manual_seed(0)
    decoder, x = example("doctor_cases").Autoregressive((1, 3, 3), 2), torch.rand(1, 1, 3, 3)
    slopes = torch.autograd.functional.jacobian(lambda x: decoder(torch.zeros(1, 2), x).flatten(), x).reshape(9, 9)
    assert torch.equal(slopes != 0, torch.ones(9, 9).tril(-1).bool())
