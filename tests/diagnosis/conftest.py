"""What several tests of this folder share."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """The tensors of an audit are so small here that more threads only cost time, on a busy machine much time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def seeded():
    """The same weights and data in every run."""
    torch.manual_seed(0)
