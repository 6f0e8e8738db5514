"""Many ranks with PyTorch's own tools: torchrun starts two processes on the CPU. ranks.py has the checks that they
run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from places import SUPPORT
from safetensors.torch import load_file
from training import rows, same_run, small, train

pytestmark = pytest.mark.full  # two processes that import torch
CHECKS = SUPPORT / "ranks.py"
NAMES = [line[4:].split("(")[0] for line in CHECKS.read_text().splitlines() if line.startswith("def check_")]
EPOCHS = 40  # long enough for a kill before the end

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo, by which CPU ranks speak", allow_module_level=True)


def torchrun(*arguments):
    """The command line of torchrun; --standalone takes a free port."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *map(str, arguments)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def said(blobs, out):
    """{check: "passed", or what went wrong}. One launch runs all checks."""
    train(*small(blobs, out, "--epochs", 1, "--name", "resumed"))
    options = {
        "undisturbed": small(blobs, out, "--epochs", EPOCHS, "--name", "undisturbed"),
        "interrupted": small(blobs, out, "--epochs", EPOCHS, "--name", "interrupted"),
        "interrupted folder": out / "interrupted",
        "resume": ("--resume", out / "resumed", "--epochs", 3),
    }
    given = json.dumps(options, default=str)
    done = subprocess.run(torchrun(CHECKS, given), cwd=out, capture_output=True, text=True, timeout=300)
    results = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            results |= json.loads(line)
    return dict.fromkeys(NAMES, f"nothing was said: {done.stderr[-3000:]}") | results


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks(said, name):
    assert said[name] == "passed", said[name]


@pytest.mark.full
def test_two_ranks_go_on_as_one_would(said, blobs, out):
    """Two ranks resume the checkpoint of one process, and end where one process ends. The tolerance is torch's own for
    float32, because two ranks add up in another order."""
    assert said["check_train_resumes"] == "passed"
    train(*small(blobs, out, "--epochs", 3, "--name", "one"))
    ours, one = (load_file(out / name / "checkpoint.safetensors") for name in ("resumed", "one"))
    for key in one:
        torch.testing.assert_close(ours[key], one[key], msg=lambda m, key=key: f"{key}: {m}")
    for a, b in zip(rows(out / "resumed"), rows(out / "one"), strict=True):
        assert a | {"seconds": 0} == pytest.approx(b | {"seconds": 0}, rel=1e-5)


@pytest.mark.full
def test_an_interrupted_run_ends_where_another_does(said, out):
    assert said["check_train_interrupted"] == said["check_train_undisturbed"] == "passed"
    same_run(out / "interrupted", out / "undisturbed")


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the worker to kill in /proc, which is Linux's")
def test_a_worker_dies(said, blobs, out):
    """The worker that writes the files is killed. torchrun starts both workers again, and they go on from the last
    checkpoint. The run ends with the bits of an undisturbed run."""
    assert said["check_train_undisturbed"] == "passed"
    options = small(blobs, out, "--epochs", EPOCHS, "--name", "killed")
    command = torchrun("--max-restarts=1", "-m", "vae_kernels", "train", *options)
    run, deadline = out / "killed", time.monotonic() + 120
    process = subprocess.Popen(command, cwd=out, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not (run / "metrics.csv").exists() or len(rows(run)) < 2:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.005)
        os.kill(worker(process.pid, 0), signal.SIGKILL)
        done = len(rows(run))
        assert done < EPOCHS, "the run had ended before its worker was killed"
        printed, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert f"run    {run}, going on after epoch" in printed
    same_run(run, out / "undisturbed")
    assert (run / "samples.png").exists()
    assert not [path for path in out.iterdir() if path.name.startswith("blobs")]  # the new workers began no second run


def worker(agent, rank):
    """The id of the process of this rank, which is a child of torchrun's process."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == agent and f"RANK={rank}".encode() in (path / "environ").read_bytes().split(b"\0"):
                return int(path.name)
        except (OSError, ValueError):  # the process has ended meanwhile
            continue
    raise AssertionError(f"torchrun has no worker of rank {rank}")
