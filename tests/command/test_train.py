"""`vae-kernels train` on toy data: it learns with the fused loss as with the eager loss. The tests also cover the files
that a run leaves, and what the command refuses."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiers import every
from training import refusal, rows, same_run, small, train

import vae_kernels as vk
from vae_kernels import cli
from vae_kernels.cli import fit, listing, ranks

PICTURES = ["curves.png", "latent.png", "reconstructions.png", "samples.png"]


@pytest.mark.full
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_fused_ends_where_eager_does(blobs, tmp_path, no_pictures, likelihood):
    ends = {}
    for loss in ("fused", "eager"):
        train(*small(blobs, tmp_path, "--likelihood", likelihood, "--loss", loss, "--name", loss, "--epochs", 40))
        history = [row["test_neg_elbo_nats"] for row in rows(tmp_path / loss)]
        ends[loss] = np.mean(history[-5:])
        gain = history[0] - ends[loss]
    # The two losses draw different noise, so the last losses agree only within a small part of the gain.
    assert gain > 5
    assert ends["fused"] == pytest.approx(ends["eager"], abs=0.08 * gain)


@pytest.mark.parametrize("likelihood", ["laplace", "continuous_bernoulli", "discretized_logistic"])
def test_other_likelihoods_of_pixels(blobs, tmp_path, no_pictures, likelihood):
    """A run with each of these likelihoods learns. The learned scale, if the likelihood has one, is in the checkpoint,
    so a resumed run ends with the same bits."""
    said = train(*small(blobs, tmp_path, "--likelihood", likelihood, "--epochs", 6, "--name", "run"))
    history = [row["test_neg_elbo_nats"] for row in rows(tmp_path / "run")]
    assert history[-1] < history[0]
    assert ("learned scale of a pixel" in said) == (likelihood != "continuous_bernoulli")
    train(*small(blobs, tmp_path, "--likelihood", likelihood, "--epochs", 3, "--name", "half"))
    train("--resume", tmp_path / "half", "--epochs", 6)
    same_run(tmp_path / "run", tmp_path / "half")


def test_fused_and_eager_measure_alike(blobs):
    """With the same weights, and with a posterior of almost no variance, both losses give the same terms and
    gradients."""
    x = torch.from_numpy(np.load(blobs)["x"])[:50, None]
    for likelihood in ("bernoulli", "gaussian"):
        torch.manual_seed(0)
        vae = vk.mlp_vae((1, 8, 8), 2, likelihood=likelihood, beta=3.0)
        if likelihood == "gaussian":
            vae.obs_logvar = torch.nn.Parameter(torch.tensor(-1.0))
        with torch.no_grad():
            vae.encoder[-1].weight[2:].zero_()
            vae.encoder[-1].bias[2:] = -40.0  # the bias of logvar: the standard deviation is 2e-9
        values, grads = [], []
        for kind in ("fused", "eager"):
            values.append(torch.stack(fit.nll_and_kl(kind, vae, x, torch.Generator().manual_seed(0))))
            grads.append(torch.autograd.grad(fit.objective(kind, vae, x), list(vae.parameters())))
        torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
        for fused, eager in zip(*grads, strict=True):
            torch.testing.assert_close(fused, eager, rtol=1e-4, atol=1e-4)


@pytest.mark.full("conv")
@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_what_a_run_leaves(blobs, tmp_path, model):
    output = train(*small(blobs, tmp_path, "--epochs", 2, "--batch-size", 7, "--model", model))
    run = tmp_path / "blobs-bernoulli-fused"
    files = ["checkpoint.safetensors", "config.json", "kl_per_dim.csv", "metrics.csv", "model.safetensors"]
    assert sorted(file.name for file in run.iterdir()) == sorted(files + PICTURES)
    assert all(f"  {name} " in output for name in files + PICTURES) and str(run) in output
    assert {*files, *PICTURES} <= listing.WHAT.keys()
    for name in PICTURES:
        picture = np.asarray(Image.open(run / name).convert("L"))
        assert min(picture.shape) > 300 and picture.std() > 5
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert header == (
        "epoch,train_loss_nats,train_neg_elbo_nats,test_neg_elbo_nats,test_reconstruction_nats,test_kl_nats,active_units,seconds"
    )
    dims = (run / "kl_per_dim.csv").read_text().splitlines()
    assert dims[0] == "epoch,kl_0_nats,kl_1_nats" and [line.split(",")[0] for line in dims[1:]] == ["1", "2"]
    first, last = rows(run)
    total = sum(map(float, dims[-1].split(",")[1:]))
    assert total == pytest.approx(last["test_kl_nats"], rel=1e-4)
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


@pytest.mark.full
@pytest.mark.parametrize("shape", every(3, [(40, 6, 5, 3), (40, 16), (40, 7)]), ids=str)
def test_other_shapes_have_pictures(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random(shape, dtype=np.float32))
    options = ("--latent-dim", 3, "--likelihood", "gaussian", "--epochs", 1)
    train("--data", tmp_path / "a.npy", "--out", tmp_path, *options)
    assert {*PICTURES} <= {file.name for file in (tmp_path / "a-gaussian-fused").iterdir()}


@pytest.mark.full  # it trains in a process of its own
def test_output_of_a_pipe_is_plain(blobs, tmp_path):
    command = [sys.executable, "-m", "vae_kernels", "train", *map(str, small(blobs, tmp_path, "--epochs", 3))]
    environment = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0 and not done.stderr
    assert all(32 <= byte < 127 or byte == 10 for byte in done.stdout)
    # after so few epochs the model may still be ill, and the row then says so
    rows = re.findall(r"^ +\d+ .*/2(  ILL: .*)?$", done.stdout.decode(), re.MULTILINE)
    assert len(rows) == 3


REFUSALS = {
    ("--data", "no-such-file.npy"): "no-such-file.npy: no such file or folder",
    ("--beta", "-1"): "--beta: got -1, expected finite numbers >= 0",
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
        assert not any(tmp_path.iterdir())  # the refused command leaves no file


def test_eager_has_no_noise_of_a_place(monkeypatch, tmp_path):
    monkeypatch.setattr(ranks, "count", lambda: 2)
    assert "--loss eager draws other noise on each rank" in refusal("--loss", "eager", "--out", tmp_path)


def test_more_refusals(blobs, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in refusal("--data", blobs, "--out", tmp_path / "file")
    np.save(tmp_path / "flat.npy", np.zeros((20, 7), np.uint8))
    assert "--model conv needs images" in refusal("--data", tmp_path / "flat.npy", "--model", "conv")
    assert "all values are equal" in refusal("--data", tmp_path / "flat.npy", "--likelihood", "gaussian")


def test_missing_extra_is_one_sentence(monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rich" else find_spec(name))
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message == 'error: vae-kernels needs rich; get it with: pip install "vae-kernels[demo]"\n'


@pytest.mark.full  # a new process imports torch
def test_the_library_does_not_import_the_command(tmp_path):
    modules = ("vae_kernels.cli.train", "vae_kernels.cli.checkpoint", "typer", "rich", "matplotlib", "safetensors")
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


@pytest.mark.full
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
