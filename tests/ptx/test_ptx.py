"""The PTX simulator sees what it should: its arithmetic is exact, and it finds the faults that are planted here."""

import platform
import shutil

import pytest

pytest.importorskip("numpy")
from . import targets

if platform.machine().lower() not in ("x86_64", "amd64"):
    pytest.skip("the simulator is for x86-64", allow_module_level=True)
if not shutil.which(targets.CXX[0]):
    pytest.skip(f"no C++ compiler ({targets.CXX[0]}) to compile the simulator with", allow_module_level=True)

from . import arithmetic, small

SCHEDULES = [{"seed": s, "order": s % 3, "policy": s % 3, "resident": 1 + s, "diverge": int(s == 4)} for s in range(6)]


def test_the_arithmetic_is_exact():
    """A sample of `python -m tests.ptx self`."""
    assert arithmetic.main(rounds=1, numbers=512) == 0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_nothing_is_found_where_nothing_is_wrong(schedule):
    found, right = small.run(small.KERNEL, **schedule)
    assert right and all(kind.startswith("info") for kind in found), found


@pytest.mark.parametrize("fault", small.FAULTS)
def test_a_planted_fault_is_found(fault):
    there, wrong, kind = small.FAULTS[fault]
    assert small.KERNEL.count(there) == 1
    found = set().union(*(small.run(small.KERNEL.replace(there, wrong), **s)[0] for s in SCHEDULES))
    assert any(k.startswith(kind) for k in found), found
