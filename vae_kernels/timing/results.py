"""The columns of a results file, and the description of the machine that measured a row."""

import csv
import os
import platform
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import torch

from .case import Case

CASE = [f.name for f in fields(Case)]
COLUMNS = [
    "suite",
    "model",  # of a training step
    *CASE,
    "allocator",  # how malloc treats large blocks has a large effect on the times of large sizes
    "kind",  # eager, torch.compile, vae_kernels or copy
    "name",
    "median_us",  # by the clock on a CPU, by events on a GPU
    "p20_us",
    "p80_us",
    "runs",
    "disturbed",  # the share of the runs that other programs disturbed; 0: such runs were left out
    "first_us",  # the first run, with compilation and everything else that is done once
    "graph_us",  # GPU: by replay of a CUDA graph
    "host_us",  # GPU: time of the host
    "kernels",  # operators that touch data; for compiled code: generated kernels
    "peak_bytes",  # peak memory beyond the inputs
    "least_bytes",  # the bytes that every contender must move
    "copy_bytes_per_s",  # bytes read and written by a copy of the reconstruction, in the same turns
    "error",  # the largest relative error of loss and gradients, against float64
    "device",
    "torch",
    "python",
    "commit",
    "command",
]
ALLOCATOR = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")


def where(command, device=None):
    """The columns that have the same value in all rows of a run."""
    set_here = {name: os.environ[name].rpartition("/")[2] for name in ALLOCATOR if name in os.environ}
    return {
        "allocator": " ".join(f"{name}={value}" for name, value in set_here.items()) or "default",
        "device": device or processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
        "command": command,
    }


def processor():
    """The name of the processor, and the widest vectors that PyTorch finds: AVX512, AVX2, DEFAULT."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text(encoding="utf-8", errors="replace")
        lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        lines = {key.strip(): value.strip() for key, value in lines.items()}
        name = lines.get("model name", name)
        if "model" in lines:
            name += f" (family {lines.get('cpu family')}, model {lines['model']})"
    # A host may hide AVX-512 from its guests. So the same processor may have two files.
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def commit():
    """The commit of the source tree in which this package is, or the version if there is no source tree."""
    from .. import __version__

    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or not shutil.which("git"):
        return f"version {__version__}"
    git = lambda *words: subprocess.run(["git", *words], capture_output=True, text=True, cwd=root).stdout.strip()  # noqa: E731
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "vae_kernels", "csrc", "setup.py")
    return (git("rev-parse", "--short", "HEAD") or f"version {__version__}") + ("-dirty" if changed else "")


def file_of(folder, device):
    """The results file of a device: the device's name in lower case, with a dash for all but letters and digits."""
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return Path(folder) / f"{slug}.csv"


def read(path):
    """The rows of a results file, all values as text. [] if there is no file."""
    path = Path(path)
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{path}: got the columns {reader.fieldnames}, expected {COLUMNS}")
        return list(reader)


def case(row):
    """What tells two cases of a suite apart. A training step is one case: its rows differ by their part."""
    return tuple(shown(row.get(name)) for name in ("model", *CASE) if name != "part" or not row.get("model"))


def quiet(rows):
    """Whether no time of these rows includes runs that other programs disturbed. Other times flatter what is fast, and
    do not belong into a results file."""
    return not any(row["disturbed"] for row in rows)


def of(path, suite, allocator):
    """The rows of a suite in a results file."""
    return [row for row in read(path) if (row["suite"], row["allocator"]) == (suite, allocator)]


def merge(path, rows):
    """Write the rows, dicts, into a file. They replace the file's rows of the same suites and allocators."""
    new = [{column: shown(row.get(column)) for column in COLUMNS} for row in rows]
    replaced = {(row["suite"], row["allocator"]) for row in new}
    kept = [row for row in read(path) if (row["suite"], row["allocator"]) not in replaced]
    write(path, kept + new, COLUMNS)


def write(path, rows, columns=None):
    """Write a file that has only these rows. columns: None for the columns of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(path.name + ".new")  # so a run that is stopped while it writes leaves the old file
    with open(whole, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(whole, path)


def shown(value):
    """A value as text. A float has two decimals, and a float below 1 has three digits."""
    if value is None:
        return ""
    if not isinstance(value, float) or value.is_integer():
        return str(int(value)) if isinstance(value, float) else str(value)
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
