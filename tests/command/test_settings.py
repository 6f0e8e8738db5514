"""The settings of a training: early stopping, the schedule of the step size, bfloat16, torch.compile, TensorBoard."""

import json
import math
import os
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file
from training import refusal, rows, same_run, small, train
from typer.testing import CliRunner

import vae_kernels as vk
from vae_kernels import cli
from vae_kernels.cli import fit
from vae_kernels.cli.options import BEFORE


def history(*losses):
    return [{"epoch": i + 1, "test_neg_elbo_nats": loss} for i, loss in enumerate(losses)]


def test_out_of_patience():
    falling = history(5.0, 4.0, 3.0)
    assert not fit.out_of_patience(falling, 1) and not fit.out_of_patience([], 1)
    assert fit.out_of_patience(history(5.0, 4.0, 4.5), 1) and not fit.out_of_patience(history(5.0, 4.0, 4.5), 2)
    assert fit.out_of_patience(history(5.0, 4.0, 4.0, 4.0), 2)  # an equal loss is no better one
    assert not fit.out_of_patience(history(5.0, 6.0, 7.0), None)


def test_patience(blobs, tmp_path, no_pictures):
    # With this step size the loss soon gets worse.
    said = train(*small(blobs, tmp_path, "--name", "run", "--epochs", 60, "--patience", 2, "--lr", 0.05))
    done = rows(tmp_path / "run")
    losses = [row["test_neg_elbo_nats"] for row in done]
    first = losses.index(min(losses))
    assert len(done) == first + 3 < 60
    assert "no better test -ELBO in 2 epochs" in said and "To go on" not in said
    assert (tmp_path / "run/best.safetensors").exists()
    best, last = (vk.load_run(tmp_path / "run", weights=which).vae for which in ("best", "last"))
    saved = load_file(tmp_path / "run/best.safetensors")
    assert all(torch.equal(saved[key], value) for key, value in best.state_dict().items())
    assert not torch.equal(best.encoder[1].weight, last.encoder[1].weight)
    assert "no epoch was left" in train("--resume", tmp_path / "run")
    with pytest.raises(ValueError, match=r"weights: got 'first', expected one of"):
        vk.load_run(tmp_path / "run", weights="first")


def test_the_schedule_of_the_step_size(blobs, tmp_path, no_pictures):
    config = {"lr": 0.1, "epochs": 4, "schedule": "cosine"}
    expected = [0.1 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert [fit.step_size(config, epoch) for epoch in range(4)] == pytest.approx(expected, rel=1e-12)
    assert fit.step_size(config | {"schedule": "constant"}, 3) == 0.1
    options = ("--schedule", "cosine", "--epochs", 4)
    train(*small(blobs, tmp_path, "--name", "whole", *options))
    steps, calls = torch.optim.Adam.step, [0]

    def stops_in_the_third_epoch(self, *args, **settings):
        calls[0] += 1
        if calls[0] == 7:  # 3 steps an epoch
            os.kill(os.getpid(), 2)
        return steps(self, *args, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", stops_in_the_third_epoch)
        train(*small(blobs, tmp_path, "--name", "half", *options), code=130)
    train("--resume", tmp_path / "half")
    same_run(tmp_path / "whole", tmp_path / "half")
    assert "falls to 0 at epoch 4" in refusal("--resume", tmp_path / "half", "--epochs", 9)


def test_bfloat16(blobs, tmp_path, no_pictures):
    """The networks run in bfloat16, and the result is that of float32 within a few per cent of what was learned."""
    seen = []

    def note(module, inputs, output):
        seen.append(output.dtype)

    with torch.nn.modules.module.register_module_forward_hook(note):
        train(*small(blobs, tmp_path, "--name", "bf16", "--epochs", 15, "--precision", "bf16"))
    assert torch.bfloat16 in seen
    train(*small(blobs, tmp_path, "--name", "float32", "--epochs", 15))
    ends = {name: [row["test_neg_elbo_nats"] for row in rows(tmp_path / name)] for name in ("bf16", "float32")}
    gain = ends["float32"][0] - ends["float32"][-1]
    assert gain > 3 and ends["bf16"][-1] == pytest.approx(ends["float32"][-1], abs=0.08 * gain)
    assert "--loss fused" in refusal(*small(blobs, tmp_path, "--loss", "eager", "--precision", "bf16"))


@pytest.mark.full
def test_compile(blobs, tmp_path, no_pictures):
    train(*small(blobs, tmp_path, "--name", "compiled", "--epochs", 2, "--compile"))
    train(*small(blobs, tmp_path, "--name", "eager", "--epochs", 2))
    a, b = (rows(tmp_path / name)[-1]["test_neg_elbo_nats"] for name in ("compiled", "eager"))
    assert a == pytest.approx(b, rel=1e-3)


def test_tensorboard(blobs, tmp_path, no_pictures):
    pytest.importorskip("tensorboard")
    train(*small(blobs, tmp_path, "--name", "run", "--epochs", 1, "--tensorboard"))
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


def test_a_run_of_an_older_version_goes_on(blobs, tmp_path, no_pictures):
    """Its config.json has none of the new options."""
    train(*small(blobs, tmp_path, "--name", "run", "--epochs", 1))
    path = tmp_path / "run/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in config.items() if key not in BEFORE}))
    train("--resume", tmp_path / "run", "--epochs", 2)
    assert len(vk.load_run(tmp_path / "run").metrics["epoch"]) == 2


def test_the_report_of_the_doctor(blobs, tmp_path, no_pictures):
    said = train(*small(blobs, tmp_path, "--report", "--name", "run", "--epochs", 1))
    assert re.search(r"doctor (healthy|watch|ill.*); the report: .*report.html", said)
    assert "<html" in (tmp_path / "run/report.html").read_text()
    train(*small(blobs, tmp_path, "--name", "none", "--epochs", 1))
    assert not (tmp_path / "none/report.html").exists()


def test_several_betas(blobs, tmp_path, no_pictures):
    said = train(*small(blobs, tmp_path, "--beta", "0.5,4", "--epochs", 3))
    runs = {json.loads((run / "config.json").read_text())["beta"]: run for run in tmp_path.iterdir() if run.is_dir()}
    assert set(runs) == {0.5, 4.0} and runs[4.0].name.endswith("-beta-4")
    assert (tmp_path / "rate-distortion.png").read_bytes().startswith(b"\x89PNG")
    losses = {beta: rows(run)[-1]["test_neg_elbo_nats"] for beta, run in runs.items()}
    assert f"smallest test -ELBO: {min(losses.values()):.2f} nats, with beta {min(losses, key=losses.get):g}" in said
    for text, expected in (("1,x", "expected a number, or several"), ("1,-2", "numbers >= 0"), ("2,2", "each number")):
        assert expected in refusal(*small(blobs, tmp_path, "--beta", text))
    assert "beside --resume" in refusal("--resume", runs[4.0], "--beta", "1,2")


def test_version_and_help():
    said = CliRunner().invoke(cli.app(), ["--version"])
    assert said.exit_code == 0 and said.output == f"vae-kernels {vk.__version__}\n"
    text = CliRunner().invoke(cli.app(), ["train", "--help"], env={"COLUMNS": "100"}).output
    assert all(f" {group} " in text for group in ("Data", "Model", "Training", "Run"))


def test_samples_every_so_many_epochs(blobs, tmp_path, no_pictures):
    """The samples change nothing in the training, and each picture has the same noise."""
    train(*small(blobs, tmp_path, "--name", "plain", "--epochs", 4))
    train(*small(blobs, tmp_path, "--name", "drawn", "--epochs", 3, "--samples-every", 2))
    train("--resume", tmp_path / "drawn", "--epochs", 4)
    same_run(tmp_path / "plain", tmp_path / "drawn")
    pictures = sorted((tmp_path / "drawn" / "samples").iterdir())
    assert [picture.name for picture in pictures] == ["0002.png", "0004.png"]
    assert not (tmp_path / "plain" / "samples").exists()
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "drawn", again)
    (again / "samples" / "0004.png").unlink()
    train("--resume", again, "--samples-every", 5, "--epochs", 5)
    assert (again / "samples" / "0005.png").exists() and not (again / "samples" / "0004.png").exists()
