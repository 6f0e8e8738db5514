"""A run that is killed, or whose disk is full, has its last good checkpoint, and goes on to the bits of another.

A hundred kills: `make soak-kills`.
"""

import errno
import resource
from pathlib import Path

import pytest
from soak import kills
from training import same_run, train

from vae_kernels.cli import UserError, checkpoint
from vae_kernels.cli import train as command


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(command, "draw", lambda *_: None)


def ends_as_undisturbed(run):
    """It goes on, and two epochs later has the bits of a run of as many epochs."""
    epochs = kills.epochs_of(run) + 2
    train("--resume", run, "--epochs", epochs)
    train(*kills.options(run.parent, "whole", epochs))
    same_run(run, run.parent / "whole")


@pytest.mark.full
def test_killed_at_any_moment(tmp_path):
    kills.data(tmp_path)
    run, while_writing = kills.disturbed(tmp_path, ["train", "save", "save"])
    assert while_writing
    ends_as_undisturbed(run)


@pytest.mark.full
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    """Files of this process may have 4096 bytes from some moment on: no checkpoint fits."""
    kills.data(tmp_path)
    run = tmp_path / "full"
    process = kills.train(*kills.options(tmp_path, "full", kills.ENDLESS))
    kills.wait_for(lambda: kills.epochs_of(run) >= 2, process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    # The limit comes at any moment: the first file that does not fit is either of the two that an epoch writes.
    files = [run / checkpoint.CHECKPOINT, run / checkpoint.MODEL]
    assert said.decode() in [f"error: cannot write {file}: File too large\n" for file in files]
    assert not any(run.glob(".*.tmp"))  # nothing half-written takes up what room there is
    ends_as_undisturbed(run)


def test_what_was_written_of_a_file_is_removed(tmp_path, monkeypatch):
    path = tmp_path / "file"
    checkpoint.write(path, b"good")

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
        checkpoint.write(path, b"half")
    assert path.read_bytes() == b"good" and [p.name for p in tmp_path.iterdir()] == ["file"]
