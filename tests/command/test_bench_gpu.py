"""A dry run of `python -m bench.gpu`. Time on a GPU is short, so a run that is stopped must leave its results so
far."""

import signal
import subprocess
import sys
import time

import pytest
from places import ROOT, child

from vae_kernels.timing import gpu, results

pytest.importorskip("triton")
if not (ROOT / "bench").is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no bench/", allow_module_level=True)


@pytest.mark.full  # Triton's interpreter needs a minute
def test_a_run_that_is_stopped_writes_the_cases_before(tmp_path):
    command = [sys.executable, "-u", "-m", "bench.gpu", "--dry", "--seconds", "0.01", "--out", str(tmp_path)]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=child(), **piped) as process:
        lines, tables = [], 0
        for line in process.stdout:
            lines.append(line)
            tables += "vae_kernels sample_kl + fused_elbo" in line
            if tables == 2:  # the second case is measured, but perhaps not yet written
                process.send_signal(signal.SIGTERM)
                break
        lines += process.stdout
    assert process.returncode == 1 and "stopped by SIGTERM" in "".join(lines[-3:]), "".join(lines[-30:])
    (path,) = tmp_path.iterdir()
    assert len({tuple(row[column] for column in results.CASE) for row in results.read(path)}) >= 2


def test_sanitize_starts_this_program(monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(gpu.subprocess, "run", run)
    gpu.sanitize(gpu.Report())
    assert {command[command.index("-m") + 1] for command in commands} == {gpu.__name__}


@pytest.fixture
def handlers():
    """Puts the signal handlers of pytest back after the test."""
    before = {name: signal.getsignal(name) for name in gpu.SIGNALS}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for name, handler in before.items():
        signal.signal(name, handler)


def test_the_end_of_the_time_is_a_signal(handlers):
    """When the time is over, a signal stops the report. No part of the report may count this signal as its own failure,
    not even when another error replaces the exception of the signal."""
    report = gpu.Report()
    report.stop_on_signals(0.01)
    with pytest.raises(gpu.Stopped), report.part("a case"):
        try:
            time.sleep(10)
        finally:
            raise RuntimeError("the end of a CUDA graph")
    assert report.stopped == "SIGALRM" and report.failures == []


def test_the_end_of_the_time_without_sigalrm(handlers, monkeypatch):
    """Windows has neither this signal nor its timer."""
    monkeypatch.delattr(signal, "setitimer")
    report, late = gpu.Report(), gpu.Report()
    late.stop_on_signals(60)
    late.alarm(0)
    assert late.timer.finished.is_set()  # the alarm is taken back
    report.stop_on_signals(0.01)
    with pytest.raises(gpu.Stopped):
        for _ in range(1000):
            time.sleep(0.01)
    assert report.stopped == "SIGINT"


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    results.write(path, [{"a": 1}])

    def stop(*_):
        raise gpu.Stopped

    monkeypatch.setattr("csv.DictWriter.writerows", stop)
    with pytest.raises(gpu.Stopped):
        results.write(path, [{"a": 2}, {"a": 3}])
    assert path.read_text() == "a\n1\n"
