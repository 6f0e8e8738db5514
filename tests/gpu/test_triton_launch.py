"""The host's side of a Triton launch, with a driver that is not there: see triton_host.py."""

import importlib.util

import other_triton
import pytest

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
    pytest.mark.full,
]


@pytest.fixture(scope="module")
def host():
    return other_triton.run("triton_host.py")


def test_each_op_is_one_launch(host):
    for name in ("elbo", "log_prob", "sample", "sample_backward", "rescale_"):
        assert host[name]["launched"] == 2, name  # of two calls


def test_another_batch_size_compiles_nothing(host):
    """Up to 2^20 elements, where a program begins to take several tiles, and up to the number of partial sums that
    are added up by a launch of its own. Each of the two is another kernel."""
    several = {name: n for name, n in host["compiled for other batches"].items() if any(n)}
    assert several == {}
    assert len(host["compiled for other batches"]) > 10


def test_another_mask_of_the_same_shape_compiles_nothing(host):
    assert host["compiled for another mask"] == 0


def test_another_alignment_is_another_kernel(host):
    assert host["compiled for another alignment"] == 1


def test_a_kernel_that_is_new_inside_a_capture_is_refused(host):
    """Before the driver is asked to load the kernel, which would end the capture."""
    new, never_ran, ran = host["captured"]
    assert new == never_ran and ran == ""
    assert "elbo_kernel" in new and "before the capture" in new and "docs/citizen.md" in new


def test_the_host_is_quick(host):
    """Against Triton's own way to launch the smallest of these kernels, in the same run. The objective's has 70
    arguments, and makes five tensors, which counts here."""
    for name, ratio in (("elbo", 10), ("log_prob", 4), ("sample", 5), ("sample_backward", 5), ("rescale_", 3)):
        assert host[name]["us"] <= ratio * host["kernel[grid] us"], (name, host)
