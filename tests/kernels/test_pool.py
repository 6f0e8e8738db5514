"""The pool of large results: a block returns to the pool when its tensor is freed, two living tensors never share a
block, and the pool never exceeds its limit."""

import gc

import pytest
import torch

import vae_kernels as vk

MIB = 1 << 20

pytestmark = [
    pytest.mark.skipif(vk.available_backends()["cpu"] is not None, reason="the compiled library was not built"),
    pytest.mark.skipif(
        tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11), reason="torch 2.10 has no deleters"
    ),
]


@pytest.fixture(autouse=True)
def default_limit():
    vk.set_pool_limit(0)
    vk.set_pool_limit(1 << 30)
    yield
    vk.set_pool_limit(0)
    vk.set_pool_limit(1 << 30)


def gradient(megabytes, value=0.0):
    """The gradient of a Bernoulli nll, a tensor of so many megabytes. All logits are `value`, so every element is
    sigmoid(value) - 0.5."""
    logits = torch.full((4, megabytes * MIB // 16), value, requires_grad=True)
    return torch.autograd.grad(vk.nll(logits, torch.full_like(logits, 0.5), reduction="sum"), [logits])[0]


def test_a_block_is_used_again():
    g = gradient(8)
    assert vk.pool_bytes() == 0
    address = g.data_ptr()
    del g
    assert vk.pool_bytes() == 8 * MIB
    again = gradient(8)
    assert again.data_ptr() == address and vk.pool_bytes() == 0


def test_living_tensors_share_no_memory():
    values = [0.5 * i for i in range(6)]
    grads = [gradient(4, v) for v in values]
    views = [g[1:2] for g in grads]  # a view keeps the block alive too
    expected = [g.clone() for g in grads]
    del grads
    gc.collect()
    more = [gradient(4, 9.0) for _ in range(6)]
    for view, e in zip(views, expected, strict=True):
        assert torch.equal(view, e[1:2])
    assert len({t.untyped_storage().data_ptr() for t in [*views, *more]}) == 12


def test_the_limit_holds():
    vk.set_pool_limit(10 * MIB)
    grads = [gradient(4) for _ in range(5)]
    grads.clear()
    assert vk.pool_bytes() == 8 * MIB
    vk.set_pool_limit(0)
    assert vk.pool_bytes() == 0
    g = gradient(4)
    del g
    assert vk.pool_bytes() == 0


def test_a_smaller_result_takes_a_block_at_most_twice_its_size():
    g = gradient(8)
    del g
    keep = gradient(3)
    assert vk.pool_bytes() == 8 * MIB
    also = gradient(5)
    assert vk.pool_bytes() == 0
    assert keep.data_ptr() != also.data_ptr()


def test_training_does_not_grow():
    for _ in range(20):
        g = gradient(16)
        del g
    assert vk.pool_bytes() == 16 * MIB


@pytest.mark.parametrize("limit, error", [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)])
def test_bad_limits(limit, error):
    with pytest.raises(error, match="limit: got"):
        vk.set_pool_limit(limit)
