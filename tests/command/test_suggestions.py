"""The command that the doctor suggests for a run: `train` takes it, and it changes what it says."""

import inspect
import json
import re
import shlex
import shutil
from pathlib import PureWindowsPath

import pytest
import torch
import typer.main
from training import doctor, small, train

import vae_kernels as vk
from vae_kernels import cli
from vae_kernels.cli import checkpoint, facts
from vae_kernels.cli.doctor import examine
from vae_kernels.cli.train import train as train_command
from vae_kernels.doctor import words
from vae_kernels.doctor.cause import Cause

DEFAULTS = {name: p.default for name, p in inspect.signature(train_command).parameters.items()}


@pytest.fixture
def run(finished):
    return finished, checkpoint.load_config(finished)


def parsed(command):
    """{option: value} of a `vae-kernels train` command, as typer reads it."""
    program, name, *options = shlex.split(command)
    assert (program, name) == ("vae-kernels", "train")
    command = typer.main.get_command(cli.app()).commands["train"]
    return command.make_context("train", options).params


def cause(symptom, advice="train longer"):
    return Cause("ill", "title", "Sentence.", symptom, (), advice)


CHANGES = [
    ("effective beta", "", {"beta": "1"}),
    ("not converged", "a smaller learning rate", {"lr": 1e-3 / 3}),
    ("overfit", "", {"patience": 10}),
    ("holes in the latent space", "", {"prior": "vamp"}),
    ("blur", "", {"latent_dim": 4}),
    ("data", "standardise each column first: ...", {"standardise": True}),
]


@pytest.mark.parametrize("symptom, advice, change", CHANGES)
def test_a_new_run_has_the_options_of_the_old_but_for_the_change(run, symptom, advice, change):
    folder, config = run
    config = config | {"beta": 30.0, "colour": "rgb", "compiled": True, "data": "/my data/x.npz", "lr": 1e-3}
    command = facts.command(folder, config, cause(symptom, advice), epochs=1)
    found = parsed(command)
    expected = {"beta": "30", "latent_dim": 2, "epochs": 1, "compiled": True, "rgb": True, "data": "/my data/x.npz"}
    for key, value in (DEFAULTS | expected | change).items():
        if key not in ("context", "out", "threads", "report"):
            value = getattr(value, "value", value)
            got = getattr(found[key], "value", found[key])
            assert got == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), key


def test_a_training_that_was_too_short_goes_on(run, tmp_path):
    folder, config = run
    for symptom in ("not converged", "no better than the mean"):
        found = parsed(facts.command(folder, config, cause(symptom), epochs=7))
        assert found["resume"] == folder and found["epochs"] == 14
    cosine = parsed(facts.command(folder, config | {"schedule": "cosine"}, cause("not converged"), epochs=7))
    assert cosine["resume"] is None and cosine["epochs"] == 14 and cosine["schedule"].value == "cosine"


def test_the_path_in_a_command_can_be_typed_on_windows(run):
    """A shell may quote with a backslash, or take ' for a letter."""
    command = facts.command(PureWindowsPath(r"runs\photos"), run[1], cause("not converged"), epochs=7)
    assert command == "vae-kernels train --resume runs/photos --epochs 14"


@pytest.mark.parametrize("symptom", ["", "posterior collapse", "variance of the likelihood", "not finite", "data"])
def test_without_an_option_there_is_no_command(run, symptom):
    assert facts.command(*run, cause(symptom), epochs=7) == ""
    assert facts.command(run[0], run[1] | {"prior": "mog"}, cause("holes in the latent space"), epochs=7) == ""


def test_the_doctor_says_the_cause_and_the_command_first(blobs, tmp_path, no_pictures, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    train(*small(blobs, tmp_path, "--beta", 1000, "--epochs", 4, "--name", "sick"))
    first, second, *_ = doctor(tmp_path / "sick", "--samples", 20).output.splitlines()
    assert first.startswith("ill: beta is 1000: the KL outweighs the likelihood. A nat of the KL costs as much as 1000")
    command = second.removeprefix("try first: ")
    assert parsed(command)["beta"] == "1" and parsed(command)["data"] == str(blobs)
    page = re.sub('<span class="w">(.*?)</span>', r"\1", (tmp_path / "sick" / "report.html").read_text())
    assert page.index("beta is 1000") < page.index(command) < page.index(f"<h3>{words.name('effective beta')}")
    assert page.index(command) < page.index("<h3>posterior collapse") < page.index('<h2 id="pictures"')


def test_what_was_trained_is_in_the_report(finished):
    diagnosis, _ = examine(finished, 20)
    found = facts.facts_of(finished, diagnosis)
    config = json.loads((finished / "config.json").read_text())
    assert found.options["--likelihood"] == "bernoulli" and found.options["seed"] == "0"
    assert found.options["version"] == f"vae_kernels {vk.__version__}, torch {torch.__version__}"
    assert str(config["found"]["crc32"]) in found.options["data"] and "1 epochs" in found.options["trained"]
    assert len(found.curves["test_kl_nats"]) == 1
    assert sum(found.dims[1]) == pytest.approx(found.curves["test_kl_nats"][0], rel=1e-4)


def test_the_kl_of_each_latent_is_drawn_or_its_file_is_named(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    doctor(run, "--samples", 20)
    assert "<h3>KL of each latent and epoch</h3>" in (run / "report.html").read_text()
    (run / checkpoint.DIMS).write_text("epoch,kl_0_nats,kl_1_nats\n1,0.5\n")
    assert "kl_per_dim.csv cannot be read as the KL of each latent" in doctor(run, "--samples", 20).stderr
    (run / checkpoint.DIMS).unlink()  # a run of an older version
    doctor(run, "--samples", 20)
    assert "<h3>KL of each latent and epoch</h3>" not in (run / "report.html").read_text()
