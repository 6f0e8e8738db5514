"""The host's side of a Triton launch, with a driver that is not there: see triton_host.py."""

import importlib.util

import other_triton
import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(scope="module")
def host():
    return other_triton.run("triton_host.py")


def test_each_op_is_one_launch(host):
    for name in ("elbo", "sample", "sample_backward", "rescale_"):
        assert host[name]["launched"] == 2, name  # of two calls


def test_another_batch_size_compiles_nothing(host):
    assert host["compiled for other batches"] == 0
    assert host["compiled for another alignment"] == 1


def test_the_host_is_quick(host):
    """Against Triton's own way to launch the smallest of these kernels, in the same run. The objective's has 70
    arguments, and makes five tensors, which counts here."""
    for name, ratio in (("elbo", 10), ("sample", 5), ("sample_backward", 5), ("rescale_", 3)):
        assert host[name]["us"] <= ratio * host["kernel[grid] us"], (name, host)
