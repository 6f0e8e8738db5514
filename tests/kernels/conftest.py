"""Fixtures for the tests that every backend must pass."""

import pytest
import torch
from known import BACKENDS


@pytest.fixture(params=[name for name in BACKENDS if name != "torch"])  # gpu/test_gpu.py has the tests on a GPU
def backend(request):
    return request.param


@pytest.fixture
def poisoned():
    """Fills new memory with NaN, so a test fails when a kernel leaves an element unwritten."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)
