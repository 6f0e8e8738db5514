"""Which backends work here, and which of them "auto" takes.

A backend is a module with the functions of the protocol `Backend` (core/objective.py). "torch" is the formulas in plain
PyTorch, on any device. "lean" is the same results with fewer operations, and with the noise of the device. "cpu" is the
compiled C++, "cuda" the compiled CUDA C++, and "triton" the Triton kernels.
"""

import functools
import importlib.util
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.autograd import forward_ad

from . import compiled as ops
from . import lean, reference
from .self_test import disagreement

_PACKAGE = Path(__file__).parents[1]
_LIBRARY = _PACKAGE / "_C.so"
_REASON = _PACKAGE / "_C.reason.txt"


def _load():
    """Load the compiled library: None, or the reason why there is none."""
    if not _LIBRARY.exists():
        if _REASON.exists():
            return _REASON.read_text(encoding="utf-8").strip()
        if (_LIBRARY.parent.parent / "setup.py").exists():
            return "this is the source tree, which has no compiled library: leave its folder, or pip install -e ."
        return "the compiled library was not built"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():  # since Python 3.13
        return "the compiled library was not tried without the GIL, which PYTHON_GIL=1 keeps"
    try:
        torch.ops.load_library(str(_LIBRARY))
    except OSError as error:
        return f"the compiled library does not load: {error}"
    isa = os.environ.get("VAE_KERNELS_ISA", "")
    return None if isa in ("", "base", "avx2", "avx512") else f"VAE_KERNELS_ISA={isa}: expected base, avx2 or avx512"


def _cuda(cpu):
    """None if the library and torch have CUDA, else the reason why not. `cpu` is the reason why "cpu" does not work."""
    if torch.version.hip:  # AMD GPUs, which this torch calls "cuda"
        return f"the CUDA C++ is for NVIDIA GPUs, and this torch is for AMD's (ROCm {torch.version.hip}): take 'triton'"
    if cpu is not None:
        return cpu
    if not torch._C._dispatch_has_kernel_for_dispatch_key("vae_kernels::elbo", "CUDA"):
        return "the compiled library was built without CUDA"
    return None if torch.version.cuda else "this torch was built without CUDA"


# name -> None if the backend works here, else the reason. Whether there is a GPU is asked later, and not at import.
_MISSING = {"torch": None, "lean": None, "cpu": _load()}
_MISSING["cuda"] = _cuda(_MISSING["cpu"])
_MISSING["triton"] = None if importlib.util.find_spec("triton") else "triton is not installed"


def available_backends() -> dict[str, str | None]:
    """The names that `backend=` takes besides "auto". Each has None if it works here, or the reason why it does not.

    >>> vae_kernels.available_backends()
    {'torch': None, 'lean': None, 'cpu': None, 'cuda': 'the compiled library was built without CUDA', 'triton': ...}
    """
    return {name: _missing(name) for name in _MISSING}


def _missing(name):
    if _MISSING[name] is not None or name in ("torch", "lean", "cpu"):
        return _MISSING[name]
    if name == "triton":  # a compiler must not trace the probe: an error shows when the compiled graph runs
        return None if torch.compiler.is_compiling() else _no_triton()
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return _not_built_for(torch.cuda.current_device())


def _triton():
    """The Triton backend. Its import imports triton, which takes a quarter of a second."""
    from . import triton

    return triton


@functools.cache
def _no_triton():
    """Why Triton cannot be used, or None.

    Triton needs a compiler for its launches, and a GPU that it knows. An import does not show whether both are there.
    So a kernel is compiled and launched once.
    """
    try:
        if _triton().INTERPRETED:
            return None
        if not torch.cuda.is_available():
            return "torch finds no CUDA device; TRITON_INTERPRET=1 runs the kernels on the CPU, slowly, to test them"
        one = torch.ones((), device="cuda")
        _triton().kernels.rescale_([torch.ones(1, device="cuda")], one)
        torch.cuda.synchronize()
    except Exception as error:  # whatever is wrong with Triton, the other backends work
        return f"triton does not run a kernel here: {type(error).__name__}: {error}"
    return None


def _constant(function):
    """A compiler must not trace this function: its result is no tensor. torch.compiler.assume_constant_result makes the
    same mark. But it imports torch._dynamo, which takes longer than all other imports of this package."""
    vars(function)["_dynamo_marked_constant"] = True
    return function


@_constant
def _not_built_for(device):
    """Why the compiled library does not run on this CUDA device, or None."""
    return _asked_of(device)


@functools.cache
def _asked_of(device):
    try:
        torch.ops.vae_kernels.check_device(device)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0].removeprefix("vae_kernels: ")
        major, minor = torch.cuda.get_device_capability(device)
        return (
            f"the compiled library does not run on CUDA device {device}, of compute capability {major}.{minor}. CUDA "
            f"says: {said}. Update the NVIDIA driver. Or build the library again with VAE_KERNELS_CUDA_ARCHS="
            f"{major}{minor} and a CUDA toolkit that is not newer than the driver. For a driver before CUDA 12.4 also "
            "set NVCC_APPEND_FLAGS=--compress-mode=none"
        )
    return None


def choose(name, tensors):
    """The module for `backend=name` and these tensors. ValueError if this backend cannot compute with the tensors.

    On the CPU "auto" takes the compiled kernels, on a GPU the first backend of _ON_GPU that works. Where there are no
    such kernels, it takes "lean". Under a transform and where a compiler traces, it takes "torch" in place of "lean":
    both need plain operations. An explicit choice is never replaced.
    """
    named = isinstance(name, str)
    if named and name == "auto":
        return ops if _cpu_takes(tensors) else _on_gpu(tensors) or _plain(tensors)
    if not named or name not in _MISSING:
        raise ValueError(f'backend: got {name!r}, expected "auto" or one of {sorted(_MISSING)}')
    reason = _missing(name) or _refusal(name, tensors)
    if reason is not None:
        raise ValueError(f"backend={name!r} cannot be used: {reason}")
    return {"torch": reference, "lean": lean}.get(name) or (_triton() if name == "triton" else ops)


def takes_noise_of_device(module):
    """Whether this backend takes the noise of the device's own generator, where nobody has set another one."""
    return module is lean


def _plain(tensors):
    """The backend in plain PyTorch that "auto" takes."""
    plain = _transformed() or torch.compiler.is_compiling() or any(t.is_meta for t in tensors)
    return reference if plain else lean


def _transformed():
    """Whether torch.func or forward-mode differentiation is active. Both need plain operations."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _cpu_takes(tensors):
    """Whether _refusal("cpu", tensors) is None. Nearly every call asks this, so it has a fast function of its own."""
    for t in tensors:
        if not t.is_cpu:
            return False
    return _MISSING["cpu"] is None and not _transformed()


# On a GPU "auto" takes the first of these backends that works there. CUDA C++ comes first, because its calls take less
# time of the host, and at small sizes the host takes most of the time. At large sizes memory limits both. `python -m
# bench.gpu` times both at every size. If it shows another order, write that order here. Neither has run on a GPU yet.
# So each must show once, on the device itself, that it agrees with the formulas.
_ON_GPU = ("cuda", "triton")
_proofs: dict[tuple[str, int], bool] = {}  # (name, device): whether this backend agrees there


def _on_gpu(tensors):
    """The module that "auto" takes for these tensors on a GPU, or None."""
    for t in tensors:
        if not t.is_cuda:
            return None
    if _transformed():
        return None
    for name in _ON_GPU:
        if _proved(name, tensors[0].get_device()):
            return _triton() if name == "triton" else ops
    return None


@_constant
def _proved(name, device):
    proved = _proofs.get((name, device))
    if proved is None:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return False  # a graph that is captured without a step before it gets plain torch
        # In a thread of its own, because this thread may be in a mode: fake tensors, no_grad, autocast
        with ThreadPoolExecutor(1) as thread:
            reason = thread.submit(_disagreement, name, device).result()
        if reason is not None and _MISSING[name] is None:
            warnings.warn(f'backend="auto" does not take {name!r} on CUDA device {device}: {reason}', stacklevel=5)
        proved = _proofs[name, device] = reason is None
    return proved


def _disagreement(name, device):
    """Why "auto" must not take this backend on this CUDA device, or None."""
    reason = _MISSING[name] or (_no_triton() if name == "triton" else _not_built_for(device))
    module = _triton() if reason is None and name == "triton" else ops
    return reason or disagreement(module, torch.device("cuda", device))


def _refusal(name, tensors):
    """Why this backend cannot compute with these tensors, or None."""
    if name == "torch":
        return None
    if _MISSING[name] is not None:
        return _MISSING[name]
    if name == "lean":
        return _NO_TRANSFORM if _transformed() else None
    on_cpu = name == "cpu" or (name == "triton" and _triton().INTERPRETED)
    for t in tensors:
        if not (t.is_cpu if on_cpu else t.is_cuda):
            return f"a tensor is on {t.device}"
    if name == "cuda" and (reason := _not_built_for(tensors[0].get_device())) is not None:
        return reason
    return _NO_TRANSFORM if _transformed() else None


_NO_TRANSFORM = "inside a torch.func transform, and in forward mode, only backend='torch' differentiates"
