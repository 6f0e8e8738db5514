"""The wheel for Linux: .ci/wheel.py gives the library the symbols of an old system, and finds what is too new."""

import ctypes
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile

import places
import pytest
from fresh import OBJECTIVE, fresh
from places import ROOT
from test_build import backend, copied

if not (ROOT / ".ci/wheel.py").exists():
    pytest.skip("the tests run without the source tree beside them: there is no .ci/", allow_module_level=True)
if platform.system() != "Linux" or platform.machine() != "x86_64" or not platform.libc_ver()[1]:
    pytest.skip("the wheel is for Linux on x86-64 with glibc", allow_module_level=True)

pytestmark = pytest.mark.full  # half a minute: small libraries, the wheel, an environment

COMPILED = """
assert vk.available_backends()["cpu"] is None, vk.available_backends()
"""


@pytest.fixture(scope="module")
def script():
    return places.module(ROOT / ".ci/wheel.py")


@pytest.fixture
def library(script, tmp_path):
    """A function that compiles a small library, as a wheel's (old=True) or as any other."""
    cxx = shlex.split(os.environ.get("CXX", "g++"))
    if not all(map(shutil.which, (cxx[0], "nm"))):
        pytest.skip(f"no {cxx[0]} or no nm here")

    def compiled(source, old=False):
        path = tmp_path / "small.so"
        stubs = script.old_glibc(cxx) if old else []
        command = [*cxx, "-std=c++20", "-O1", "-shared", "-fPIC", "-x", "c++", "-", "-x", "none", *stubs]
        command += ["-o", str(path)]
        subprocess.run(command, input=source, text=True, check=True, cwd=ROOT)
        return path

    return compiled


# Functions that have a newer version in glibc 2.29 (exp) and in 2.34, where they also have moved to another library
MOVED = """
#include <cmath>
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
extern "C" double exponential(double x) { return std::exp(x); }
extern "C" int others() {
  pthread_key_t key;
  return !dlsym(RTLD_DEFAULT, "malloc") + pthread_key_create(&key, nullptr) + (shm_open("/none", 0, 0) != -1);
}
"""


def test_the_symbols_are_those_of_an_old_system(script, library):
    _, versions, others = script.needs(library(MOVED, old=True))
    assert max(versions["GLIBC"]) <= (2, 28) and others == []
    found = {name for names in versions["GLIBC"].values() for name in names}
    assert {"exp", "dlsym", "pthread_key_create", "shm_open"} <= found
    small = ctypes.CDLL(str(library(MOVED, old=True)))
    small.exponential.restype, small.exponential.argtypes = ctypes.c_double, [ctypes.c_double]
    assert small.exponential(1.0) == 2.718281828459045 and small.exponential(-1e9) == 0 and small.others() == 0


# function: what the audit says of a library that calls the function
FAULTS = {
    "arc4random": r"^arc4random needs GLIBC_2\.36, and manylinux_2_28 has none$",
    "_ZSt28__throw_bad_array_new_lengthv": r"needs GLIBCXX_3\.4\.29, and",
    "_ZNSt15__exception_ptr13exception_ptr9_M_addrefEv": r"needs CXXABI_1\.3\.13, and",
    "torch_from_blob": r"^torch_from_blob needs torch 2\.11, and pyproject\.toml allows 2\.10$",
    "torch_of_tomorrow": "^torch-abi-audit does not know torch_of_tomorrow$",
    "PyList_New": "^PyList_New is not of torch's stable ABI, of libc or of libstdc\\+\\+$",
}


@pytest.mark.parametrize("function", FAULTS)
def test_the_audit_finds_what_is_too_new(script, library, function):
    pytest.importorskip("torch_abi_audit", reason="pip install torch-abi-audit")
    path = library(f'extern "C" int {function}();\nint f() {{ return {function}(); }}', old=True)
    if not function.startswith(("torch", "Py")) and f"{function}@" not in subprocess.check_output(
        ["nm", "-D", path], text=True
    ):
        pytest.skip("the libraries of this system are too old for this function")
    (problem,) = script.audit(path, lambda *_: None)
    assert re.search(FAULTS[function], problem)


def test_the_audit_accepts_a_weak_function_and_says_so(script, library):
    pytest.importorskip("torch_abi_audit", reason="pip install torch-abi-audit")
    weak = 'extern "C" __attribute__((weak)) int torch_from_blob();\nint f() { return torch_from_blob ? 1 : 0; }'
    said = []
    assert script.audit(library(weak, old=True), said.append) == []
    assert "  weak: the library works without torch_from_blob (torch 2.11)" in said


def test_the_wheel(script, tmp_path):
    """The wheel of the objects in build/kernels, so that nothing is compiled but what has changed since."""
    for name in ("torch_abi_audit", "auditwheel"):
        pytest.importorskip(name, reason="pip install '.[dev]'")
    objects = ROOT / "build/kernels"
    if not (objects / "_C.so").exists():
        pytest.skip("nothing was built in build/kernels, and to compile all takes minutes")
    checkout = copied(tmp_path)
    shutil.copytree(ROOT / ".ci", checkout / ".ci")
    shutil.copytree(objects, checkout / "build/kernels")
    env = os.environ | {"VAE_KERNELS_CUDA": str(int(any(objects.glob("*.cu.o"))))}
    command = [sys.executable, ".ci/wheel.py", "--no-isolation", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "out").iterdir()
    (glibc,) = re.findall(r"-py3-none-manylinux_2_(\d+)_x86_64\.whl$", wheel.name)
    assert int(glibc) <= 28 and "torch >= 2.10: " in done.stdout and "without torch_from_blob" in done.stdout
    with zipfile.ZipFile(wheel) as z:  # nothing of torch, and no folder of libraries, came into the wheel
        assert [name for name in z.namelist() if ".so" in name or ".libs/" in name] == ["vae_kernels/_C.so"]
    run = fresh(wheel, tmp_path)
    assert run("python", "-c", OBJECTIVE + COMPILED).strip().startswith(str(run.packages))


@pytest.mark.soak  # everything is compiled: minutes
def test_the_sdist_builds(tmp_path):
    r, sdists = backend("build_sdist", copied(tmp_path))
    assert r.returncode == 0, r.stderr
    with tarfile.open(sdists[0]) as t:
        t.extractall(tmp_path / "unpacked", filter="data")
    (tree,) = (tmp_path / "unpacked").iterdir()
    sdists[0].unlink()
    r, wheels = backend("build_wheel", tree.rename(tmp_path / "tree"), VAE_KERNELS_CUDA="0")
    assert r.returncode == 0, r.stderr
    run = fresh(wheels[0], tmp_path)
    assert run("python", "-c", OBJECTIVE + COMPILED).strip().startswith(str(run.packages))
