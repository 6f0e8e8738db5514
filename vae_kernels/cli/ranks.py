"""The processes of a run, as torchrun starts them: which one this is, what it computes, what they tell each other.

One process alone is rank 0 of 1, and tells nothing. All are seeded alike and draw by their place in the batch, so that
the numbers do not depend on how many there are.
"""

import os
import platform
from contextlib import contextmanager

import torch
import torch.distributed as dist


@contextmanager
def joined():
    """One of the others, if torchrun has started any. On the CPU they tell each other by gloo, on GPUs by nccl."""
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized()
    if not alone:
        store, rank, world = next(dist.rendezvous("env://"))
        if os.environ.get("LOCAL_WORLD_SIZE") == str(world):
            # On one machine torchrun's store outlives the workers, and holds the addresses of the dead: theirs apart
            # (pytorch issue 135712). On several, each counts its own starts, and torch makes a new store.
            store = dist.PrefixStore(f"start {_starts()}", store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    yield
    if not alone:  # not after an error: the others would be waited for
        dist.destroy_process_group()


def count():
    return dist.get_world_size() if dist.is_initialized() else 1


def first():
    """Whether this is the one that writes and prints."""
    return not dist.is_initialized() or dist.get_rank() == 0


def part(n):
    """(begin, end): which of n samples in a row are this process's. As even as can be; some may have none."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    return n * rank // count(), n * (rank + 1) // count()


def add(tensor):
    """Its sum over the processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def any_says(flag):
    """Whether one of them says so: the same answer for all, so that none waits for one that has stopped."""
    return bool(add(torch.tensor(int(bool(flag))))) if dist.is_initialized() else bool(flag)


def from_first(make):
    """What make() gives in the first of them."""
    if not dist.is_initialized():
        return make()
    told = [make() if first() else None]
    dist.broadcast_object_list(told)
    return told[0]


def job():
    """What names this launch of torchrun and is the same after it has started its workers again; None without it."""
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    return launch and f"{launch}@{platform.node()}:{os.getppid()}"


def started_again():
    """Whether torchrun has started these processes in the place of some that died."""
    return any_says(_starts() > 0)


def _starts():
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
