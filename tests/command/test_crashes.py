"""A run that was killed, or whose disk was full, has its last good checkpoint. The resumed run ends with the same bits
as a run without a crash. `make soak-kills` tries a hundred kills.
"""

import errno
import resource
from pathlib import Path

import pytest
from soak import kills
from training import same_run, train

from vae_kernels.cli import UserError, checkpoint, terminal


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(terminal, "draw", lambda *_: None)


def ends_as_undisturbed(run):
    """Resumes the run for two more epochs, and compares its bits with a run of the same number of epochs."""
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
    """The test stands in for a full disk with a limit: after two epochs, no file of the process may be larger than 4096
    bytes, so no checkpoint fits."""
    kills.data(tmp_path)
    run = tmp_path / "full"
    process = kills.train(*kills.options(tmp_path, "full", kills.ENDLESS))
    kills.wait_for(lambda: kills.epochs_of(run) >= 2, process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    # An epoch writes two files, and the limit can come between them: either file can be the first that does not fit.
    files = [run / checkpoint.CHECKPOINT, run / checkpoint.MODEL]
    assert said.decode() in [f"error: cannot write {file}: File too large\n" for file in files]
    assert not any(run.glob(".*.tmp"))  # on a full disk, a half-written file would take the last room
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
