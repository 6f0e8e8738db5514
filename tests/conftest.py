"""Fixtures for all tests. `backend` and `inputs` are for the tests of the backends. `cpp` is a Python module of the C++
formulas. `blobs`, `finished` and `no_pictures` are for the tests of the command `vae-kernels`."""

import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest
import torch
from filelock import FileLock

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # triton reads this variable once, at import

import interpreter
import tiers
from known import BACKENDS, draw
from places import CPP, CSRC, SEARCH

from vae_kernels.formulas import LIKELIHOODS

sys.path[:0] = SEARCH
if "triton" in BACKENDS:
    interpreter.mend()


def pytest_addoption(parser):
    tiers.add_option(parser)


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist takes the files in the order of longest_first()
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config, items):
    tiers.choose(config, items)
    if "PYTEST_XDIST_WORKER" in os.environ:
        tiers.longest_first(items)


FMA = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")  # whether the processor has x86's fma instruction


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A function that gives the module of the formulas, compiled with these flags: "base" or "fma"."""
    if not CSRC.is_dir():
        pytest.skip("the tests run without the source tree beside them: there is no csrc/")
    pybind11 = pytest.importorskip("pybind11", reason="pybind11, which binds the formulas, is not installed")
    cxx = shlex.split(os.environ.get("CXX", "g++"))
    if not shutil.which(cxx[0]):
        pytest.skip(f"no C++ compiler ({cxx[0]}) to compile csrc/formulas with")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # by all workers

    @functools.cache
    def module(name):
        folder = shared / f"formulas-{name}"
        path = folder / f"formulas_{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
        with FileLock(f"{folder}.lock"):
            if not path.exists():
                compile_formulas(cxx, pybind11.get_include(), path, ["-mfma"] if name == "fma" else [])
        return load(path)

    return module


def compile_formulas(cxx, pybind11_include, path, extra):
    path.parent.mkdir(exist_ok=True)
    (path.parent / "likelihoods.h").write_text("".join(f'#include "formulas/{name}.h"\n' for name in LIKELIHOODS))
    flags = ["-O1", "-std=c++20", "-ffp-contract=off", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", *extra]
    includes = (pybind11_include, sysconfig.get_path("include"))
    folders = [f"-iquote{CSRC}", f"-iquote{path.parent}", *(f"-I{include}" for include in includes)]
    define = f"-DMODULE={path.name.split('.')[0]}"
    made = path.with_suffix(".tmp")  # a compiler that fails leaves no module
    command = [*cxx, *flags, define, *folders, str(CPP / "formulas.cpp"), "-o", str(made)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    made.rename(path)


def load(path):
    spec = importlib.util.spec_from_file_location(path.name.split(".")[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The quick tier compiles one of the two modules: the one whose instructions the processor's own loops use.
@pytest.fixture(params=[pytest.param("base", marks=[pytest.mark.full] if FMA else []), "fma"])
def cpp(request, built):
    if request.param == "fma" and not FMA:
        pytest.skip("this processor has no x86 fma instruction")
    return built(request.param)


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
def inputs():
    return draw()


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """A file of 300 images of 8x8. Each image has one bright spot, in the top half or the bottom half: two classes."""
    rng = np.random.default_rng(0)
    at = rng.uniform(1, 6, (300, 2))
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), -1)
    spots = np.exp(-((grid - at[:, None, None]) ** 2).sum(-1) / 3)
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, x=(255 * spots).astype(np.uint8), y=np.where(at[:, 0] < 3.5, "top", "bottom"))
    return path


@pytest.fixture
def no_pictures(monkeypatch):
    from vae_kernels.cli import terminal

    monkeypatch.setattr(terminal, "draw", lambda *_: None)


@pytest.fixture(scope="module")
def finished(blobs, tmp_path_factory):
    """The folder of a finished training run."""
    from training import small, train

    out = tmp_path_factory.mktemp("out")
    train(*small(blobs, out, "--name", "done", "--epochs", 1))
    return out / "done"
