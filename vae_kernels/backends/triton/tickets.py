"""The last program of a launch to end does what is left to do: programs draw tickets, and so find out which is last."""

import torch
import triton
import triton.language as tl

from .tiles import INTERPRETED


@triton.jit
def take_ticket(ticket, blocks):
    """True for the last of the launch's programs. That program finds what all the others have stored."""
    tl.debug_barrier()  # all of this program's stores are before its ticket
    last = tl.atomic_add(ticket, 1, sem="acq_rel") == blocks - 1
    if last:
        tl.store(ticket, 0)  # for the next launch, or the next replay of a graph
    return last


kept = {}


def ticket(device):
    """A counter that is 0 between launches. Each stream has a counter, since launches on one stream follow another."""
    if INTERPRETED.value:
        key = device
    elif torch.cuda.is_current_stream_capturing():
        return torch.zeros(1, dtype=torch.int32, device=device)  # the counter belongs to the graph
    else:
        key = device, torch.cuda.current_stream(device).cuda_stream
    counter = kept.get(key)
    if counter is None:
        counter = kept[key] = torch.zeros(1, dtype=torch.int32, device=device)
    return counter
