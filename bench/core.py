"""The measuring core: what is compared is run in turns, so that a slow minute of the machine is shared by all."""

import csv
import platform
import statistics
import subprocess
import time
from pathlib import Path

import torch


def interleave(functions, prepare, seconds=2.0, least=7, warm_up=3):
    """Run the functions in turns until `seconds` are spent (each at least `least` times): {name: [seconds, ...]}.

    A turn is some runs of one function, of which the first is not counted: it finds the processor's caches as another
    function left them, and how full depends on which one that was. prepare() makes a run's arguments outside the
    measured time; what a run returns is freed after it.
    """
    times = {name: [] for name in functions}
    start = time.perf_counter()
    i = 0
    while i < warm_up + least or time.perf_counter() - start < seconds:
        for name, function in functions.items():
            turn = []
            while len(turn) < 2 or sum(turn) < _TURN:
                arguments = prepare()
                begin = time.perf_counter()
                result = function(*arguments)
                turn.append(time.perf_counter() - begin)
                del result, arguments
            if i >= warm_up:
                times[name] += turn[1:]
        i += 1
        if i == warm_up:
            start = time.perf_counter()
    return times


_TURN = 0.003  # seconds


def summary(times):
    """Median, 20th and 80th percentile in microseconds, and the number of runs."""
    ordered = sorted(times)
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e6  # noqa: E731
    return {"median_us": statistics.median(ordered) * 1e6, "p20_us": at(0.2), "p80_us": at(0.8), "runs": len(ordered)}


def machine():
    """Where a row was measured."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        name = fields.get("model name", name)
        if "model" in fields:
            name += f" (family {fields.get('cpu family')}, model {fields['model']})"
    describe = ["git", "describe", "--always", "--dirty"]
    git = subprocess.run(describe, capture_output=True, text=True, cwd=Path(__file__).parent)
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": git.stdout.strip() or "unknown",
    }


def write(path, rows):
    """The rows, dicts of one set of keys, as CSV."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
