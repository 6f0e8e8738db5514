"""Checks that the two runs on the command line end with the same test -ELBO, within 1 nat."""

import csv
import sys
from pathlib import Path

last = [list(csv.DictReader((Path(run) / "metrics.csv").read_text().splitlines()))[-1] for run in sys.argv[1:]]
key = next(name for name in last[0] if name.startswith("test") and "elbo" in name.lower())
values = [float(row[key]) for row in last]
print(*(f"{run}: {key} {value:.2f}" for run, value in zip(sys.argv[1:], values, strict=True)), sep="\n")
sys.exit(0 if len(values) == 2 and abs(values[0] - values[1]) < 1 else "the runs differ by a nat or more")
