"""How much memory of large results is kept for the next ones. The pool itself is csrc/cpu/pool.cpp."""

import torch

from .choice import available_backends


def set_pool_limit(limit: int) -> None:
    """Keep at most `limit` bytes in blocks whose tensors no longer exist; 0 keeps none. The default is 1 GiB.

    Results of a megabyte or more come from the pool (with torch >= 2.11), because new memory takes several times as
    long as the results themselves: the operating system clears every page when it is first used. Raises TypeError or
    ValueError for anything but an integer >= 0, and RuntimeError if the compiled library is missing.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit: got {type(limit).__name__}, expected an integer number of bytes")
    if limit < 0:
        raise ValueError(f"limit: got {limit}, expected a number of bytes >= 0")
    _op("set_pool_limit")(limit)


def pool_bytes() -> int:
    """The number of bytes in blocks that the pool keeps and no tensor uses now."""
    return _op("pool_bytes")()


def _op(name):
    reason = available_backends()["cpu"]
    if reason is not None:
        raise RuntimeError(f"the pool is part of the compiled library, and {reason}")
    return getattr(torch.ops.vae_kernels, name).default
