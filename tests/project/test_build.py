"""The build: what setup.py compiles, and what it does when a tool is missing."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import places
import pytest
from places import ROOT


@pytest.fixture(scope="module")
def build():
    """setup.py as a module, with its flags and its list of units. setup() does not run."""
    return places.module(ROOT / "setup.py")


def copied(folder):
    """A copy of the source tree that has a space in its path, and nothing built in it."""
    ignore = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.so", "*.egg-info", "__pycache__", "_C.reason.txt")
    return shutil.copytree(ROOT, folder / "a checkout", ignore=ignore)


@pytest.fixture
def checkout(tmp_path):
    return copied(tmp_path)


def backend(hook, folder, **env):
    """Runs a build hook as pip does without isolation, and gives (the process, the files that it made)."""
    out = folder.parent / "out"
    code = f"import setuptools.build_meta as b, sys; b.{hook}(sys.argv[1])"
    command = [sys.executable, "-c", code, str(out)]
    r = subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True)
    return r, sorted(out.glob("*"))


def tool(name, *arguments):
    if not shutil.which(name):
        pytest.skip(f"no {name} here")
    return subprocess.run([name, *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def avx512_objects(build):
    """The AVX-512 objects in build/kernels. ninja first compiles an object that is missing or older than its source."""
    if "avx512" not in build.ISAS:
        pytest.skip("not an x86-64 machine: there is nothing for AVX-512")
    cxx, error = build.find_cxx()
    if error:
        pytest.skip(error)
    names = [name for _, name, _ in build.kernel_units() if name.endswith(".avx512.o")]
    build.build(cxx, names)
    return [ROOT / build.BUILD / name for name in names]


def test_setup_never_imports_torch():
    nodes = list(ast.walk(ast.parse((ROOT / "setup.py").read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert "setuptools" in names
    assert not [name for name in names if name.split(".")[0] == "torch"]


def test_the_list_of_likelihoods_is_read(build):
    assert {"bernoulli", "gaussian"} <= set(build.likelihoods())


def test_no_flag_changes_results(build):
    flags = {*build.CXX_FLAGS, *build.NVCC_FLAGS, *(flag for isa in build.ISAS.values() for flag in isa)}
    assert "-ffp-contract=off" in flags
    assert not flags & {"-ffast-math", "-Ofast", "-funsafe-math-optimizations", "--use_fast_math", "-use_fast_math"}


@pytest.mark.full
def test_avx512_objects_hold_no_weak_symbol(avx512_objects):
    """The linker keeps one copy of a weak symbol. If it kept the copy of an AVX-512 object, machines without AVX-512
    would run that code and crash."""
    for path in avx512_objects:
        symbols = tool("nm", "-C", str(path)).splitlines()
        # The symbols of two likelihoods have the same names, so a weak symbol of one could also replace that of
        # another. DW.ref. (a pointer to data), and kOpaque and OpaqueFarOut (numbers), are the same in every object,
        # so they may be weak.
        same = r"DW\.ref\.|vk::Real<\w+>::kOpaque$|vk::OpaqueFarOut<\w+>::numbers$"
        weak = [line for line in symbols if re.search(rf" [WVu] (?!{same})", line)]
        assert not weak, f"{path.name}: {weak}"
        assert any(re.search(r" [tT] .*avx512::", line) for line in symbols), f"{path.name}: no kernel in it"


@pytest.mark.full
def test_avx512_is_used(avx512_objects):
    for path in avx512_objects:
        if path.name.startswith("likelihood."):
            assert "%zmm" in tool("objdump", "-d", "--no-show-raw-insn", str(path)), path.name


def test_the_library_needs_neither_python_nor_cuda():
    library = Path(importlib.util.find_spec("vae_kernels").origin).parent / "_C.so"
    reason = library.with_name("_C.reason.txt")
    if not library.exists():
        pytest.skip(reason.read_text() if reason.exists() else f"{library.parent} is a source tree, with nothing built")
    undefined = tool("nm", "-D", "--undefined-only", str(library))
    assert "torch_library_impl" in undefined
    assert not re.findall(r"\b_?Py\w+|\bcu(?:da)?[A-Z]\w+", undefined)


def test_without_a_compiler_the_package_is_pure_python(checkout):
    (checkout / "vae_kernels/_C.so").write_text("of an earlier editable install")
    r, wheels = backend("build_wheel", checkout, CXX="/nonexistent/g++")
    assert r.returncode == 0, r.stderr
    (line,) = [line for line in r.stderr.splitlines() if line.startswith("vae_kernels:")]
    assert "/nonexistent/g++" in line
    (wheel,) = wheels
    assert "-py3-none-" in wheel.name
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        assert "vae_kernels/_C.so" not in names and "vae_kernels/py.typed" in names
        assert "/nonexistent/g++" in z.read("vae_kernels/_C.reason.txt").decode()
    packages = {p.parent.relative_to(ROOT).as_posix() for p in (ROOT / "vae_kernels").rglob("*.py")}
    assert packages == {str(Path(name).parent) for name in names if name.endswith(".py")}


@pytest.mark.full
def test_a_compiler_that_fails_on_our_source_is_an_error(checkout):
    with open(checkout / "csrc/ops.cpp", "a") as f:
        f.write("#error planted\n")
    r, wheels = backend("build_wheel", checkout, VAE_KERNELS_CUDA="0")
    if "no working C++20 compiler" in r.stderr:
        pytest.skip("no C++ compiler here")
    assert r.returncode != 0
    assert not wheels
    assert "planted" in r.stdout + r.stderr


def test_cuda_that_was_asked_for_is_never_left_out(build, monkeypatch):
    monkeypatch.setattr(build.shutil, "which", lambda *a, **k: None)
    monkeypatch.delenv("VAE_KERNELS_CUDA", raising=False)
    assert build.find_nvcc() is None
    monkeypatch.setenv("VAE_KERNELS_CUDA", "1")
    with pytest.raises(SystemExit, match="no nvcc"):
        build.find_nvcc()


def test_a_broken_nvcc_is_left_out_unless_asked_for(build, monkeypatch, capsys):
    monkeypatch.setattr(build.shutil, "which", lambda *a, **k: "/nonexistent/nvcc")
    monkeypatch.delenv("VAE_KERNELS_CUDA", raising=False)
    assert build.find_nvcc() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "without CUDA: /nonexistent/nvcc" in line
    monkeypatch.setenv("VAE_KERNELS_CUDA", "1")
    with pytest.raises(SystemExit, match="/nonexistent/nvcc"):
        build.find_nvcc()


@pytest.mark.parametrize("archs, expected", {
    "80;90": ["compute_80,code=[sm_80,sm_90,compute_80]"],
    "90, 75": ["compute_75,code=[sm_75]", "compute_90,code=[sm_90,compute_90]"],
    "100a;120;86": ["compute_86,code=[sm_86,sm_100a,sm_120,compute_86]"],
    "75": ["compute_75,code=[sm_75,compute_75]"],
}.items())  # fmt: skip
def test_one_ptx_before_sm_80_and_one_after_it(build, monkeypatch, archs, expected):
    """The library keeps the PTX of the newer, from which a driver makes code for a GPU that nvcc does not know."""
    monkeypatch.setenv("VAE_KERNELS_CUDA_ARCHS", archs)
    assert build.gencode("nvcc") == [f"-gencode=arch={flag}" for flag in expected]


def test_an_nvcc_builds_for_the_gpus_that_it_knows(build, monkeypatch):
    monkeypatch.setenv("VAE_KERNELS_CUDA_ARCHS", "")
    known = SimpleNamespace(stdout="sm_80\nsm_86\nsm_90\n")
    monkeypatch.setattr(build.subprocess, "run", lambda *a, **k: known)
    assert build.gencode("nvcc") == ["-gencode=arch=compute_80,code=[sm_80,sm_90,compute_80]"]


@pytest.mark.full
def test_the_sdist_holds_the_sources(checkout):
    r, sdists = backend("build_sdist", checkout)
    assert r.returncode == 0, r.stderr
    with tarfile.open(sdists[0]) as t:
        names = {name.partition("/")[2] for name in t.getnames()}
    wanted = {p.relative_to(ROOT).as_posix() for p in (ROOT / "csrc").rglob("*") if p.is_file()}
    wanted |= {"setup.py", "pyproject.toml", "LICENSE"}
    assert wanted <= names, wanted - names
