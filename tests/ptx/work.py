"""What a run writes: the work folder, the files in it, and the file of results."""

import getpass
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
ROOT = TESTS.parent
CSRC = ROOT / "csrc"
_MINE = Path(tempfile.gettempdir()) / f"ptxsim-{getpass.getuser()}"
WORK = Path(os.environ.get("PTXSIM_WORK") or _MINE).resolve()


def work(*parts):
    """A path in the work folder. The folder that it is in is made."""
    path = WORK.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def result(name):
    """The JSON file that a run called `name` writes."""
    return os.environ.get("SIM_OUT") or str(work("results", name + ".json"))


def say(text):
    print(f"ptxsim: {text}", file=sys.stderr, flush=True)


def part(items):
    """Every n-th of the items, from item k on, where SIM_PART is "k/n"; else all of them."""
    k, n = map(int, os.environ.get("SIM_PART", "0/1").split("/"))
    return items[k::n]
