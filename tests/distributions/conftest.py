"""Every test here begins with torch's default for validate_args. torch.compile turns the checks off for the rest of the
process, and another test may have compiled something."""

import pytest
import torch.distributions as td


@pytest.fixture(autouse=True)
def checked():
    before = td.Distribution._validate_args
    td.Distribution.set_default_validate_args(True)
    yield
    td.Distribution.set_default_validate_args(before)
