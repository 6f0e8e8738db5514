"""What can compute, and what "auto" takes.

A backend is a module with the two functions of formulas/elbo.py: elbo(...) and sample_kl(...). "torch" is the formulas
themselves, on any device; "cpu" is the compiled C++.
"""

import os
from pathlib import Path

import torch

from . import ops
from .formulas import elbo as reference

_LIBRARY = Path(__file__).parent / "_C.so"
_REASON = Path(__file__).parent / "_C.reason.txt"


def _load():
    """Load the compiled library: None, or the reason why there is none."""
    if not _LIBRARY.exists():
        if _REASON.exists():
            return _REASON.read_text().strip()
        if (_LIBRARY.parent.parent / "setup.py").exists():
            return "this is the source tree, which has no compiled library: leave its folder, or pip install -e ."
        return "the compiled library was not built"
    try:
        torch.ops.load_library(str(_LIBRARY))
    except OSError as error:
        return f"the compiled library does not load: {error}"
    isa = os.environ.get("VAE_KERNELS_ISA", "")
    return None if isa in ("", "base", "avx2", "avx512") else f"VAE_KERNELS_ISA={isa}: expected base, avx2 or avx512"


# name -> None if it works here, else why not
_MISSING = {"torch": None, "cpu": _load()}


def available_backends():
    """The names that `backend=` takes besides "auto", each with None if it works here, or with the reason why not.

    >>> vae_kernels.available_backends()
    {'torch': None, 'cpu': None}
    """
    return dict(_MISSING)


def choose(name, tensors):
    """The module for `backend=name`, for these tensors; ValueError if that backend cannot take them.

    "auto" takes the compiled kernels wherever they run, else plain torch. An explicit choice is never replaced.
    """
    if name == "auto":
        return ops if _refusal("cpu", tensors) is None else reference
    if not isinstance(name, str) or name not in _MISSING:
        raise ValueError(f'backend: got {name!r}, expected "auto" or one of {sorted(_MISSING)}')
    reason = _MISSING[name] or _refusal(name, tensors)
    if reason is not None:
        raise ValueError(f"backend={name!r} cannot be used: {reason}")
    return ops if name == "cpu" else reference


def _refusal(name, tensors):
    """Why this backend cannot compute with these tensors, or None."""
    if name == "torch":
        return None
    if _MISSING[name] is not None:
        return _MISSING[name]
    for t in tensors:
        if not t.is_cpu:
            return f"a tensor is on {t.device}"
    if torch._C._are_functorch_transforms_active():
        return "inside a torch.func transform only backend='torch' differentiates"
    return None
