"""python -m bench.build: the time and the sizes of the build, into bench/results/build/cpu.csv; --cuda: into cuda.csv.

The committed tree is copied to a new folder and built there from nothing, without CUDA or with CUDA, by pip. setuptools
and ninja must be installed, because the build does not download them here.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from vae_kernels.timing import results

from .rows import RESULTS, ROOT

FOLDER = RESULTS / "build"


def build(folder, cuda):
    """The numbers of one build in this new folder."""
    folder.mkdir()
    tree = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=tree, check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "made", "."]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, env=os.environ | {"VAE_KERNELS_CUDA": str(int(cuda))}, check=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    (wheel,) = (folder / "made").glob("*.whl")
    with zipfile.ZipFile(wheel) as inside:
        (library,) = (info for info in inside.infolist() if info.filename.endswith("_C.so"))
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(used, 1),  # of all cores together: other programs change it little
        "library_bytes": library.file_size,
        "wheel_bytes": wheel.stat().st_size,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cuda", action="store_true")
    args = parser.parse_args()
    compiler = subprocess.run([os.environ.get("CXX", "g++"), "--version"], capture_output=True, text=True, check=True)
    shared = {
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),  # before the first build: programs that ran beside
        "compiler": compiler.stdout.splitlines()[0],
        "device": results.processor(),
        "python": sys.version.split()[0],
        "commit": results.commit(),
        "command": " ".join(["python -m bench.build", *sys.argv[1:]]),
    }
    with tempfile.TemporaryDirectory() as folder:
        rows = [build(Path(folder) / str(turn), args.cuda) | shared for turn in range(args.turns)]
        results.write(FOLDER / ("cuda.csv" if args.cuda else "cpu.csv"), rows)


if __name__ == "__main__":
    main()
