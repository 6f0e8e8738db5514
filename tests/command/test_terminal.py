"""What a training looks like on a terminal of 80 and of 100 columns, and in a pipe; the names of runs and arguments."""

import functools
import io
import re

import pytest
from rich.console import Console
from screen import screen
from training import doctor, refusal, rows, small, train
from typer.testing import CliRunner

from vae_kernels import cli
from vae_kernels.cli import epochs, listing, terminal

ROW = re.compile(r"^ +(\d+) .*\d/2(  ILL)?$")


@pytest.fixture
def shown(monkeypatch):
    """A function that trains on a terminal of so many columns, and gives (the screen after it, all that was sent)."""
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def run(columns, *options):
        file = io.StringIO()
        made = functools.partial(Console, file=file, width=columns, height=40, force_terminal=True)
        with monkeypatch.context() as patch:
            patch.setattr(terminal, "Console", functools.partial(made, color_system="truecolor"))
            train(*options)
        return screen(file.getvalue().replace("\n", "\r\n"), columns), file.getvalue()

    return run


def test_the_screen_of_a_terminal():
    assert screen("ab\r\ncd\x1b[31m!\x1b[0m\r\n", 9) == ["ab", "cd!", ""]
    assert screen("abcde", 3) == ["abc", "de"]
    assert screen("old\r\nlive\r\x1b[2K\x1b[1A\x1b[2Knew\r\n", 9) == ["new", ""]
    assert screen("\x1b]8;id=1;file:///a\x1b\\name\x1b]8;;\x1b\\", 9) == ["name"]


@pytest.mark.full("100")
@pytest.mark.parametrize("columns", ["80", "100"])  # 1.5 s each: 34 epochs, drawn after each step
def test_a_long_training_shows_every_tenth_row(blobs, tmp_path, no_pictures, shown, columns, monkeypatch):
    monkeypatch.setattr(epochs, "PAUSE", 0.0)
    lines, sent = shown(int(columns), *small(blobs, tmp_path, "--epochs", 34, "--lr", 0.005))
    plain = [found for line in lines if (found := ROW.match(line))]
    numbers = [int(found[1]) for found in plain]
    assert {1, 10, 20, 30, 34} <= {*numbers} and len(numbers) < 12 and numbers == sorted({*numbers})
    assert not any("gone" in line or "in training" in line for line in lines)  # the live row and the bar are gone
    assert "in training" in sent and re.search(r"\d+ s gone, \d+ s left", sent)
    assert all(len(line) <= int(columns) for line in lines)


def test_an_alarm_is_written_once_and_marks_its_rows(blobs, tmp_path, no_pictures, shown):
    lines, sent = shown(80, *small(blobs, tmp_path, "--epochs", 5, "--beta", 1000))
    said = [line for line in lines if line.startswith("ILL  posterior collapse: ")]
    marked = [line for line in lines if ROW.match(line)]
    assert len(said) == 1 and len(marked) == 5 and all(line.endswith("  ILL") for line in marked)
    assert "\x1b[1;31mILL  posterior collapse" in sent
    assert max(map(len, marked)) < 80
    piped = [
        line for line in train(*small(blobs, tmp_path, "--epochs", 3, "--beta", 1000)).splitlines() if "/2" in line
    ]
    assert len(piped) == 3 and all("  ILL: posterior collapse: 0 latents active" in line for line in piped)


def test_another_alarm_is_written_too(shown):
    """Two kinds of alarm, one after the other: each is written, and so is its end. The same kind with other
    numbers is not written."""
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system="truecolor")
    config = {"epochs": 50, "latent_dim": 4, "beta": 1.0}
    table = epochs.Epochs(console, config, None, 0, known=100.0, unit="nats per image")
    row = {"train_neg_elbo_nats": 90.0, "test_reconstruction_nats": 80.0}
    for epoch, loss, kl, active in (
        *((1, 99.0, 0.2, 0), (2, 99.0, 0.1, 0), (3, 120.0, 5.0, 4), (4, 130.0, 5.0, 4)),
        *((5, 90.0, 5.0, 4), (6, 89.0, 5.0, 4), (7, 99.0, 0.1, 0)),
    ):
        table.on_epoch(row | {"epoch": epoch, "test_neg_elbo_nats": loss, "test_kl_nats": kl, "active_units": active})
    table.close()
    lines = screen(file.getvalue().replace("\n", "\r\n"), 80)
    short = [line.split()[0] if line.startswith(" ") else line[:20].rstrip() for line in lines if line]
    collapse, no_better, over = "ILL  posterior colla", "ILL  no better than", "well  the alarm is o"
    assert short == [collapse, "1", no_better, "3", over, "5", collapse, "7"]


def test_a_resumed_training_goes_on_at_its_place(blobs, tmp_path, no_pictures, shown):
    train(*small(blobs, tmp_path, "--epochs", 12, "--name", "run"))
    lines, _ = shown(80, "--resume", tmp_path / "run", "--epochs", 21)
    assert next(int(found[1]) for line in lines if (found := ROW.match(line))) == 13
    bar = epochs.Epochs(Console(), {"epochs": 21, "latent_dim": 2}, None, 12, None, "nats per image").bar
    assert bar.tasks[0].completed == 12


def test_the_files_are_listed_with_what_they_are(blobs, tmp_path, no_pictures, shown):
    lines, sent = shown(80, *small(blobs, tmp_path, "--epochs", 1, "--name", "run", "--report"))
    run = tmp_path / "run"
    for path in run.iterdir():
        assert any(line.startswith(f"  {path.name}  ") and listing.WHAT[path.name] in line for line in lines)
        assert f"{path.resolve().as_uri()}\x1b\\{path.name}\x1b]8;;" in sent  # OSC 8: the name can be clicked
    said = train("--resume", run)
    assert "\x1b" not in said and f"  report.html             {listing.WHAT['report.html']}\n" in said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations_are_words(seconds, text):
    assert epochs.duration(seconds) == text


def test_a_name_that_exists_is_numbered(blobs, tmp_path, no_pictures):
    options = small(blobs, tmp_path, "--epochs", 1, "--name", "run")
    assert "exists already" not in train(*options)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    said = train(*options)
    assert (
        f"{tmp_path / 'run'} exists already, so the run is run-2; --resume {tmp_path / 'run'} goes on with it" in said
    )
    train(*options)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run-2", "run-3"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    train("--resume", tmp_path / "run", "--epochs", 2)  # --resume goes on in the folder itself
    assert len(rows(tmp_path / "run")) == 2 and len([*tmp_path.iterdir()]) == 3
    (tmp_path / "mine").mkdir()  # a folder that is no run has nothing to go on with
    said = train(*small(blobs, tmp_path, "--epochs", 1, "--name", "mine"))
    assert "so the run is mine-2\n" in said


def test_a_folder_that_is_no_run_is_called_by_its_argument(tmp_path):
    nope = tmp_path / "nope"
    said = f"error: {{}}: {nope} is not a folder that vae-kernels train has made"
    assert doctor(nope).stderr.startswith(said.format("run"))
    for command in ("encode", "sample", "reconstruct"):
        found = CliRunner().invoke(cli.app(), [command, str(nope)])
        assert found.exit_code == 2 and found.stderr.startswith(said.format("run"))
    assert refusal("--resume", nope).startswith(said.format("--resume"))
