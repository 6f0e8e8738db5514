"""The PTX simulator sees what it should: its arithmetic is exact, and it finds the faults that are planted here."""

import json
import platform
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("numpy")
from . import targets

if platform.machine().lower() not in ("x86_64", "amd64"):
    pytest.skip("the simulator is for x86-64", allow_module_level=True)
if not shutil.which(targets.CXX[0]):
    pytest.skip(f"no C++ compiler ({targets.CXX[0]}) to compile the simulator with", allow_module_level=True)

import torch

from . import arithmetic, planted, small
from .machine import Machine
from .work import ROOT

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


def test_memory_that_comes_again_is_not_taken_for_new():
    """An op frees its scratch memory when it ends. A tensor of the caller that gets this memory is written to."""
    machine, result, scratch = Machine(), torch.zeros(3), torch.zeros(3)
    for tensor in (result, scratch):
        machine.fresh(tensor.data_ptr(), tensor.nbytes)
    machine.freed_all_but([result])
    assert machine.is_fresh(result) and not machine.is_fresh(scratch)


@pytest.fixture
def command():
    """`python -m tests.ptx ...`: what it prints. It ends with 0, or the test fails."""

    def run(*arguments):
        done = subprocess.run([sys.executable, "-m", "tests.ptx", *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture
def nvcc():
    if targets.nvcc_command()[0] is None:
        pytest.skip("no nvcc here")


@pytest.fixture
def triton():
    pytest.importorskip("triton", reason="Triton, whose compiler makes the PTX, is not installed")


@pytest.mark.soak  # as are the two proofs: .ci/run does all three by `python -m tests.ptx sample`
def test_all_of_the_arithmetic(command):
    assert ", 0 wrong" in command("self")


@pytest.mark.full
def test_a_fault_in_csrc_is_found(command, nvcc):
    found = json.loads(command("planted").splitlines()[-1])
    assert found.pop("nothing") == []
    for fault, kinds in found.items():
        assert any(kind.startswith(planted.FAULTS[fault][3]) for kind in kinds), (fault, kinds)


@pytest.mark.soak
def test_the_proof_of_cuda(command, nvcc):
    assert "the product says: right" in command("proof", "cuda")


@pytest.mark.soak
def test_the_proof_of_triton(command, triton):
    assert "the product says: right" in command("proof", "triton")


@pytest.mark.full
def test_launches_by_triton(command, triton):
    assert "0 memory or other findings" in command("launch")


@pytest.mark.full
def test_a_missing_barrier_or_fence_of_cuda_is_seen(command, nvcc):
    """Each fence; each barrier without which the result is another one, and some others."""
    lines = [line for line in command("mutate", "cuda", "elbo number").splitlines() if line.startswith("elbo")]
    seen, fences = [line for line in lines if "SEEN" in line], [line for line in lines if "membar" in line]
    assert fences and set(fences) <= set(seen), fences
    assert len(seen) >= 10 and all(line in seen for line in lines if "result wrong" in line), lines


@pytest.mark.full
def test_an_order_of_triton_that_is_missing_is_seen(command, triton):
    lines = command("mutate", "triton", "elbo none").splitlines()
    assert any("atom" in line and "SEEN" in line for line in lines), lines
