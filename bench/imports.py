"""python -m bench.imports: the seconds that `import vae_kernels` adds to `import torch`, into
bench/results/build/imports.csv.

Each turn has two new processes, one after the other: one imports torch alone, and the other imports torch and then
vae_kernels. The clocks are inside the process, so the start of Python is not counted. Compiled Python files
(__pycache__) are there before the first turn, as after an installation by pip.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from vae_kernels.timing import results

from .rows import RESULTS

CSV = RESULTS / "build" / "imports.csv"
CODE = """
import json, sys, time
def now():
    return time.perf_counter(), time.process_time()
start = now()
import torch
middle, before = now(), len(sys.modules)
if {ours}:
    import vae_kernels
end = now()
seconds = [b - a for a, b in zip(start + middle, middle + end)]
print(json.dumps([*seconds, len(sys.modules) - before, torch.__version__]))
"""
COLUMNS = "torch_seconds", "torch_processor_seconds", "vae_kernels_seconds", "vae_kernels_processor_seconds", "modules"


def measured(ours):
    """The COLUMNS and the version of torch, in a new process."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = CODE.format(ours=ours)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=11)
    args = parser.parse_args()
    measured(True)  # writes __pycache__, and reads the files once
    rows, version = [], ""
    for _ in range(args.turns):
        alone, *_ = measured(False)
        *beside, version = measured(True)
        row = {"torch_alone_seconds": alone} | dict(zip(COLUMNS, beside, strict=True))
        rows.append({name: round(value, 3) for name, value in row.items()})
    shared = {
        "load": round(os.getloadavg()[0], 1),  # after the last turn: programs that ran beside
        "device": results.processor(),
        "torch": version,
        "python": sys.version.split()[0],
        "commit": results.commit(),
        "command": " ".join(["python -m bench.imports", *sys.argv[1:]]),
    }
    results.write(CSV, [row | shared for row in rows])
    for name in rows[0]:
        print(f"{name}: median {statistics.median(row[name] for row in rows):.3f}")


if __name__ == "__main__":
    main()
