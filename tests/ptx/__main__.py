"""Runs the GPU kernels on a CPU, as PTX, with checks of memory, initialisation and races. In the root of a checkout:

  python -m tests.ptx self                        the simulator's own arithmetic, instruction by instruction
  python -m tests.ptx cuda [pytest arguments]     nvcc's PTX of csrc/cuda, through tests/gpu/test_cuda_host.py
  python -m tests.ptx triton [--arch 90] [pytest arguments]  Triton's PTX, through the tests of the backend "triton"
  python -m tests.ptx sample                      two minutes: self, proof, and a few tests of each backend
  python -m tests.ptx launch                      Triton's own JIT and C launcher, on a driver that simulates
  python -m tests.ptx proof [cuda|triton]         the product's self-test, which "auto" runs first
  python -m tests.ptx fuzz cuda|triton SECONDS [SEED]   random ops, types, layouts and schedules
  python -m tests.ptx mutate cuda|triton [case ...]     is a barrier or a fence that is taken out seen?
  python -m tests.ptx planted                     faults in copies of csrc/cuda: what is found?

tests/ptx/README.md says what is checked, and which environment variables there are.
"""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

from . import report, targets
from .work import ROOT, TESTS, WORK, result, say, work

sys.path.insert(0, str(TESTS / "support"))
from places import child

# Hours, or memory that a simulation does not have, or torch.compile.
NOT_TRITON = "not compiled_whole and not 2_to_the_34 and not sum_of_many"
TRITON_TESTS = (
    *("triton_kernels", "objective", "noise", "levels", "pixels", "mixture", "weights", "log_prob", "rows", "mixed"),
    "draws",
)
BACKENDS = ("cuda", "triton")
COMMANDS = ("self", "sample", "cuda", "triton", "launch", "proof", "fuzz", "mutate", "planted")
# Every n-th test, from test k on: "k/n".
SAMPLE = {"cuda": "7/60", "triton": "11/200"}


def main(command="help", *rest):
    if command not in COMMANDS or (command in ("fuzz", "mutate") and rest[:1] not in (("cuda",), ("triton",))):
        print(__doc__.strip())
        return 0 if command in ("help", "-h", "--help") else 2
    env = environment(command)
    if command == "self":
        return module("arithmetic", env=env)
    product(env)
    if command == "sample":
        here = present(env)
        parts = [tests(backend, rest, env | {"SIM_PART": SAMPLE[backend]}) for backend in here]
        return max([module("arithmetic", env=env), proof(here, env), *parts])
    if command in BACKENDS:
        return tests(command, rest, env)
    if command == "proof":
        return proof(rest or present(env), env)
    return module(command, *rest, env=env)


def tests(backend, arguments, env):
    """The product's tests of a backend."""
    if backend == "cuda":
        return pytest("cuda", find("test_cuda_host.py"), arguments, env)
    arguments = list(arguments)
    if "--arch" in arguments:
        at = arguments.index("--arch")
        env["ARCH"] = arguments[at + 1]
        del arguments[at : at + 2]
    files = [file for name in TRITON_TESTS for file in find(f"test_{name}.py")]
    return pytest("triton", files, arguments, env, NOT_TRITON)


def proof(backends, env):
    return max([0, *(module("proof", backend, env=env) for backend in backends)])


def present(env):
    """The backends that can run here; the others are skipped by name."""
    triton = python("-c", "import triton", env=env, capture_output=True).returncode == 0
    missing = {"cuda": targets.nvcc_command()[0] is None and "no nvcc", "triton": not triton and "no Triton"}
    for backend, why in missing.items():
        if why:
            print(f"{backend}: skipped: {why}")
    return [backend for backend, why in missing.items() if not why]


def environment(command):
    """Of a run: the Triton that is asked for comes first, then the folders of the tests' modules."""
    cache = WORK / ("triton_launch" if command == "launch" else "triton")
    env = child(PTXSIM_WORK=str(WORK), PYTHONUNBUFFERED="1", TRITON_CACHE_DIR=str(cache))
    env.pop("TRITON_INTERPRET", None)  # the compiler is wanted, not the interpreter
    path = [os.environ.get("TRITON_PATH"), str(TESTS), env["PYTHONPATH"]]
    return env | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def python(*arguments, env, **options):
    """In the folder of the tests: the vae_kernels beside it, which may have no compiled library, is not on the path."""
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=TESTS, env=env, **options)


def module(name, *arguments, env):
    """Runs a module of this folder. The exit status is 1 on any finding or failure."""
    status = python("-m", f"ptx.{name}", *arguments, env=env).returncode
    if status:
        print(f"{name}: failed, status {status}")
    return int(status != 0)


def find(name):
    """The test file of this name, whatever folder it is in."""
    return sorted(TESTS.rglob(name))


def product(env):
    """Says which vae_kernels runs, and where its Python files are not those of the checkout. One that is not installed
    is the checkout's own."""
    code = "import vae_kernels; print(vae_kernels.__path__[0])"
    done = python("-c", code, env=env, capture_output=True, text=True)
    if done.returncode and "No module named 'vae_kernels'" in done.stderr:
        env["PYTHONPATH"] += os.pathsep + str(ROOT)
        done = python("-c", code, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit("ptxsim: vae_kernels does not run in this Python:\n" + done.stderr)
    where = Path(done.stdout.strip())
    say(f"csrc and tests of {ROOT}, Python of {where}, work in {WORK}")
    ours = sorted((ROOT / "vae_kernels").rglob("*.py"))
    theirs = {file: where / file.relative_to(ROOT / "vae_kernels") for file in ours}
    other = [str(a) for a, b in theirs.items() if not b.exists() or a.read_text() != b.read_text()]
    if other:
        say(f"WARNING: {len(other)} files of the checkout are not the installed ones: {', '.join(other[:5])}")


def pytest(name, files, arguments, env, only=""):
    """The product's tests through a plugin; the last line, and 1 on any failure or finding."""
    arguments = list(arguments)
    if only:
        if "-k" in arguments:
            at = arguments.index("-k")
            only = f"({only}) and ({arguments[at + 1]})"
            del arguments[at : at + 2]
        arguments += ["-k", only]
    out = Path(result(name))
    out.unlink(missing_ok=True)
    options = ["-p", f"ptx.{name}_plugin", "-p", "no:cacheprovider", "-q", "--full", "--durations=5"]
    status = python("-m", "pytest", *options, *files, *arguments, env=env | {"SIM_OUT": str(out)}).returncode
    if not out.exists():
        print(f"{name}: pytest ended with status {status} and no results")
        return 1
    summary = json.loads(out.read_text())
    n = summary["tests"]
    before = f"{n['passed']} tests passed, {n['skipped']} skipped"
    failures = n["failed"] + n["error"] or int(status != 0)
    return report.last(name, before, summary, failures, out)


if __name__ == "__main__":
    work("results", "x")
    with open(work("lock"), "w") as lock:  # one run at a time in a work folder
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waits for another run in {WORK}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        sys.exit(main(*sys.argv[1:]))
