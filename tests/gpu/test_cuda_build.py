"""What nvcc makes of csrc/cuda for each architecture: no spill, no local memory, few registers, 16-byte loads."""

import importlib.util
import os
import re
import shutil
import subprocess

import places
import pytest
from places import ROOT

if not (ROOT / "csrc").is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no csrc/", allow_module_level=True)

pytestmark = pytest.mark.full  # nvcc needs two minutes for what no build has left

# The kernel where all is stored as float32, the one that most users meet: 4 blocks of 256 threads have room on an SM.
# So it is with the position kind in float32. All others: 2 blocks. (Mangled names: struct Likelihood<formula, float, 4,
# true>, struct Position<formula, float> and struct Pixel<formula, float, channels, ...>.)
FLOAT32 = re.compile(r"10LikelihoodIN?S?.*?fLi4ELb1E|(8Position|16PositionBackward)I\w*?EfE|5PixelI\w*?EfL")
MOST_REGISTERS = {True: 64, False: 128}
# Two deviances and Stirling's formula three times hold more numbers than that in float64, and so does a component of
# three channels: 1 block.
LONG = re.compile("(negative_binomial|zinb|negative_binomial_mixture|discretized_logistic_mixture)Ed")
# Three parameters (of discretized_logistic: the number of levels is one); or the nine numbers of a component: 3 blocks.
THREE = re.compile("10LikelihoodIN?S?.*?(bernoulli_product|discretized_logistic)E|5PixelI")


@pytest.fixture(scope="module")
def setup_py():
    return places.module(ROOT / "setup.py")


@pytest.fixture(scope="module", autouse=True)
def archs(setup_py):
    """The architectures of the build that these tests look at: those of `pip install` in the same environment."""
    archs = os.environ.get("VAE_KERNELS_CUDA_ARCHS") or ";".join(setup_py.CUDA_ARCHS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAE_KERNELS_CUDA_ARCHS", archs)
        patch.delenv("VAE_KERNELS_CUDA", raising=False)
        yield archs.split(";")


@pytest.fixture(scope="module")
def nvcc(setup_py, archs):
    """setup.py's own command, for `archs`."""
    found = setup_py.find_nvcc()
    if found is None:
        pytest.skip("no nvcc here")
    return found[0]


@pytest.fixture(scope="module")
def units(setup_py):
    return {obj: (source, flags) for source, obj, flags in setup_py.cuda_units()}


@pytest.fixture(scope="module")
def report(nvcc, setup_py, units):
    """(kernel, architecture) -> its part of what nvcc said when ninja compiled it; that is, mostly, in pip install."""
    cxx, error = setup_py.find_cxx()
    assert not error
    setup_py.build(cxx, list(units))
    text = "".join((ROOT / setup_py.BUILD / f"{obj}.txt").read_text() for obj in units)
    assert "warning" not in text
    parts = re.split(r"Compiling entry function '(\w+)' for 'sm_(\d+)\w*'", text)[1:]
    return {(name, arch): part for name, arch, part in zip(*[iter(parts)] * 3, strict=True)}


def number(pattern, part):
    return sum(map(int, re.findall(pattern, part)))


def test_every_kernel_is_there(report, setup_py, archs):
    assert {arch for _, arch in report} == set(archs)
    kernels = {kernel for kernel, _ in report}
    for name in setup_py.likelihoods():
        assert len([k for k in kernels if f"{len(name)}{name}" in k]) >= 2, name
    assert len([k for k in kernels if FLOAT32.search(k)]) > 1
    assert len([k for k in kernels if "Position" in k]) == 4  # forward and backward, in float32 and float64
    assert len([k for k in kernels if "Mixture" in k]) == 10  # five, in float32 and float64
    assert len(report) == len(archs) * len(kernels)


def cuobjdump():
    """CUDA's own, or the one that Triton brings."""
    triton = importlib.util.find_spec("triton")
    folders = [f"{folder}/backends/nvidia/bin" for folder in (triton.submodule_search_locations if triton else ())]
    found = next(filter(None, (shutil.which("cuobjdump", path=path) for path in (None, *folders))), None)
    return found or pytest.skip("no cuobjdump here")


def test_each_object_has_code_for_each_architecture_and_one_ptx(report, setup_py, units, archs):
    """The PTX is for newer GPUs: the driver makes code from it (docs/gpus.md)."""
    tool = cuobjdump()
    for obj in units:
        command = [tool, "--list-elf", "--list-ptx", ROOT / setup_py.BUILD / obj]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert sorted(re.findall(r"sm_(\d+)\.cubin", listed), key=int) == sorted(archs, key=int), (obj, listed)
        kept = min((arch for arch in archs if int(arch) >= 80), key=int, default=archs[0])
        assert re.findall(r"sm_(\d+)\.ptx", listed) == [kept], (obj, listed)


def test_no_spill_and_no_local_memory(report):
    for kernel, part in report.items():
        assert re.search(r"(\d+) bytes stack frame", part), part
        used = number(r"(\d+) bytes (?:stack frame|spill stores|spill loads|cumulative stack size|lmem)", part)
        assert used == 0, (kernel, part)


def test_registers(report):
    for (name, arch), part in report.items():
        used = number(r"Used (\d+) registers", part)
        most = 255 if LONG.search(name) else MOST_REGISTERS[bool(FLOAT32.search(name))]
        most = 80 if THREE.search(name) and FLOAT32.search(name) else most
        assert 0 < used <= most, f"{name} on sm_{arch}: {used} registers, expected at most {most}"


@pytest.mark.parametrize("arch", ["75", "80"])
def test_vectors_of_16_bytes(nvcc, units, tmp_path, arch):
    """One kernel reads x and the parameters, and writes the gradients, 16 bytes at a time."""
    obj = min(name for name in units if name.startswith("likelihood."))
    source, flags = units[obj]
    command = [f for f in nvcc if "gencode" not in f]
    command += [*flags, f"-arch=compute_{arch}", "-ptx", source, "-o", str(tmp_path / "kernels.ptx")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    entries = re.split(r"\.entry (\w+)", (tmp_path / "kernels.ptx").read_text())
    (body,) = [body for name, body in zip(entries[1::2], entries[2::2], strict=True) if FLOAT32.search(name)]
    assert len(re.findall(r"ld\.global\.v4\.\w32", body)) >= 2
    assert len(re.findall(r"st\.global\.v4\.\w32", body)) >= 1
    assert ".local" not in body
