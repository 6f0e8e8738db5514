"""The C++ of the CPU on another processor: a program is compiled for 64-bit ARM and runs in an emulator. Its results
are compared with those of this processor."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from places import ROOT
from test_build import build  # noqa: F401 - a fixture

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


@pytest.fixture(scope="module")
def results(build, tmp_path_factory):  # noqa: F811
    """The lines that tests/cpp/portable.cpp prints on this processor and on the other. A line has (name, what, type)
    and values."""
    for tool in (COMPILER, EMULATOR):
        if not shutil.which(tool):
            pytest.skip(f"no {tool} here (Debian: g++-aarch64-linux-gnu, qemu-user)")
    here, error = build.find_cxx()
    if error:
        pytest.skip(error)
    folder = tmp_path_factory.mktemp("portable")

    def compiled(cxx, target, name):
        units = [(source, obj, flags) for source, obj, flags in build.kernel_units() if obj.endswith(".base.o")]
        units.append(("tests/cpp/portable.cpp", "portable.o", []))
        objects = []
        for source, obj, flags in units:
            objects.append(folder / f"{name}.{obj.replace('/', '_')}")
            command = [*cxx, *build.CXX_FLAGS, *flags, "-c", source, "-o", objects[-1]]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        subprocess.run([*cxx, "-static", *objects, "-o", folder / name], check=True)
        return subprocess.run([*target, folder / name], check=True, capture_output=True, text=True).stdout

    with ThreadPoolExecutor(2) as pool:
        both = pool.map(compiled, (here, [COMPILER]), ([], [EMULATOR]), ("here", "there"))
        return [[_parsed(line) for line in output.splitlines()] for output in both]


def _parsed(line):
    *name, values = line.split(" ", 3)
    return tuple(name), np.array([float.fromhex(v) for v in values.split()])


def test_the_noise_has_the_same_bits(results):
    here, there = ([values for (name, *_), values in side if name == "noise"] for side in results)
    assert len(here) == 2 and here[0].std() > 0.9
    for ours, theirs in zip(here, there, strict=True):
        assert np.array_equal(ours, theirs)


def test_values_and_gradients_differ_by_rounding(results, build):  # noqa: F811
    """One processor fuses a * b + c, and the other does not. Other tests show that each result is within 4 units in the
    last place of the truth, so the two results are within 8 units of each other. The unit is that of the largest value
    of an array."""
    here, there = results
    assert {name for (name, *_), _ in here} >= {*build.likelihoods(), *build.likelihoods("position"), "kl", "sample"}
    for (name, ours), (other_name, theirs) in zip(here, there, strict=True):
        assert name == other_name and np.isfinite(ours).all()
        eps = np.finfo(name[2]).eps
        assert np.abs(ours - theirs).max() <= 8 * eps * np.abs(ours).max(), name
