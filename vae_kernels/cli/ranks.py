"""The processes of a run under torchrun: the rank of this process, its part of the work, and the communication.

A process without torchrun is rank 0 of 1, and does not communicate. All ranks have the same seed, and the noise of a
sample depends on its place in the batch. So the numbers do not depend on the number of ranks.
"""

import os
import platform
from contextlib import contextmanager

import torch
import torch.distributed as dist


@contextmanager
def joined():
    """Join the other ranks, if torchrun has started any. CPU tensors travel by gloo, GPU tensors by nccl."""
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1 or several()
    if not alone:
        store, rank, world = next(dist.rendezvous("env://"))
        if os.environ.get("LOCAL_WORLD_SIZE") == str(world):
            # On one machine torchrun's store outlives the workers and still has the addresses of dead workers (pytorch
            # issue 135712). So each start gets a prefix of its own. With several machines torch makes a new store, and
            # a prefix would be wrong, because each machine counts its own starts.
            store = dist.PrefixStore(f"start {_starts()}", store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    yield
    if not alone:  # not after an error, because this call would wait for the other ranks
        dist.destroy_process_group()


def several():
    """Whether this process has joined others. A torch that was built without torch.distributed never has."""
    return dist.is_available() and dist.is_initialized()


def count():
    """The number of ranks."""
    return dist.get_world_size() if several() else 1


def first():
    """Whether this is rank 0, which writes and prints."""
    return not several() or dist.get_rank() == 0


def part(n):
    """(begin, end): the samples, of n in a row, that this rank computes. The parts differ by at most one sample; a rank
    may get no sample."""
    rank = dist.get_rank() if several() else 0
    return n * rank // count(), n * (rank + 1) // count()


def add(tensor):
    """Sum a tensor over the ranks, in place."""
    if several():
        dist.all_reduce(tensor)
    return tensor


def any_says(flag):
    """Whether the flag is true on any rank. All ranks get the same answer, so no rank waits for a rank that stopped."""
    return bool(add(torch.tensor(int(bool(flag))))) if several() else bool(flag)


def from_first(make):
    """The result of make() on rank 0, on every rank."""
    if not several():
        return make()
    result = [make() if first() else None]
    dist.broadcast_object_list(result)
    return result[0]


def job():
    """The name of this launch of torchrun, or None without torchrun. Workers that torchrun starts again have the same
    name."""
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    return launch and f"{launch}@{platform.node()}:{os.getppid()}"


def started_again():
    """Whether torchrun has started these processes to replace processes that died."""
    return any_says(_starts() > 0)


def _starts():
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
