"""Fixtures of the tables that every backend goes through."""

import pytest
import torch
from known import BACKENDS


@pytest.fixture(params=[name for name in BACKENDS if name != "torch"])  # on a GPU: gpu/test_gpu.py
def backend(request):
    return request.param


@pytest.fixture
def poisoned():
    """New memory is NaN, so that an element nobody wrote shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)
