"""The clock of `vae-kernels bench` runs contenders in turns, and knows which runs other programs disturbed."""

import itertools
import os
import subprocess
import sys
import time

import pytest

from vae_kernels.timing import clock


@pytest.mark.full
def test_turns():
    """The functions run in turns. The first run of each turn is not counted, and a long function runs only once in a
    turn."""
    calls = []
    functions = {
        "short": (lambda i: (i,), lambda i: calls.append(("short", i))),
        "long": (lambda i: (i,), lambda i: (calls.append(("long", i)), time.sleep(1.2 * clock._LONG))),
    }
    runs = clock.interleave(functions, clock.CPU, seconds=0.0, least=3, warm_up=1)
    names = [name for name, _ in calls]
    turns = [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    assert turns == ["short", "long"] * 4
    assert len(runs["long"]) == 3 and names.count("long") == 2 + 3
    assert min(run.seconds for run in runs["long"]) >= 1.2 * clock._LONG
    first_of_each_turn = [i for (name, i), before in zip(calls, [None, *names], strict=False) if name != before]
    assert set(first_of_each_turn) == {0} and len(runs["short"]) < names.count("short")


def test_a_run_whose_threads_wait_for_a_processor_is_disturbed(monkeypatch):
    """A run may lose 2 % of its time to other programs. A clock without the system's count goes by the switches."""
    waited = itertools.accumulate(itertools.cycle([0.0, 0.0005, 0.0, 0.005]))  # before and after each run
    monkeypatch.setattr(clock.Waits, "seconds", lambda self: next(waited))
    runs = clock.CPU.times(lambda: time.sleep(0.05), [(), ()])
    assert [run.disturbed for run in runs] == [False, True]


@pytest.mark.full
def test_waits_are_counted():
    """Two busy threads on one processor wait for each other for about half of the time."""
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/schedstat"):
        pytest.skip("only Linux counts how long a thread waits")
    code = (
        "import os, subprocess, sys, time; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "other = subprocess.Popen([sys.executable, '-c', 'while True: pass']);"
        "from vae_kernels.timing import clock\n"
        "def busy():\n    end = time.perf_counter() + 1\n    while time.perf_counter() < end: pass\n"
        "(run,) = clock.CPU.times(busy, [()]); other.kill(); assert run.disturbed"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_systems_count_a_switch_disturbs(monkeypatch):
    switches = iter([3, 3, 3, 4])
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    monkeypatch.setattr(clock, "switches", lambda: next(switches))
    assert [run.disturbed for run in clock.CPU.times(int, [(), ()])] == [False, True]


@pytest.mark.full
def test_after_a_disturbed_turn_the_next_turn_is_short():
    class Clock(clock.Cpu):
        busy = staticmethod(lambda: True)

    calls = []
    clock.interleave(
        {"a": (lambda i: (), lambda: calls.append("a")), "b": (lambda i: (), lambda: calls.append("b"))},
        Clock(),
        seconds=0.0,
        least=3,
    )
    turns = ["".join(turn) for _, turn in itertools.groupby(calls)]
    assert {len(turn) for turn in turns[2:]} == {2}  # the first run of a turn, and a single counted run


def test_disturbed_runs_are_left_out_of_all_or_none():
    quiet, loud = clock.Run(1e-6), clock.Run(9e-6, True)
    both = clock.summaries({"a": [quiet] * 5 + [loud] * 9, "b": [quiet] * 5}, least=5)
    assert both["a"]["median_us"] == pytest.approx(1) and both["a"]["disturbed"] == 0
    one = clock.summaries({"a": [quiet] * 5 + [loud] * 9, "b": [quiet] * 4 + [loud]}, least=5)
    assert one["a"]["median_us"] == pytest.approx(9) and one["a"]["disturbed"] == pytest.approx(9 / 14)


@pytest.mark.full
def test_a_control_that_is_slow_marks_the_runs_beside_it():
    class Clock(clock.Cpu):
        def busy(self):
            return next(answers)

    answers = itertools.cycle([False, False, True, False])
    nothing = (lambda i: (), lambda: None)
    runs = clock.interleave({"a": nothing, "b": nothing}, Clock(), seconds=0.0, least=5)
    assert all(run.disturbed for run in runs["b"])
    assert sum(run.disturbed for run in runs["a"]) < len(runs["a"]) / 2


def test_control():
    control = clock.Control()
    assert not control.slow()  # the first one is the shortest so far
    control.least = 1e9
    assert not control.slow() and control.least < 1e9
    control.least /= 1e6
    assert control.slow()


def test_summary():
    found = clock.summary([i * 1e-6 for i in range(101)])
    assert [found[key] for key in ("median_us", "p20_us", "p80_us")] == pytest.approx([50, 20, 80])
    assert found["runs"] == 101
