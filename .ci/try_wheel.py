"""python .ci/try_wheel.py WHEEL: installs the wheel into fresh environments without a compiler, and tries the library.

    python .ci/try_wheel.py dist/*-manylinux*.whl --python python3.10 python3.13 --torch 2.10.0 2.14.1

prints one row for each Python and each PyTorch. pip takes PyTorch from where it always does: this is a build with CUDA,
of gigabytes, where no other is nearer.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# The values and gradients of the compiled kernels, beside the formulas in float64; and an error, which is thrown in the
# library and goes through torch's own code.
PROGRAM = """
import platform
import torch, vae_kernels as vk
from vae_kernels import backends
from vae_kernels.backends.self_test import disagreement

reasons = vk.available_backends()
assert reasons["cpu"] is None, reasons["cpu"]
wrong = disagreement(backends.choose("cpu", ()), "cpu")
assert wrong is None, wrong
try:
    torch.ops.vae_kernels.set_pool_limit(-1)
except RuntimeError as error:
    assert "pool limit: got -1 bytes" in str(error), error
else:
    raise AssertionError("no error came for a limit of -1")
logits = torch.zeros(512, 4096, requires_grad=True)
loss = vk.fused_elbo(logits, torch.zeros(512, 4096), torch.zeros(512, 8), torch.zeros(512, 8))
torch.testing.assert_close(loss.item(), 4096 * 0.6931471805599453, rtol=1e-6, atol=0)
loss.backward()  # the gradient of 8 MB comes from the pool
del logits, loss
pool = "yes" if vk.pool_bytes() else "no"
print(platform.python_version(), torch.__version__, "right", pool, reasons["cuda"] or "loads", sep=" | ")
"""
TITLE = "Python | torch | values and gradients | pool | CUDA kernels"


def attempt(wheel, python, torch):
    """The row of one fresh environment."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        programs = Path(folder) / "bin"
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VAE_KERNELS"))}
        wanted = [str(wheel.resolve()), f"torch=={torch}" if torch else "torch"]
        for command in (
            [programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", "numpy", *wanted],
            [programs / "python", "-c", PROGRAM],
        ):
            done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines()
                return f"{python} | {torch or 'newest'} | {said[-1] if said else f'exit status {done.returncode}'} | |"
            env["PATH"] = str(programs)  # without a compiler
        return done.stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", nargs="+", default=[sys.executable], metavar="PROGRAM")
    parser.add_argument("--torch", nargs="+", default=[None], metavar="VERSION", help="default: the newest")
    args = parser.parse_args()
    print(f"| {TITLE} |", "|---|---|---|---|---|", sep="\n")
    rows = []
    for python in args.python:
        for torch in args.torch:
            rows.append(attempt(args.wheel, python, torch))
            print(f"| {rows[-1]} |", flush=True)
    sys.exit(any(" | right | " not in row for row in rows))


if __name__ == "__main__":
    main()
