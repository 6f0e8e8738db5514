"""Runs that take too long for CI: `make soak`, or `python -m soak.NAME` in tests/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from places import SEARCH

sys.path[:0] = SEARCH
