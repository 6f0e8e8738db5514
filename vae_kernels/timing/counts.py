"""The costs of a run besides time: operations, and memory beyond its inputs."""

import ctypes
import re
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..backends import available_backends
from ..backends.pool import set_pool_limit

POOL = 1 << 30  # the default limit of the pool, in bytes


class _Count(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations += not function.is_view
        return function(*args, **(kwargs or {}))


def operations(f, arguments, device):
    """On a GPU, how many kernels f launches. On a CPU, how many operators that touch data f dispatches; such an
    operator is one kernel or more. Not for compiled functions on a CPU, because they do not dispatch."""
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
    """Gives a function that tells how many kernels the compiler has generated since the context was opened."""
    from torch._inductor import metrics

    metrics.reset()
    yield lambda: metrics.generated_kernel_count


def peak_bytes(f, arguments, device):
    """The peak memory of f, in bytes, beyond the memory in use before. None if the system does not report it."""
    return _peak_gpu(f, arguments) if device == "cuda" else _peak_resident(f, arguments)


def _peak_gpu(f, arguments):
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    f(*arguments)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _peak_resident(f, arguments):
    """peak_bytes() from the system's peak of resident memory, which is reset first (Linux). Before the run the
    allocators give back the memory that they keep, so the run must ask the system for all its memory."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if status.exists() else None  # glibc's
    if trim is None:
        return None
    pooled = available_backends()["cpu"] is None
    if pooled:
        set_pool_limit(0)
    try:
        trim(0)
        reset.write_text("5", encoding="ascii")  # proc(5): sets VmHWM to the present VmRSS
        before = _kib("VmRSS", status)
        f(*arguments)
        return (_kib("VmHWM", status) - before) * 1024
    except OSError:
        return None
    finally:
        if pooled:
            set_pool_limit(POOL)


def _kib(field, status):
    return int(re.search(rf"{field}:\s+(\d+) kB", status.read_text(encoding="utf-8", errors="replace"))[1])
