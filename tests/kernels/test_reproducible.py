"""docs/reliability.md promises the same bits for another run, in another process and with another number of threads."""

import subprocess
import sys

import pytest
import torch
from known import compiled
from places import TESTS, child
from steps import assert_same

pytestmark = [compiled, pytest.mark.full]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Runs steps.py in a process of its own with this number of threads, and gives its results."""
    folder = tmp_path_factory.mktemp("steps")

    def results(name, threads):
        environment = child(OMP_NUM_THREADS=str(threads))
        command = [sys.executable, "-m", "steps", str(folder / name)]
        done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return torch.load(folder / name, weights_only=True)

    return results


@pytest.fixture(scope="module")
def first(saved):
    return saved("first", 1)


def test_another_run_on_other_threads_has_the_same_bits(saved, first):
    assert_same(saved("again", 3), first)
