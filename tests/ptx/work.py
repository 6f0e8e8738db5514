"""What a run writes: the work folder, the files in it, and the file of results."""

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
ROOT = TESTS.parent
CSRC = ROOT / "csrc"
WORK = Path(os.environ.get("PTXSIM_WORK") or Path(tempfile.gettempdir()) / "ptxsim").resolve()


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
