"""Runs `vae-kernels train` on toy data, for the tests of the command. conftest.py has the data."""

import csv

import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from vae_kernels import cli


def train(*options, code=0):
    """Runs the command in this process, and gives everything that it printed to stdout and stderr."""
    result = CliRunner().invoke(cli.app(), ["train", *map(str, options)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def rows(run):
    with open(run / "metrics.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def same_run(a, b):
    """The two runs have equal bits: the weights, the optimizer, the random state, and the metrics except for the
    seconds."""
    x, y = load_file(a / "checkpoint.safetensors"), load_file(b / "checkpoint.safetensors")
    assert x.keys() == y.keys() and any(key.startswith("optimizer") for key in x)
    assert all(torch.equal(x[key], y[key]) for key in x)
    for one, other in zip(rows(a), rows(b), strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def small(data, out, *options):
    return "--data", data, "--out", out, "--latent-dim", 2, "--threads", 1, "--no-report", *options


def refusal(*options):
    """The sentence on stderr with which `train` refuses these options."""
    result = CliRunner().invoke(cli.app(), ["train", *map(str, options)])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def doctor(*options):
    return CliRunner().invoke(cli.app(), ["doctor", *map(str, options)])
