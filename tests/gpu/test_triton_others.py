"""The Triton kernels compile for GPUs that the gates of test_triton_aot.py are not for. NVIDIA's GPUs before sm_80
have no instruction for bfloat16. AMD's warps have 64 lanes. Nobody has run the kernels there.

Under another Triton than the one installed: TRITON_PATH=<folder that holds it> pytest tests/gpu/test_triton_others.py
"""

import importlib.util

import other_triton
import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

# The loop over elements in bfloat16, partial sums and the last program of a launch, the noise, a soft-max
FEW = "bernoulli large bf16", "bernoulli terms", "sample bf16", "levels backward bf16"
CASES = [pytest.param(FEW, id="few", marks=pytest.mark.full), pytest.param((), id="all", marks=pytest.mark.soak)]


@pytest.fixture(scope="module", params=CASES)
def turing(request):
    """T4 and RTX 20."""
    return other_triton.run("triton_aot.py", 75, *request.param)["kernels"]


@pytest.fixture(scope="module", params=CASES)
def amd(request):
    """MI300."""
    return other_triton.run("triton_aot.py", "gfx942", *request.param)["kernels"]


def named(kernels, wrong):
    return {name for name, k in kernels.items() if wrong(k)}


def test_turing_has_room(turing):
    """A block has 48 KiB of shared memory, and a multiprocessor has 65,536 registers."""
    assert named(turing, lambda k: k["shared_bytes"] > 48 * 1024 or k["registers"] * k["warps"] * 32 > 65536) == set()


def test_amd_spills_nothing_to_memory(amd):
    assert named(amd, lambda k: k["local_bytes"] or k["spilled"]) == set()


def test_amd_has_warps_of_64_lanes_and_blocks_that_exist(amd):
    assert named(amd, lambda k: k["lanes"] != 64 or k["warps"] * 64 > 1024 or k["shared_bytes"] > 64 * 1024) == set()


def test_amd_knows_where_each_address_lies(amd):
    """A flat instruction finds out when it runs whether an address is of shared memory."""
    assert named(amd, lambda k: k["flat"]) == set()


def test_amd_stores_before_a_ticket(amd):
    """The program with the last ticket reads what all others have stored: tickets.py."""
    assert named(amd, lambda k: k["early_tickets"]) == set()
    assert named(amd, lambda k: k["tickets"]) != set()


def test_amd_has_approximate_instructions_whose_error_is_known(amd):
    assert {name for k in amd.values() for name in k["approximate"]} <= {"exp", "rcp", "rsq", "sqrt"}
