"""The columns of a results file, and where a row was measured."""

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
    "allocator",  # what malloc does with large blocks decides much of the large sizes
    "kind",  # eager, torch.compile, vae_kernels or copy
    "name",
    "median_us",  # by the clock on a CPU, by events on a GPU
    "p20_us",
    "p80_us",
    "runs",
    "disturbed",  # the share of these in which the system took a processor away; else only the others are counted
    "first_us",  # the first run: compilation, and whatever else is done once
    "graph_us",  # GPU: by replay of a CUDA graph
    "host_us",  # GPU: of Python
    "kernels",  # operators that touch data; of compiled code: generated kernels
    "peak_bytes",  # beyond the inputs
    "least_bytes",  # that must be moved
    "copy_bytes_per_s",  # read and written, of a copy of the reconstruction, in the same turns
    "error",  # relative, of loss and gradients, against float64
    "device",
    "torch",
    "python",
    "commit",
    "command",
]
ALLOCATOR = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")


def where(command, device=None):
    """The columns that are the same for a whole run."""
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
    """The processor's name, as the system tells it."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        lines = {key.strip(): value.strip() for key, value in lines.items()}
        name = lines.get("model name", name)
        if "model" in lines:
            name += f" (family {lines.get('cpu family')}, model {lines['model']})"
    return name


def commit():
    """Of the source tree that this package runs in; else its version."""
    from .. import __version__

    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or not shutil.which("git"):
        return f"version {__version__}"
    git = lambda *words: subprocess.run(["git", *words], capture_output=True, text=True, cwd=root).stdout.strip()  # noqa: E731
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "vae_kernels", "csrc", "setup.py")
    return (git("rev-parse", "--short", "HEAD") or f"version {__version__}") + ("-dirty" if changed else "")


def file_of(folder, device):
    """The results file of a device: its name in lower case, whatever is no letter or digit a dash."""
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return Path(folder) / f"{slug}.csv"


def read(path):
    """The rows of a results file, all values as text; none if there is no file."""
    path = Path(path)
    if not path.exists():
        return []
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{path}: got the columns {reader.fieldnames}, expected {COLUMNS}")
        return list(reader)


def merge(path, rows):
    """Write the rows, dicts, in the place of those of the same suites and allocators that the file has."""
    new = [{column: shown(row.get(column)) for column in COLUMNS} for row in rows]
    replaced = {(row["suite"], row["allocator"]) for row in new}
    kept = [row for row in read(path) if (row["suite"], row["allocator"]) not in replaced]
    write(path, kept + new, COLUMNS)


def write(path, rows, columns=None):
    """The rows in place of what the file had; columns: those of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(path.name + ".new")  # a run that is stopped while it writes leaves the old file
    with open(whole, "w", newline="") as file:
        writer = csv.DictWriter(file, columns or rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(whole, path)


def shown(value):
    """As text: a float with two decimals, or three digits where it is small."""
    if value is None:
        return ""
    if not isinstance(value, float) or value.is_integer():
        return str(int(value)) if isinstance(value, float) else str(value)
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
