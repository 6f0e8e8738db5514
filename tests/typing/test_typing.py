"""The type annotations of the public names. accepted.py and refused.py are user code for the checkers pyright and
mypy."""

import dataclasses
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from places import ROOT
from torch import nn

import vae_kernels as vk
from vae_kernels import typing as names
from vae_kernels.core import objective

HERE = Path(__file__).parent
FILES = [str(HERE / "accepted.py"), str(HERE / "refused.py")]


@pytest.mark.parametrize(
    "literal, registry",
    [
        (names.Backend, ["auto", *vk.available_backends()]),
        (names.Reduction, objective.REDUCTIONS),
    ],
    ids=["backends", "reductions"],
)
def test_the_names_are_those_of_the_registry(literal, registry):
    """These two literal types have the names of their registries. Every other literal type is the registry itself,
    because the checks of arguments take their names from the type."""
    assert sorted(get_args(literal)) == sorted(registry)


def functions():
    """(name, function) for each public function and for each public method of a public class."""
    objects = [vk.likelihoods.Likelihood, vk.controls.Schedule]
    for module in (vk, vk.controls, vk.priors, objective):
        objects += [getattr(module, name) for name in getattr(module, "__all__", vars(module)) if name[0] != "_"]
    for value in objects:
        if not getattr(value, "__module__", "").startswith("vae_kernels"):
            continue
        if inspect.isfunction(value):
            yield value.__name__, value
        for base in value.__mro__ if inspect.isclass(value) else ():
            made = dataclasses.is_dataclass(base) or not issubclass(base, nn.Module | vk.Monitor)  # no __init__ of ours
            for name, held in vars(base).items() if base.__module__.startswith("vae_kernels") else ():
                held = held.fget if isinstance(held, property) else getattr(held, "__func__", held)
                if inspect.isfunction(held) and (name[0] != "_" or (name == "__init__" and not made)):
                    yield f"{base.__name__}.{name}", held


def test_every_public_function_is_annotated():
    bare = {}
    for name, function in functions():
        signature = inspect.signature(function)
        missing = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in BOUND]
        missing += ["the result"] if signature.return_annotation is signature.empty else []
        bare |= {name: missing} if missing else {}
    assert not bare
    assert {"fused_elbo", "VAE.loss", "Geco.update", "Prior.sample", "ElboTerms.packed"} <= dict(functions()).keys()


BOUND = ("self", "cls")


def test_the_package_says_that_it_has_types():
    assert (Path(vk.__file__).parent / "py.typed").exists()


def pyright():
    """The errors of pyright: [(file, line, message)]."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *FILES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    found = json.loads(done.stdout[done.stdout.index("{") :])["generalDiagnostics"]
    return [
        (Path(e["file"]).name, e["range"]["start"]["line"] + 1, e["message"]) for e in found if e["severity"] == "error"
    ]


def mypy():
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", *FILES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode < 2, done.stdout + done.stderr
    found = re.findall(r"^.*?(\w+\.py):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return [(file, int(line), message) for file, line, message in found]


@pytest.mark.full
@pytest.mark.parametrize("checker", [pyright, mypy])
def test_what_a_type_checker_says_of_user_code(checker):
    if importlib.util.find_spec(checker.__name__) is None:
        pytest.skip(f'{checker.__name__} is not installed: pip install -e ".[dev]"')
    found = checker()
    assert not [error for error in found if error[0] == "accepted.py"]
    lines = enumerate((HERE / "refused.py").read_text().splitlines(), 1)
    expected = {number for number, line in lines if line.endswith("# expect: error")}
    assert len(expected) > 30 and {number for _, number, _ in found} == expected
