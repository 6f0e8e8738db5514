"""What a run costs besides time: operations, and memory beyond its inputs."""

import ctypes
import re
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..backends import available_backends
from ..backends.pool import set_pool_limit

POOL = 1 << 30  # what the pool keeps by default


class _Count(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations += not function.is_view
        return function(*args, **(kwargs or {}))


def operations(f, arguments, device):
    """How many kernels f launches on a GPU; on a CPU how many operators it dispatches that touch data, each of them one
    kernel or more. Not for compiled functions, which no longer dispatch."""
    if device == "cuda":
        return _launches(f, arguments)
    with _Count() as count:
        f(*arguments)
    return count.operations


def _launches(f, arguments):
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        f(*arguments)
        torch.cuda.synchronize()
    return sum(e.device_type == torch.autograd.DeviceType.CUDA for e in found.events())


@contextmanager
def generated_kernels():
    """Gives a function: how many kernels the compiler has generated since."""
    from torch._inductor import metrics

    metrics.reset()
    yield lambda: metrics.generated_kernel_count


def peak_bytes(f, arguments, device):
    """The most memory that f holds at once beyond what is there already; None where the system does not tell."""
    return _peak_gpu(f, arguments) if device == "cuda" else _peak_resident(f, arguments)


def _peak_gpu(f, arguments):
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    f(*arguments)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _peak_resident(f, arguments):
    """By the system's own peak of resident memory, which is set back first (Linux). What the allocators keep of
    earlier runs is given back before, so that the run has to ask for all it needs."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if status.exists() else None  # glibc's
    if trim is None:
        return None
    pooled = available_backends()["cpu"] is None
    if pooled:
        set_pool_limit(0)
    try:
        trim(0)
        reset.write_text("5")  # proc(5): sets VmHWM to the present VmRSS
        before = _kib("VmRSS", status)
        f(*arguments)
        return (_kib("VmHWM", status) - before) * 1024
    except OSError:
        return None
    finally:
        if pooled:
            set_pool_limit(POOL)


def _kib(field, status):
    return int(re.search(rf"{field}:\s+(\d+) kB", status.read_text())[1])
