"""Runs tests again in a process that takes the loops of another instruction set of the CPU."""

import os
import subprocess

import pytest
import tiers
import torch
from places import PYTEST, TESTS

ALL = ["base", "avx2", "avx512"]
BEST = {"AVX2": "avx2", "AVX512": "avx512"}.get(torch.backends.cpu.get_cpu_capability(), "base")
# Every other test runs the loops of the best instruction set.
CASES = [pytest.param(isa, marks=[pytest.mark.soak] * (isa == BEST)) for isa in ALL]


def run(isa, config, *arguments):
    """The new memory of the process is filled with 0xfe, so an element that no loop writes is -1.7e38."""
    if ALL.index(isa) > ALL.index(BEST):
        pytest.skip(f"this processor does not run {isa}")
    tier = next((tier for tier in (tiers.FULL, tiers.PAIRS) if config.getoption(tier)), tiers.REST)
    command = [*PYTEST, tier, *map(str, arguments)]
    env = os.environ | {"VAE_KERNELS_ISA": isa, "MALLOC_PERTURB_": "1"}
    done = subprocess.run(command, cwd=TESTS, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
