"""A copy of the tree in which lines are changed. The copy is built and tested in forks, which need not import torch
again."""

import importlib
import importlib.util
import os
import shutil
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FEW = ("bernoulli", "gaussian")  # the likelihoods that csrc/cuda is compiled with, as in test_cuda_faults.py


def copy(folder):
    """A copy of the tree. Its library has only the best instruction set, under the name of the portable one."""
    ignore = shutil.ignore_patterns(".*", "build", "runs", "*.so", "__pycache__", "docs")
    shutil.copytree(ROOT, folder, ignore=ignore)
    edit(folder / "setup.py", 'if platform.machine().lower() in ("x86_64", "amd64"):', "if False:")
    edit(folder / "setup.py", 'ISAS = {"base": []}', 'ISAS = {"base": ["-march=native", "-mprefer-vector-width=512"]}')
    edit(folder / "setup.py", '("-O3", ', '("-O1", ')  # most of the time of a mutant is the compiler's
    for _ in range(2):
        edit(folder / "csrc/cpu/dispatch.cpp", "#if defined(__x86_64__)", "#if 0")
    return folder


def edit(path, before, after):
    text = path.read_text()
    assert before in text, f"{before} is not in {path}"
    path.write_text(text.replace(before, after, 1))


def module(path):
    spec = importlib.util.spec_from_file_location(f"of_scratch_{path.stem}", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def build(kind, tree):
    """Compiles what has changed, and gives False if the compiler refuses it."""
    pid = os.fork()
    if pid == 0:
        with open(tree / "build.log", "w") as log:
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        os.environ["VAE_KERNELS_CUDA"] = "0"
        code = 1
        try:
            if kind == "cpu":
                setup = module(tree / "setup.py")
                setup.build(setup.find_cxx()[0])
                shutil.copy2(tree / "build/kernels/_C.so", tree / "vae_kernels/_C.so.new")
                os.replace(tree / "vae_kernels/_C.so.new", tree / "vae_kernels/_C.so")
            else:
                sys.path.insert(0, str(tree))
                host = module(tree / "tests/support/cuda_host.py")
                csrc = tree / "build/csrc"
                shutil.rmtree(csrc, ignore_errors=True)
                host.build(Path(shutil.copytree(tree / "csrc", csrc)), tree / "build/cuda", FEW, optimize="-O0")
            code = 0
        except BaseException as error:  # setup.py ends with SystemExit
            print(error, flush=True)
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


class Watch:
    """A pytest plugin that keeps the name of the first test that fails."""

    first = ""

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.first:
            self.first = report.nodeid

    def pytest_collectreport(self, report):
        if report.failed and not self.first:
            self.first = f"{report.nodeid} (collected)"


def run(tree, arguments, limit):
    """(the first test that fails, or ""; seconds). The tests run in a fork of this process, which has imported
    torch."""
    said, began = tree / "first.txt", time.monotonic()
    said.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        with open(tree / "tests.log", "w") as log:
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        os.environ["VAE_KERNELS_TEST_CUDA_HOST"] = str(tree / "build/cuda/host.so")
        sys.path[:0] = [str(tree)]
        import pytest

        watch = Watch()
        code = pytest.main(
            [*arguments, "-x", "-q", "--full", "-p", "no:cacheprovider", "--durations=5"], plugins=[watch]
        )
        ok = code in (0, 1, 5) and (code != 1) == (watch.first == "")  # 5 means that pytest selected no test
        said.write_text(watch.first or ("" if ok else f"pytest ended with {int(code)}"))
        os._exit(0)
    while time.monotonic() - began < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return f"a crash ({signal.Signals(os.WTERMSIG(status)).name})", time.monotonic() - began
            text = said.read_text() if said.exists() else "the interpreter ended"
            return text, time.monotonic() - began
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout", limit


def import_the_heavy():
    os.environ["TRITON_INTERPRET"] = "1"
    for name in ("pytest", "torch", "numpy", "scipy.stats", "scipy.special", "mpmath", "triton", "triton.language"):
        importlib.import_module(name)
    importlib.import_module("torch._dynamo")
    importlib.import_module("torch.distributed.tensor")
