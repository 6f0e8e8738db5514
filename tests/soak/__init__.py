"""Long runs, which take too long for CI: `make soak` runs all, and `python -m soak.NAME` in tests/ runs one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from places import SEARCH

sys.path[:0] = SEARCH
