"""`--help`: groups, and examples that can be typed."""

import re

import pytest
from typer.testing import CliRunner

from vae_kernels import cli


def test_the_help_has_groups():
    text = CliRunner().invoke(cli.app(), ["--help"], env={"COLUMNS": "100"}).output
    assert all(f" {group} " in text for group in cli.GROUPS) and " vae-kernels train --epochs 20 " in text
    text = CliRunner().invoke(cli.app(), ["bench", "--help"], env={"COLUMNS": "100"}).output
    assert all(f" {group} " in text for group in ("Your own case", "How to measure"))


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("command", [name for names in cli.GROUPS.values() for name in names])
def test_the_examples_of_help_can_be_typed(command, columns):
    """Every command has examples in its --help, none is broken, and each of their options exists."""
    text = CliRunner().invoke(cli.app(), [command, "--help"], env={"COLUMNS": str(columns)}).output
    assert "Examples:" in text and cli.EXAMPLES[command]
    for line in cli.EXAMPLES[command]:
        assert f" {line} " in text or f" {line}\n" in text
        _, words = line.split(f" {command}", 1)
        options = text.split("Examples:")[0]
        assert all(f" {option} " in options for option in re.findall(r"(?<= )--?[a-z-]+", words))
