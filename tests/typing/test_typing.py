"""The types of the public names. accepted.py and refused.py are user code for the type checkers pyright and mypy."""

import dataclasses
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import vae_kernels as vk
from vae_kernels import typing as names
from vae_kernels.core.objective import REDUCTIONS

HERE = Path(__file__).parent
FILES = [str(HERE / "accepted.py"), str(HERE / "refused.py")]


@pytest.mark.parametrize(
    "literal, registry",
    [
        (names.LikelihoodName, vk.LIKELIHOODS),
        (names.Backend, ["auto", *vk.available_backends()]),
        (names.Reduction, REDUCTIONS),
    ],
    ids=["likelihoods", "backends", "reductions"],
)
def test_the_names_are_those_of_the_registry(literal, registry):
    """The other literal types have no second list: the checks take their names from the types."""
    assert sorted(get_args(literal)) == sorted(registry)


def public():
    """{name: function, or class} of all that a user reaches by the name of the package."""
    found = {}
    for module in (vk, vk.controls, vk.priors, importlib.import_module("vae_kernels.core.objective")):
        for name in getattr(module, "__all__", vars(module)):
            value = getattr(module, name)
            ours = getattr(value, "__module__", "").startswith("vae_kernels")
            if not name.startswith("_") and ours and not isinstance(value, ModuleType) and callable(value):
                found[f"{module.__name__}.{name}"] = value
    return found


def functions():
    """{name: function} of the public functions and of the public methods of the public classes."""
    found = {}
    for name, value in public().items():
        if not inspect.isclass(value):
            found[name] = value
            continue
        for base in value.__mro__:
            if base.__module__.startswith("vae_kernels"):
                for method, held in vars(base).items():
                    held = held.fget if isinstance(held, property) else inspect.unwrap(getattr(held, "__func__", held))
                    ours = inspect.isfunction(held) and held.__module__.startswith("vae_kernels")
                    made = dataclasses.is_dataclass(base) and method.startswith("__")
                    if ours and not made and (method == "__init__" or not method.startswith("_")):
                        found[f"{base.__name__}.{method}"] = held
    return found


@pytest.mark.parametrize("name, function", functions().items(), ids=functions())
def test_every_public_function_is_annotated(name, function):
    signature = inspect.signature(inspect.unwrap(function))
    bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"]
    assert not bare and signature.return_annotation is not signature.empty, bare or "no type of the result"


def test_the_package_says_that_it_has_types():
    assert (Path(vk.__file__).parent / "py.typed").exists()


def pyright():
    """{file: the lines with an error}"""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *FILES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    found = json.loads(done.stdout[done.stdout.index("{") :])["generalDiagnostics"]
    return [
        (Path(e["file"]).name, e["range"]["start"]["line"] + 1, e["message"]) for e in found if e["severity"] == "error"
    ]


def mypy():
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", *FILES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    assert done.returncode < 2, done.stdout + done.stderr
    found = re.findall(r"^(\w+\.py):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
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
