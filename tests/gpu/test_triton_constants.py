"""The constants of the float64 Triton kernels have the digits of float64: see support/triton_constants.py.

Under another Triton: TRITON_PATH=<folder that holds it> pytest --full tests/gpu/test_triton_constants.py
"""

import importlib.util

import other_triton
import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.mark.full  # it translates 20 kernels; the newest Triton itself loses no digit in tl.fma
def test_no_constant_of_a_float64_kernel_is_rounded_to_float32():
    found = other_triton.run("triton_constants.py")
    assert found["read"] > 50, found  # constants of the source were seen at all
    assert found["lost"] == {}
