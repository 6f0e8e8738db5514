"""The wheel of pure Python is for every system. A fresh environment gets this wheel, and no compiler is on its PATH."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest
from places import ROOT
from test_build import backend, copied

if not (ROOT / "setup.py").exists():
    pytest.skip("the tests run without the source tree beside them: there is no setup.py", allow_module_level=True)
pytestmark = pytest.mark.full  # half a minute: a wheel, an environment, a training

OBJECTIVE = """
import torch, vae_kernels as vk
reasons = vk.available_backends()
assert reasons["torch"] is None and "pure Python" in reasons["cpu"] and "pure Python" in reasons["cuda"], reasons
logits, mu, logvar = (torch.randn(6, n, dtype=torch.float64, requires_grad=True) for n in (20, 3, 3))
x = torch.rand(6, 20, dtype=torch.float64)
loss = vk.fused_elbo(logits, x, mu, logvar)
found = torch.autograd.grad(loss, (logits, mu, logvar))
kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
nll = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
torch.testing.assert_close(loss, (nll + kl) / 6)
for ours, theirs in zip(found, torch.autograd.grad((nll + kl) / 6, (logits, mu, logvar))):
    torch.testing.assert_close(ours, theirs)
print(vk.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    r, wheels = backend("build_wheel", copied(tmp_path_factory.mktemp("pure")), VAE_KERNELS_PURE="1")
    assert r.returncode == 0, r.stderr
    (path,) = wheels
    return path


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """A function that runs a program of a fresh environment with the wheel, in a folder of its own. The environment
    takes torch and all else from the environment of the tests."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "env")
    programs = folder / "env" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet"]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("pip is not installed")
    subprocess.run([*pip, "--no-index", "--no-deps", "--disable-pip-version-check", str(wheel)], check=True)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "others.pth").write_text("\n".join(others) + "\n", encoding="utf-8")
    ours = ("PYTHON", "CC", "CXX", "CUDA", "VAE_KERNELS", "TRITON")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)} | {"PATH": str(programs)}
    assert not any(shutil.which(name, path=env["PATH"]) for name in ("cc", "gcc", "g++", "c++", "clang++", "nvcc"))

    def program(name, *words):
        done = subprocess.run([programs / name, *words], cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    program.folder, program.packages = folder, packages
    return program


def test_the_wheel_is_for_every_system(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        (about,) = (z.read(name).decode() for name in names if name.endswith(".dist-info/WHEEL"))
        assert "pure Python" in z.read("vae_kernels/_C.reason.txt").decode()
    assert "Root-Is-Purelib: true" in about and "Tag: py3-none-any" in about
    assert not [name for name in names if name.endswith(".so") or ".data/" in name or name.startswith("csrc")]
    packages = {p.relative_to(ROOT).as_posix() for p in (ROOT / "vae_kernels").rglob("*.py")}
    assert packages == {name for name in names if name.endswith(".py")}


def test_what_is_asked_for_must_fit_together(tmp_path):
    for name, value in (("VAE_KERNELS_PURE", "yes"), ("VAE_KERNELS_CUDA", "1")):
        r, wheels = backend("build_wheel", copied(tmp_path / name), **{"VAE_KERNELS_PURE": "1", name: value})
        assert r.returncode and not wheels and f"{name}={value}" in r.stderr, r.stderr


def test_the_objective_of_an_installation_without_a_compiler(run):
    assert run("python", "-c", OBJECTIVE).strip().startswith(str(run.packages))


def test_the_command_of_an_installation_without_a_compiler(run):
    assert "Train and judge" in run("vae-kernels", "--help")
    said = run("vae-kernels", "train", "--epochs", "1", "--no-report")
    assert "test -ELBO" in said
    (metrics,) = (run.folder / "runs").glob("*/metrics.csv")
    header, row = (line.split(",") for line in metrics.read_text(encoding="utf-8").splitlines())
    assert 150 < float(row[header.index("test_neg_elbo_nats")]) < 250  # 543 nats before the training
