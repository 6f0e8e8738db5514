"""A fresh environment with a wheel of vae_kernels, and with no compiler on its PATH."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest

# The value and the gradients of an objective, beside torch's own.
OBJECTIVE = """
import torch, vae_kernels as vk
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


def fresh(wheel, folder):
    """A function that runs a program of an environment with the wheel, in this folder. The environment takes torch and
    all else from the environment of the tests."""
    venv.create(folder / "env")
    programs = folder / "env" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet"]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("pip is not installed")
    # --ignore-installed: the source tree may be on PYTHONPATH, and pip would find the package there
    pip += ["--no-index", "--no-deps", "--ignore-installed", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel)], check=True)
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
