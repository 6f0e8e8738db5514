"""`vae-kernels train --resume` continues a stopped run as if the run had not been stopped. The tests also say what the
command refuses."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training import refusal, rows, same_run, small, train
from typer.testing import CliRunner

from vae_kernels import cli
from vae_kernels.cli import checkpoint, fit


def test_resume_equals_an_undisturbed_run(blobs, tmp_path, no_pictures):
    train(*small(blobs, tmp_path, "--name", "whole", "--epochs", 4))
    train(*small(blobs, tmp_path, "--name", "parts", "--epochs", 2))
    before = load_file(tmp_path / "parts" / "model.safetensors")
    train("--resume", tmp_path / "parts", "--epochs", 4)
    assert not torch.equal(
        before["encoder.1.weight"], load_file(tmp_path / "parts/model.safetensors")["encoder.1.weight"]
    )
    assert len(rows(tmp_path / "parts")) == 4
    dims = [checkpoint.load_dims(tmp_path / name) for name in ("whole", "parts")]
    assert dims[0] == dims[1] and list(dims[0]) == [1, 2, 3, 4]
    same_run(tmp_path / "whole", tmp_path / "parts")
    assert json.loads((tmp_path / "parts" / "config.json").read_text())["epochs"] == 4


@pytest.mark.parametrize("stop_at", [1, 5, 6, 7])  # an epoch has 3 steps: the first, and those around its end
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
    assert steps == stop_at  # the run finishes the step in progress, and starts no other
    assert f"vae-kernels train --resume {run}" in output
    assert len(rows(run)) == stop_at // 3
    train("--resume", run)
    assert steps == 9
    same_run(tmp_path / "whole", run)


@pytest.mark.full  # a process of its own; test_interrupt_and_resume_at_any_step interrupts in this process
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


def test_resume_refuses_what_conflicts(finished, blobs):
    before = (finished / "config.json").read_bytes()
    message = refusal("--resume", finished, "--epochs", 2, "--lr", 0.1, "--latent-dim", 5, "--name", "x")
    assert "--latent-dim (the run has 2), --lr (the run has 0.001), --name;" in message and "--epochs" not in message
    assert "no-such-run" in refusal("--resume", finished.parent / "no-such-run", "--epochs", 2)
    assert (finished / "config.json").read_bytes() == before


@pytest.mark.full
def test_resume_of_a_finished_run_draws_again(finished, blobs):
    before = {file.name: file.read_bytes() for file in finished.iterdir()}
    (finished / "curves.png").unlink()
    output = train("--resume", finished, "--data", blobs, "--lr", 1e-3)  # the values of the run do not conflict
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
    "likelihood": ("categorical", "expected one of bernoulli"),
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
    """Each of these checkpoints is a valid safetensors file, so only the command itself can refuse it."""
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
