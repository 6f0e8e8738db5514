"""What the CUDA backend asks of a device first: whether its kernels run there. The device is set by torch alone."""

import subprocess

import places
import pytest
import torch
from places import CPP, CSRC, ROOT

from vae_kernels import backends

if not CSRC.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no csrc/", allow_module_level=True)
NO_CODE = "no kernel image is available for execution on the device"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A function: what check_device(3) does, line by line, where the probe of the kernels says this."""
    setup_py = places.module(ROOT / "setup.py")
    found, (cxx, error) = setup_py.find_nvcc(), setup_py.find_cxx()
    if not found or error:
        pytest.skip(error or "no nvcc here, and so no header of the CUDA runtime")
    program = tmp_path_factory.mktemp("runtime") / "runtime"
    sources = [str(CSRC / "cuda/runtime.cpp"), str(CPP / "runtime.cpp")]
    flags = ["-std=c++20", "-iquote", str(CSRC), *found[1], "-ffunction-sections", "-Wl,--gc-sections"]
    done = subprocess.run([*cxx, *flags, *sources, "-o", str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def ask(*says):
        return subprocess.run([program, *says], capture_output=True, text=True, check=True).stdout.splitlines()

    return ask


@pytest.mark.full
def test_the_device_is_set_by_torch_alone(asked):
    """The library has a CUDA runtime of its own. If that one sets the device, torch does not know of it."""
    assert asked() == ["guard of 3", "probe", "end of guard", "runs"]


def test_the_error_is_that_of_cuda(asked):
    said = f"vae_kernels: {NO_CODE} (compiled by CUDA 13.0, and the driver is of CUDA 12.2)"
    assert asked(NO_CODE) == ["guard of 3", "probe", "end of guard", said]


def test_no_other_file_sets_the_device():
    for path in CSRC.rglob("*"):
        assert path.is_dir() or "cudaSetDevice" not in path.read_text(), path.name


def test_the_user_reads_what_cuda_says_and_what_helps(monkeypatch):
    """Once for a device, also where a compiler looks on."""
    calls = []

    def check_device(device):
        calls.append(device)
        raise RuntimeError(
            f"vae_kernels: {NO_CODE} (compiled by CUDA 13.0, and the driver is of CUDA 12.2)\nat some line"
        )

    monkeypatch.setattr(torch.ops.vae_kernels, "check_device", check_device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    backends.choice._asked_of.cache_clear()
    reason = backends.choice._not_built_for(3)
    compiled = torch.compile(lambda x: x + (backends.choice._not_built_for(3) is None), fullgraph=True, backend="eager")
    assert torch.equal(compiled(torch.zeros(2)), torch.zeros(2))
    backends.choice._asked_of.cache_clear()
    assert calls == [3]
    for part in (NO_CODE, "CUDA 12.2", "device 3", "7.5", "Update the NVIDIA driver", "VAE_KERNELS_CUDA_ARCHS=75"):
        assert part in reason
    assert "--compress-mode=none" in reason and "some line" not in reason
