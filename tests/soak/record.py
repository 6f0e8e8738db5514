"""The committed results of the long runs: one file for each run. docs/reliability.md shows every line of these
files."""

import json
import time
from pathlib import Path

import torch

RESULTS = Path(__file__).resolve().parents[2] / "bench/results/reliability"
STARTED = time.monotonic()


def record(name, command, figures):
    """Writes the figures, {what: number}, with the command that gave them and the time that this process took."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    seconds = round(time.monotonic() - STARTED)
    facts = {"command": command, "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__, "seconds": seconds}
    (RESULTS / f"{name}.json").write_text(json.dumps(facts | {"figures": figures}, indent=2) + "\n")
    print(*(f"{number:12,}  {what}" for what, number in figures.items()), f"{seconds:12,}  seconds", sep="\n")


def rows():
    """(the lines of the table in docs/reliability.md as (what, number, command), the seconds of all runs together)"""
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    table = [(what, number, run["command"]) for run in runs for what, number in run["figures"].items()]
    return table, sum(run["seconds"] for run in runs)
