"""A long run of fuzzing: python tests/soak/fuzz.py SECONDS [SEED]. It adds a line for each kind of input to
bench/results/reliability/fuzz.csv."""

import csv
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
import fuzz_arguments
import fuzz_models
import fuzz_readers

RESULTS = Path(__file__).resolve().parent.parent.parent / "bench/results/reliability/fuzz.csv"
COLUMNS = ["what", "first_seed", "inputs", "wrong", "seconds"]


def main(seconds, seed):
    of = {"arguments": fuzz_arguments.run, "models": fuzz_models.run, "readers": fuzz_readers.run}
    for what, run in of.items():
        began, inputs, wrong, at = time.monotonic(), 0, [], seed
        while time.monotonic() - began < seconds:
            with tempfile.TemporaryDirectory() as folder:
                good, found = run(at, 1000, *((Path(folder),) if run is fuzz_readers.run else ()))
            inputs, wrong, at = inputs + good + len(found), wrong + found, at + 1
            for one in found:
                print(*one, flush=True)
        record(what, seed, inputs, len(wrong), time.monotonic() - began)


def record(what, seed, inputs, wrong, seconds):
    row = (what, seed, inputs, wrong, f"{seconds:.0f}")
    print(*row, flush=True)
    new = not RESULTS.exists()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with open(RESULTS, "a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, row] if new else [row])


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
