"""Runs of `vae-kernels train` on toy data, for the tests of the command. conftest.py has the data."""

import csv

import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from vae_kernels import cli


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


def refusal(*options):
    """The one sentence that `train` with these options answers on stderr."""
    result = CliRunner().invoke(cli.app(), ["train", *map(str, options)])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def doctor(*options):
    return CliRunner().invoke(cli.app(), ["doctor", *map(str, options)])
