"""`vae-kernels train` on toy data: it learns, fused as eager; what it leaves; stopping and resuming; its refusals."""

import csv
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import vae_kernels as vk
from vae_kernels import cli
from vae_kernels.cli import checkpoint, fit, ranks
from vae_kernels.cli import train as command

PICTURES = ["curves.png", "latent.png", "reconstructions.png", "samples.png"]


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """300 images of 8x8 with one bright spot each, of two classes: top and bottom."""
    rng = np.random.default_rng(0)
    at = rng.uniform(1, 6, (300, 2))
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), -1)
    spots = np.exp(-((grid - at[:, None, None]) ** 2).sum(-1) / 3)
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, x=(255 * spots).astype(np.uint8), y=np.where(at[:, 0] < 3.5, "top", "bottom"))
    return path


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(command, "draw", lambda *_: None)


def train(*options, code=0):
    """Run the command in this process -> what it printed, both streams."""
    result = CliRunner().invoke(cli.app(), ["train", *map(str, options)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def rows(run):
    with open(run / "metrics.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def same_run(a, b):
    """Equal bits: weights, optimizer, random state, and the metrics but for the seconds."""
    x, y = load_file(a / "checkpoint.safetensors"), load_file(b / "checkpoint.safetensors")
    assert x.keys() == y.keys() and any(key.startswith("optimizer") for key in x)
    assert all(torch.equal(x[key], y[key]) for key in x)
    for one, other in zip(rows(a), rows(b), strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def small(data, out, *options):
    return "--data", data, "--out", out, "--latent-dim", 2, "--threads", 1, *options


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_fused_ends_where_eager_does(blobs, tmp_path, no_pictures, likelihood):
    ends = {}
    for loss in ("fused", "eager"):
        train(*small(blobs, tmp_path, "--likelihood", likelihood, "--loss", loss, "--name", loss, "--epochs", 40))
        history = [row["test_neg_elbo_nats"] for row in rows(tmp_path / loss)]
        ends[loss] = np.mean(history[-5:])
        gain = history[0] - ends[loss]
    # The noise differs: so the ends agree within a small part of what was learned.
    assert gain > 5
    assert ends["fused"] == pytest.approx(ends["eager"], abs=0.08 * gain)


@pytest.mark.parametrize("likelihood", ["laplace", "continuous_bernoulli", "discretized_logistic"])
def test_other_likelihoods_of_pixels(blobs, tmp_path, no_pictures, likelihood):
    """They learn, with their scale where they have one, which is part of what is saved and gone on with."""
    said = train(*small(blobs, tmp_path, "--likelihood", likelihood, "--epochs", 6, "--name", "run"))
    history = [row["test_neg_elbo_nats"] for row in rows(tmp_path / "run")]
    assert history[-1] < history[0]
    assert ("learned scale of a pixel" in said) == (likelihood != "continuous_bernoulli")
    train(*small(blobs, tmp_path, "--likelihood", likelihood, "--epochs", 3, "--name", "half"))
    train("--resume", tmp_path / "half", "--epochs", 6)
    same_run(tmp_path / "run", tmp_path / "half")


def test_fused_and_eager_measure_alike(blobs):
    """With the same weights and the variance of the noise turned off, both losses give the same terms and gradients."""
    x = torch.from_numpy(np.load(blobs)["x"])[:50, None]
    for likelihood in ("bernoulli", "gaussian"):
        torch.manual_seed(0)
        vae = vk.mlp_vae((1, 8, 8), 2, likelihood=likelihood, beta=3.0)
        if likelihood == "gaussian":
            vae.obs_logvar = torch.nn.Parameter(torch.tensor(-1.0))
        with torch.no_grad():
            vae.encoder[-1].weight[2:].zero_()
            vae.encoder[-1].bias[2:] = -40.0  # logvar: a standard deviation of 2e-9
        values, grads = [], []
        for kind in ("fused", "eager"):
            values.append(torch.stack(fit.nll_and_kl(kind, vae, x, torch.Generator().manual_seed(0))))
            grads.append(torch.autograd.grad(fit.objective(kind, vae, x), list(vae.parameters())))
        torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
        for fused, eager in zip(*grads, strict=True):
            torch.testing.assert_close(fused, eager, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_what_a_run_leaves(blobs, tmp_path, model):
    output = train(*small(blobs, tmp_path, "--epochs", 2, "--batch-size", 7, "--model", model))
    run = tmp_path / "blobs-bernoulli-fused"
    files = ["checkpoint.safetensors", "config.json", "metrics.csv", "model.safetensors"]
    assert sorted(file.name for file in run.iterdir()) == sorted(files + PICTURES)
    assert all(name in output for name in files + PICTURES) and str(run) in output
    for name in PICTURES:
        picture = np.asarray(Image.open(run / name).convert("L"))
        assert min(picture.shape) > 300 and picture.std() > 5
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert header == (
        "epoch,train_loss_nats,train_neg_elbo_nats,test_neg_elbo_nats,test_reconstruction_nats,test_kl_nats,active_units,seconds"
    )
    first, last = rows(run)
    assert last["test_neg_elbo_nats"] < first["test_neg_elbo_nats"]
    assert last["test_neg_elbo_nats"] == last["test_reconstruction_nats"] + last["test_kl_nats"]
    assert f"test -ELBO {last['test_neg_elbo_nats']:.2f} nats" in output
    config = json.loads((run / "config.json").read_text())
    assert config["epochs"] == 2 and config["model"] == model and config["found"]["shape"] == [300, 1, 8, 8]
    vae = {"mlp": vk.mlp_vae, "conv": vk.conv_vae}[model]((1, 8, 8), 2)
    vae.load_state_dict(load_file(run / "model.safetensors"))
    x = torch.from_numpy(np.load(blobs)["x"])[:, None]
    assert vae.loss(x).item() == pytest.approx(last["train_neg_elbo_nats"], rel=0.1)
    train(*small(blobs, tmp_path, "--epochs", 1))  # a second run takes the next name
    assert (tmp_path / "blobs-bernoulli-fused-2" / "samples.png").exists()


@pytest.mark.parametrize("shape", [(40, 16), (40, 7), (40, 6, 5, 3)], ids=str)
def test_other_shapes_have_pictures(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random(shape, dtype=np.float32))
    options = ("--latent-dim", 3, "--likelihood", "gaussian", "--epochs", 1)
    train("--data", tmp_path / "a.npy", "--out", tmp_path, *options)
    assert {*PICTURES} <= {file.name for file in (tmp_path / "a-gaussian-fused").iterdir()}


def test_output_of_a_pipe_is_plain(blobs, tmp_path):
    command = [sys.executable, "-m", "vae_kernels", "train", *map(str, small(blobs, tmp_path, "--epochs", 3))]
    environment = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0 and not done.stderr
    assert all(32 <= byte < 127 or byte == 10 for byte in done.stdout)
    rows = re.findall(
        r"^ +\d+ .*/2(  ILL: .*)?$", done.stdout.decode(), re.MULTILINE
    )  # of three epochs it may still be
    assert len(rows) == 3


def test_resume_equals_an_undisturbed_run(blobs, tmp_path, no_pictures):
    train(*small(blobs, tmp_path, "--name", "whole", "--epochs", 4))
    train(*small(blobs, tmp_path, "--name", "parts", "--epochs", 2))
    before = load_file(tmp_path / "parts" / "model.safetensors")
    train("--resume", tmp_path / "parts", "--epochs", 4)
    assert not torch.equal(
        before["encoder.1.weight"], load_file(tmp_path / "parts/model.safetensors")["encoder.1.weight"]
    )
    assert len(rows(tmp_path / "parts")) == 4
    same_run(tmp_path / "whole", tmp_path / "parts")
    assert json.loads((tmp_path / "parts" / "config.json").read_text())["epochs"] == 4


@pytest.mark.parametrize("stop_at", [1, 5, 6, 7])  # of 3 steps an epoch: the first one, and around the end of an epoch
@pytest.mark.parametrize("loss", ["fused", "eager"])
def test_interrupt_and_resume_at_any_step(blobs, tmp_path, monkeypatch, no_pictures, stop_at, loss):
    options = ("--epochs", 3, "--likelihood", "gaussian", "--loss", loss)
    train(*small(blobs, tmp_path, "--name", "whole", *options))
    steps, objective = 0, fit.objective

    def interrupted(*args):
        nonlocal steps
        steps += 1
        if steps == stop_at:
            signal.raise_signal(signal.SIGINT)
        return objective(*args)

    monkeypatch.setattr(fit, "objective", interrupted)
    run = tmp_path / "parts"
    output = train(*small(blobs, tmp_path, "--name", "parts", *options), code=130)
    assert steps == stop_at  # the step in progress was the last one
    assert f"vae-kernels train --resume {run}" in output
    assert len(rows(run)) == stop_at // 3
    train("--resume", run)
    assert steps == 9
    same_run(tmp_path / "whole", run)


def test_ctrl_c_from_outside(blobs, tmp_path, no_pictures):
    options = small(blobs, tmp_path, "--name", "run", "--epochs", 100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_kernels", "train", *map(str, options)],
        cwd=tmp_path,  # not the source tree, whose vae_kernels has no compiled library
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    run, deadline = tmp_path / "run", time.monotonic() + 60
    try:
        while not (run / "metrics.csv").exists() or len(rows(run)) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and not errors, errors
    assert f"vae-kernels train --resume {run}" in output.decode()
    epochs = len(rows(run)) + 2
    train("--resume", run, "--epochs", epochs)
    train(*small(blobs, tmp_path, "--name", "whole", "--epochs", epochs))
    same_run(tmp_path / "whole", run)


def test_a_kill_leaves_the_last_good_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    checkpoint.write(path, b"good")
    real = os.replace

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(path, b"half")
    assert path.read_bytes() == b"good"
    monkeypatch.setattr(os, "replace", real)
    checkpoint.write(path, "new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


@pytest.fixture(scope="module")
def finished(blobs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    train(*small(blobs, out, "--name", "done", "--epochs", 1))
    return out / "done"


def refusal(*options):
    """The one sentence that `train` with these options answers on stderr."""
    result = CliRunner().invoke(cli.app(), ["train", *map(str, options)])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_resume_refuses_what_conflicts(finished, blobs):
    before = (finished / "config.json").read_bytes()
    message = refusal("--resume", finished, "--epochs", 2, "--lr", 0.1, "--latent-dim", 5, "--name", "x")
    assert "--latent-dim (the run has 2), --lr (the run has 0.001), --name;" in message and "--epochs" not in message
    assert "no-such-run" in refusal("--resume", finished.parent / "no-such-run", "--epochs", 2)
    assert (finished / "config.json").read_bytes() == before


def test_resume_of_a_finished_run_draws_again(finished, blobs):
    before = {file.name: file.read_bytes() for file in finished.iterdir()}
    (finished / "curves.png").unlink()
    output = train("--resume", finished, "--data", blobs, "--lr", 1e-3)  # the same values are no conflict
    assert "no epoch was left" in output
    assert before == {file.name: file.read_bytes() for file in finished.iterdir()}


def test_resume_cannot_take_epochs_back(blobs, tmp_path, no_pictures):
    train(*small(blobs, tmp_path, "--name", "run", "--epochs", 2))
    assert "--epochs: got 1, but" in refusal("--resume", tmp_path / "run", "--epochs", 1)


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "other"])
def test_resume_refuses_a_broken_checkpoint(finished, tmp_path, damage):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_bytes((finished / "config.json").read_bytes())
    whole, path = (finished / "checkpoint.safetensors").read_bytes(), run / "checkpoint.safetensors"
    if damage != "missing":
        other = (finished / "model.safetensors").read_bytes()
        path.write_bytes({"cut": whole[:-9], "empty": b"", "other": other}[damage])
    assert f"{path} cannot be read" in refusal("--resume", run, "--epochs", 2)


WRONG = {
    "beta": ("1", "expected a finite number >= 0"),
    "lr": (math.nan, "expected a finite number >= "),
    "data": ("a\0", "expected null, or a text"),
    "latent_dim": ([2], "expected an integer from 1"),
    "epochs": (True, "expected an integer from 1"),
    "threads": (1.5, "expected null, or an integer from 1"),
    "model": (["mlp"], "expected one of mlp, conv"),
    "likelihood": ("poisson", "expected one of bernoulli"),
    "prior": (None, "expected one of normal"),
    "backend": (False, "expected a text"),
    "found": (3, "expected what the data were like"),
}


@pytest.mark.parametrize("key", WRONG)
def test_resume_and_the_doctor_refuse_an_option_that_cannot_be(finished, tmp_path, key):
    run = shutil.copytree(finished, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    value, said = WRONG[key]
    (run / "config.json").write_text(json.dumps(config | {key: value}))
    message = refusal("--resume", run)
    assert f"config.json: {key} is " in message and said in message
    assert f"config.json: {key} is " in CliRunner().invoke(cli.app(), ["doctor", str(run)]).stderr


def test_resume_refuses_a_config_without_end(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "config.json").write_text("[" * 100_000)
    assert "config.json is unreadable" in refusal("--resume", run)


def test_options_that_go_together_with_no_backend_are_refused_before_training(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"backend": "abacus"}))
    assert "backend: got 'abacus'" in refusal("--resume", run, "--epochs", 2)


def other_progress(change):
    def damage(metadata, tensors):
        progress = json.loads(metadata["progress"])
        return {"progress": json.dumps(change(progress))}, tensors

    return damage


DAMAGE = {
    "no seconds": other_progress(lambda p: {k: v for k, v in p.items() if k != "seconds"}),
    "a list": other_progress(lambda p: [p]),
    "rows that are none": other_progress(lambda p: p | {"rows": "ab"}),
    "a row without a metric": other_progress(lambda p: p | {"rows": [{"epoch": 1}]}),
    "a metric that is none": other_progress(lambda p: p | {"rows": [dict.fromkeys(p["rows"][0])]}),
    "steps before the first": other_progress(lambda p: p | {"step": -1}),
    "a loss of nan": other_progress(lambda p: p | {"loss_sum": math.nan}),
    "a moment less": lambda m, t: (m, {k: v for k, v in t.items() if k != "optimizer.0.exp_avg"}),
    "a moment of another shape": lambda m, t: (m, t | {"optimizer.0.exp_avg": torch.zeros(3)}),
    "a moment of integers": lambda m, t: (m, t | {"optimizer.0.exp_avg": t["optimizer.0.exp_avg"].int()}),
    "a parameter more": lambda m, t: (m, t | {"optimizer.999.step": torch.zeros(())}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_resume_refuses_a_checkpoint_that_fits_no_run(finished, tmp_path, damage):
    """Each is a whole safetensors file."""
    run = shutil.copytree(finished, tmp_path / "run")
    path = run / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        metadata, tensors = DAMAGE[damage](file.metadata(), load_file(path))
    save_file(tensors, path, metadata)
    assert f"{path} cannot be read, or does not fit" in refusal("--resume", run, "--epochs", 2)


def test_resume_refuses_other_data(tmp_path, no_pictures):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((20, 4), np.uint8))
    train(*small(path, tmp_path, "--name", "run", "--epochs", 1))
    np.save(path, np.ones((20, 4), np.uint8))
    assert "a.npy has changed" in refusal("--resume", tmp_path / "run", "--epochs", 2)


REFUSALS = {
    ("--data", "no-such-file.npy"): "no-such-file.npy: no such file or folder",
    ("--beta", "-1"): "--beta: got -1, expected a finite number >= 0",
    ("--beta", "nan"): "--beta: got nan",
    ("--lr", "0"): "--lr: got 0, expected a finite number > 0",
    ("--backend", "abacus"): "backend",
    ("--backend", "torch", "--loss", "eager"): "--backend torch has no effect with --loss eager",
    ("--device", "abacus"): "--device: 'abacus' cannot be used here",
    ("--name", "a/b"): "--name: got 'a/b'",
    ("--lr", "1e30"): "the loss is no longer finite in epoch 1; try a smaller --lr",
}


@pytest.mark.parametrize("options", REFUSALS, ids=" ".join)
def test_refusals(blobs, tmp_path, options):
    before = [] if "--data" in options else ["--data", blobs]
    assert REFUSALS[options] in refusal(*before, "--out", tmp_path, *options)
    if "1e30" not in options:
        assert not any(tmp_path.iterdir())  # nothing half-made is left behind


def test_eager_has_no_noise_of_a_place(monkeypatch, tmp_path):
    monkeypatch.setattr(ranks, "count", lambda: 2)
    assert "--loss eager draws other noise on each rank" in refusal("--loss", "eager", "--out", tmp_path)


def test_more_refusals(finished, blobs, tmp_path):
    assert f"--resume {finished} goes on" in refusal("--data", blobs, "--out", finished.parent, "--name", "done")
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in refusal("--data", blobs, "--out", tmp_path / "file")
    np.save(tmp_path / "flat.npy", np.zeros((20, 7), np.uint8))
    assert "--model conv needs images" in refusal("--data", tmp_path / "flat.npy", "--model", "conv")
    assert "all values are equal" in refusal("--data", tmp_path / "flat.npy", "--likelihood", "gaussian")


def doctor(*options):
    return CliRunner().invoke(cli.app(), ["doctor", *map(str, options)])


def test_the_doctor_judges_a_run(finished):
    result = doctor(finished, "--samples", 20)
    assert result.exit_code in (0, 1) and "20 held-out samples" in result.output, result.output
    for symptom in ("posterior collapse", "holes", "effective beta", "blur"):
        assert symptom in result.output
    assert (result.exit_code == 1) == (" ill " in result.output)


def test_the_doctor_leaves_a_report(finished, tmp_path):
    said = " ".join(doctor(finished, "--samples", 20).output.split())
    assert f"report with figures: {finished / 'report.html'}" in said
    page = (finished / "report.html").read_text()
    assert page.startswith("<!doctype html>") and ">top<" in page and page.count("<figure>") == 5
    result = doctor(finished, "--samples", 20, "--html", tmp_path / "mine.html")
    assert f"figures: {tmp_path / 'mine.html'}" in " ".join(result.output.split())
    assert (tmp_path / "mine.html").read_text() == page
    result = doctor(finished, "--samples", 20, "--html", tmp_path / "no" / "folder.html")
    assert result.exit_code == 2 and "error: cannot write" in result.stderr and result.stderr.count("\n") == 1


def test_the_doctor_judges_a_learned_prior(blobs, tmp_path, no_pictures):
    train(*small(blobs, tmp_path, "--name", "mog", "--epochs", 1, "--prior", "mog"))
    result = doctor(tmp_path / "mog")
    assert result.exit_code in (0, 1) and "rate and distortion" in result.output
    assert "no KL by dimension" in (tmp_path / "mog" / "report.html").read_text()


def test_a_run_says_what_is_ill_while_it_trains(blobs, tmp_path, no_pictures):
    said = train(*small(blobs, tmp_path, "--beta", 1000, "--epochs", 3, "--name", "sick"))
    lines = [line for line in said.splitlines() if "ILL" in line]
    assert len(lines) == 3 and lines[-1].endswith("ILL: posterior collapse: 0 latents active, KL 0.00 nats")
    assert f"vae-kernels doctor {tmp_path / 'sick'}" in said
    well = train(*small(blobs, tmp_path, "--epochs", 20, "--lr", 0.005, "--name", "well"))
    first, *_, last = re.findall(r"^ +\d+ .*/2.*$", well, re.MULTILINE)
    assert "ILL" in first and "ILL" not in last  # by then the latents say more than a bit


def test_a_glance_draws_nothing_of_the_trainings_noise(blobs):
    from vae_kernels.cli.alarm import glance

    x = torch.from_numpy(np.load(blobs)["x"])[:, None]
    vae, before = vk.mlp_vae((1, 8, 8), 2), torch.get_rng_state()
    kl, active = glance(vae, x)
    assert torch.equal(torch.get_rng_state(), before) and active in (0, 1, 2)
    assert kl == pytest.approx(vk.gaussian_kl(*vae.encode(x[:256]), reduction="mean").item(), rel=1e-5)


def test_the_doctor_sees_a_collapse(finished, tmp_path):
    """The same run, with an encoder that says nothing."""
    run = tmp_path / "sick"
    shutil.copytree(finished, run)
    weights = load_file(run / checkpoint.MODEL)
    for name in weights:
        if name.startswith("encoder"):
            weights[name].zero_()
    save_file(weights, run / checkpoint.MODEL)
    result = doctor(run)
    assert result.exit_code == 1 and "0 of 2 latents active" in " ".join(result.output.split()), result.output


def test_the_doctor_refuses_what_is_no_run(finished, tmp_path):
    run = tmp_path / "broken"
    shutil.copytree(finished, run)
    (run / checkpoint.MODEL).write_bytes(b"no weights")
    for folder in (tmp_path, run):
        result = doctor(folder)
        assert result.exit_code == 2 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_missing_extra_is_one_sentence(monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rich" else find_spec(name))
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message == 'error: vae-kernels needs rich; get it with: pip install "vae-kernels[demo]"\n'


def test_the_library_does_not_import_the_command(tmp_path):
    modules = ("vae_kernels.cli", "typer", "rich", "matplotlib")
    code = f"import sys, vae_kernels; print([m for m in {modules} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stdout + done.stderr


@pytest.mark.parametrize("prior", ["mog", "vamp", "flow"])
def test_priors_train_and_resume(blobs, tmp_path, no_pictures, prior):
    if prior == "flow":
        pytest.importorskip("zuko", reason="zuko, whose flows are priors, is not installed")
    options = [] if prior == "flow" else ["--components", 12]
    train(*small(blobs, tmp_path, "--prior", prior, "--name", "whole", "--epochs", 6, *options))
    history = [row["test_neg_elbo_nats"] for row in rows(tmp_path / "whole")]
    assert history[-1] < history[0] - 2
    train(*small(blobs, tmp_path, "--prior", prior, "--name", "parts", "--epochs", 3, *options))
    train("--resume", tmp_path / "parts", "--epochs", 6)
    same_run(tmp_path / "whole", tmp_path / "parts")
    weights = load_file(tmp_path / "whole" / "model.safetensors")
    assert any(name.startswith("prior_module.") for name in weights)
    assert not any("_encoder" in name for name in weights)


def test_a_prior_leaves_its_pictures(blobs, tmp_path):
    train(*small(blobs, tmp_path, "--prior", "mog", "--epochs", 1))
    run = tmp_path / "blobs-bernoulli-fused-mog"
    assert all((run / name).stat().st_size > 1000 for name in PICTURES)


@pytest.mark.parametrize(
    "options, said",
    [
        (["--prior", "mog", "--loss", "eager"], "--prior mog needs --loss fused"),
        (["--prior", "flow", "--components", 3], "--components has no effect with --prior flow"),
        (["--prior", "vamp", "--components", 5000], "--components: got 5000, expected at most 270"),
    ],
)
def test_refusals_of_priors(blobs, tmp_path, options, said):
    assert said in train(*small(blobs, tmp_path, *options), code=2)
