"""`vae-kernels env` says what a report of a bug needs, also where the packages of the other commands are missing."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import vae_kernels as vk
from vae_kernels import cli
from vae_kernels.cli import env


def said(*words):
    result = CliRunner().invoke(cli.app(), ["env", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_json_has_the_versions_and_every_backend_with_its_reason():
    found = json.loads(said("--json"))
    assert found["vae_kernels"] == vk.__version__ and found["torch"] == torch.__version__
    assert found["backends"] == vk.available_backends()
    assert found["threads"] == torch.get_num_threads()
    assert found["packages"]["typer"] and set(found["packages"]) == set(env.PACKAGES)
    assert found["processor_instructions"] == torch.backends.cpu.get_cpu_capability()


def test_the_text_has_a_line_for_each_fact():
    lines = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in said().splitlines())
    assert lines["torch"] == torch.__version__ and lines["vae_kernels"] == vk.__version__
    for name, reason in vk.available_backends().items():
        assert lines[f"backend {name}"] == ("works" if reason is None else reason)


def test_no_path_and_no_other_variable_is_shown(monkeypatch):
    package = Path(vk.__file__).parent
    reason = f"the compiled library does not load: {package}/_C.so: not found"
    monkeypatch.setattr(env, "available_backends", lambda: {"torch": None, "cpu": reason})
    monkeypatch.setenv("SECRET_TOKEN", "abc123xyz")
    monkeypatch.setenv("VAE_KERNELS_ISA", "base")
    for words in ((), ("--json",)):
        text = said(*words)
        assert str(package) not in text and "vae_kernels/_C.so: not found" in text
        assert "abc123xyz" not in text and "VAE_KERNELS_ISA" in text


@pytest.mark.parametrize("words", [["env"], ["env", "--json"]])
def test_it_works_where_the_packages_of_the_command_are_missing(monkeypatch, capsys, words):
    monkeypatch.setattr(cli, "missing", lambda: ["rich", "typer"])
    monkeypatch.setattr(sys, "argv", ["vae-kernels", *words])
    for name in ("typer", "rich", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    cli.main()
    assert torch.__version__ in capsys.readouterr().out


def test_the_gpus_are_those_of_torch(monkeypatch):
    class Properties:
        name, total_memory, major, minor = "Tesla T4", 15 * 2**30, 7, 5

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: Properties)
    assert env.gpus()[:2] == ["Tesla T4, 15 GiB, compute capability 7.5"] * 2
