"""A training run is killed (SIGKILL) at random moments and resumed after each kill. It must end with the same bits as a
run that was never killed. `python -m soak.kills` in tests/ tries many kills, and test_crashes.py tries a few."""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from training import rows, same_run

from vae_kernels import cli

from .record import record

ENDLESS = 1_000_000  # epochs
MOMENTS = {"start": 0.15, "train": 0.45, "save": 0.4}  # the moment of a kill, and the share of such kills


def data(folder):
    """A file of 200 rows of 64 bytes. An epoch has three steps, so the run spends most of its time on saving."""
    path = Path(folder) / "data.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (200, 64), np.uint8))
    return path


def train(*options):
    command = [sys.executable, "-m", "vae_kernels", "train", *map(str, options)]
    here = Path(__file__).parent  # not the root of the tree, because the vae_kernels there may have no compiled library
    return subprocess.Popen(command, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Forked:
    """The same command in a fork of this process. This process has imported everything, so a start takes
    milliseconds."""

    def __init__(self, *options):
        self.returncode, self.stderr = None, io.BytesIO()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            try:
                cli.app()(["train", *map(str, options)])
            except SystemExit as end:
                os._exit(end.code or 0)
            finally:
                os._exit(1)

    def poll(self):
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def communicate(self):
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return None, b""


def options(folder, name, epochs):
    settings = "--latent-dim", 2, "--threads", 1, "--likelihood", "gaussian", "--batch-size", 70
    return "--data", Path(folder) / "data.npy", "--out", folder, "--name", name, "--epochs", epochs, *settings


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        assert time.monotonic() < deadline, "the process did not get there in time"


def epochs_of(run):
    return len(rows(run)) if (run / "metrics.csv").exists() and (run / "metrics.csv").stat().st_size else 0


def killed(run, process, moment, rng):
    """Kills the process at this kind of moment, and says whether it was writing a file."""
    saved = run / "metrics.csv"
    stamp = lambda: saved.stat().st_mtime_ns if saved.exists() else 0  # noqa: E731
    before = stamp()
    if moment == "start":
        time.sleep(rng.uniform(0, 2))
    else:
        wait_for(lambda: epochs_of(run) and stamp() != before, process)
        if moment == "train":
            time.sleep(rng.uniform(0, 0.2))
        else:
            temporary = run / ".checkpoint.safetensors.tmp"
            wait_for(temporary.exists, process)
    assert process.poll() is None, process.stderr.read().decode()[-2000:]
    process.kill()
    process.communicate()
    return any(run.glob(".*.tmp"))


def disturbed(folder, moments, seed=0, train=train):
    """Trains under kills at these moments: (the run with its last good checkpoint, the number of kills that hit the
    writing of a file)."""
    rng, run, while_writing = random.Random(seed), Path(folder) / "killed", 0
    for moment in moments:
        resumable = (run / "config.json").exists()
        if not resumable:  # the first kill came before the run could be resumed
            shutil.rmtree(run, ignore_errors=True)
        process = train(*(("--resume", run) if resumable else options(folder, run.name, ENDLESS)))
        while_writing += killed(run, process, moment, rng)
    return run, while_writing


def finished(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]


def main(kills=100):
    rng = random.Random(1)
    moments = rng.choices([*MOMENTS], [*MOMENTS.values()], k=kills)
    with tempfile.TemporaryDirectory() as folder:
        data(folder)
        run, while_writing = disturbed(folder, moments, train=Forked)
        epochs = epochs_of(run) + 2
        finished(train("--resume", run, "--epochs", epochs))
        finished(train(*options(folder, "whole", epochs)))
        same_run(run, Path(folder) / "whole")
    figures = {
        "kills (SIGKILL) of a training run, which then ended at the bits of one undisturbed": kills,
        "of these, while a file was being written": while_writing,
        "epochs of that run": epochs,
    }
    record("kills", "make soak-kills", figures)


if __name__ == "__main__":
    main()
