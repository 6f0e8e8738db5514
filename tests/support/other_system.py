"""Uses vae_kernels in a process that lacks what Windows and macOS lack: test_other_systems.py starts this program.

    python other_system.py FOLDER       # FOLDER: for the files of the program

Other packages are imported first, because they have their own ways for each system. Then the modules and the names that
Python has on Linux alone are taken away, and vae_kernels is imported.
"""

import contextlib
import ctypes
import importlib
import os
import pkgutil
import select
import signal
import socket
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib.backends.backend_agg  # noqa: F401
import mlxtend.data  # noqa: F401
import numpy as np
import pandas
import PIL.Image  # noqa: F401
import safetensors.torch  # noqa: F401
import scipy.sparse
import torch
import typer
from typer.testing import CliRunner

# Python's documentation says of each of these: "Availability: Unix"
MODULES = "curses", "fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"
NAMES = {
    os: (
        *("chown", "confstr", "ctermid", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups"),
        *("getloadavg", "getpgid", "getpgrp", "getpriority", "getresuid", "getsid", "getuid", "killpg", "lockf"),
        *("major", "minor", "mkfifo", "mknod", "nice", "openpty", "pathconf", "pipe2", "posix_fadvise", "pread"),
        *("posix_fallocate", "posix_spawn", "pwrite", "sched_getaffinity", "sched_setaffinity", "sendfile", "setgid"),
        *("setpgid", "setpriority", "setsid", "setuid", "statvfs", "sync", "sysconf", "tcgetpgrp", "uname", "wait"),
        *("wait3", "wait4", "waitid"),
    ),
    signal: (
        *("ITIMER_REAL", "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGIO", "SIGKILL", "SIGPIPE", "SIGQUIT"),
        *("SIGSTOP", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "alarm", "getitimer", "pause", "pthread_kill"),
        *("pthread_sigmask", "setitimer", "sigpending", "sigtimedwait", "sigwait"),
    ),
    socket: ("AF_UNIX", "socketpair"),
    select: ("epoll", "poll"),
    time: ("tzset",),
}
# Packages that are not for Windows or macOS, or that few users have
PACKAGES = "triton", "scvi", "ctgan", "pyro", "zuko", "lightning", "onnx", "onnxscript", "torch.distributed.tensor"
# the names in an error about a package that is not there; scvi comes with the distribution scvi-tools
OPTIONAL = {name.partition(".")[0] for name in PACKAGES} - {"torch"} | {"scvi-tools"}
STRANGE = "größe \N{GREEK CAPITAL LETTER DELTA}"  # the code page 1252 of Windows has no Delta


def hide():
    """Takes away what Windows and macOS lack."""
    warm()
    for name in MODULES + PACKAGES:
        sys.modules[name] = None  # an import of this name is then a ModuleNotFoundError
    for module, names in NAMES.items():
        for name in names:
            with contextlib.suppress(AttributeError):
                delattr(module, name)
    # a torch that was built without torch.distributed, as on some Macs
    torch.distributed.is_available = lambda: False
    del torch.distributed.is_initialized
    # what Windows has: test_other_systems.py has a test of this call
    ctypes.windll = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=_memory))
    sys.platform = "win32"
    # Python warns where a file is opened in the encoding of the system
    warnings.filterwarnings("error", category=EncodingWarning, module="vae_kernels")


def _memory(status):
    status[1] = 16 << 30
    return True


def warm():
    """Typer and rich import more at their first use."""
    app = typer.Typer()
    app.command()(lambda: None)
    assert CliRunner().invoke(app, ["--help"]).exit_code == 0


def imported():
    """The names of all modules of the package, imported. A module for an optional package says so in its error."""
    import vae_kernels

    names = []
    for found in pkgutil.walk_packages(vae_kernels.__path__, "vae_kernels.", onerror=refuse):
        if not found.name.endswith("__main__"):
            try:
                importlib.import_module(found.name)
                names.append(found.name)
            except ImportError:
                refuse(found.name)
    return names


def refuse(name):
    """Raises an error for this module, whose import has failed, unless the reason is a missing optional package."""
    error = reason = sys.exc_info()[1]
    while not isinstance(reason, ModuleNotFoundError) or (reason.name or "").partition(".")[0] not in OPTIONAL:
        reason = reason.__cause__
        if reason is None:
            raise ImportError(f"{name} cannot be imported") from error


def trained():
    """Some steps of a VAE, in Python."""
    import vae_kernels as vk

    assert vk.available_backends()["cpu"] is not None, "the compiled library is there"
    torch.manual_seed(0)
    x = (torch.rand(64, 1, 6, 6) < 0.2).float()
    vae = vk.mlp_vae((1, 6, 6), 2)
    optimizer, losses = torch.optim.Adam(vae.parameters(), 1e-2), []
    for _ in range(20):
        losses.append(vae.loss(x))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 1

    class Own(torch.Tensor):
        """Every call asks whether a tensor that is not of torch's own class is a DTensor."""

    logits, x = torch.zeros(2, 3), torch.ones(2, 3)
    assert torch.equal(vk.nll(logits.as_subclass(Own), x), vk.nll(logits, x))


def command(*words, status=0):
    """Runs `vae-kernels` with these words, in this process, as the program of an installation does."""
    from vae_kernels import cli

    sys.argv = ["vae-kernels", *map(str, words)]
    try:
        cli.main()
    except SystemExit as end:
        assert (end.code or 0) == status, (words, end.code)


def commands(folder):
    """The commands, on the numbers of a table and on a sparse matrix."""
    rng = np.random.default_rng(0)
    table = pandas.DataFrame({STRANGE: rng.normal(size=60), "kind": rng.choice(["a", "b"], 60)})
    table.to_csv(folder / "table.csv", index=False, encoding="utf-8")
    scipy.sparse.save_npz(folder / "counts.npz", scipy.sparse.csr_matrix(rng.poisson(1.0, (60, 5))))
    few = ("--epochs", 1, "--latent-dim", 2, "--threads", 1, "--out", folder)
    command("--help")
    command("train", "--data", folder / "table.csv", "--likelihood", "mixed", "--name", "table", *few)
    command("train", "--resume", folder / "table", "--epochs", 2, "--no-report")
    counts = ("--data", folder / "counts.npz", "--likelihood", "poisson", "--name", "counts")
    command("train", *counts, "--no-report", *few)
    command("doctor", folder / "counts", status=1)  # one epoch is too short: the model is ill
    command("sample", folder / "table", "--out", folder / "drawn.csv")
    command("encode", folder / "counts", "--out", folder / "z.csv")
    command("bench", "--shape", "4x6/2", "--compile", "none", "--seconds", "0.01", "--out", folder)
    assert STRANGE in (folder / "drawn.csv").read_text(encoding="utf-8")


if __name__ == "__main__":
    hide()
    names = imported()
    trained()
    commands(Path(sys.argv[1]))
    print("modules:", *names)
