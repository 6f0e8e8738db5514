"""The committed results of the long runs: one file a run, which docs/reliability.md shows line by line."""

import json
import time
from pathlib import Path

import torch

RESULTS = Path(__file__).resolve().parents[2] / "bench/results/reliability"
STARTED = time.monotonic()


def record(name, command, figures):
    """Write what was found, {what: number}, beside the command that found it and how long this process took."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    seconds = round(time.monotonic() - STARTED)
    facts = {"command": command, "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__, "seconds": seconds}
    (RESULTS / f"{name}.json").write_text(json.dumps(facts | {"figures": figures}, indent=2) + "\n")
    print(*(f"{number:12,}  {what}" for what, number in figures.items()), f"{seconds:12,}  seconds", sep="\n")


def rows():
    """The lines of the table of docs/reliability.md: (what, number, command), and the seconds of all runs together."""
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    table = [(what, number, run["command"]) for run in runs for what, number in run["figures"].items()]
    return table, sum(run["seconds"] for run in runs)
