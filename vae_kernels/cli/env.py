"""`vae-kernels env`: what a report of a bug needs to say of a machine. This file needs torch and nothing else, so the
command works where the packages of the other commands are missing."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from .. import __version__, available_backends
from ..timing.results import processor

# Packages that compute, packages of the command, and libraries for which vae_kernels has an adapter.
PACKAGES = ("numpy", "triton", "matplotlib", "safetensors", "typer", "scvi-tools", "ctgan", "pyro-ppl", "zuko")
# The variables that change what computes. No other variable is shown: some hold secrets.
VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTHON_GIL", "TRITON_INTERPRET", "VAE_KERNELS_ISA")


def facts() -> dict[str, Any]:
    """What is here, as values that JSON has. It names no path, user or host."""
    return {
        "vae_kernels": __version__,
        "torch": torch.__version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "libc": " ".join(filter(None, platform.libc_ver())) or None,
        "processor": processor(),
        "processor_instructions": torch.backends.cpu.get_cpu_capability(),  # the best that torch uses
        "threads": torch.get_num_threads(),
        "backends": {name: _without_path(reason) for name, reason in available_backends().items()},
        "gpus": gpus(),
        "cuda_of_torch": torch.version.cuda,
        "rocm_of_torch": torch.version.hip,
        "packages": {name: _version(name) for name in PACKAGES},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def gpus() -> list[str]:
    """A line for each GPU that torch finds."""
    found = []
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpu = torch.cuda.get_device_properties(i)
        found.append(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, compute capability {gpu.major}.{gpu.minor}")
    if torch.backends.mps.is_available():
        found.append("Apple GPU (mps)")
    if torch.xpu.is_available():
        found.append("Intel GPU (xpu)")
    return found


def _without_path(reason):
    """The reason why a backend does not work, without the folder of the installation."""
    return reason and reason.replace(str(Path(__file__).parents[1]), "vae_kernels")


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def text(found: dict[str, Any]) -> str:
    """The facts as lines, for a person."""
    rows = {name: value for name, value in found.items() if isinstance(value, (str, int))}
    rows |= {f"backend {name}": "works" if reason is None else reason for name, reason in found["backends"].items()}
    rows |= {f"GPU {i}": gpu for i, gpu in enumerate(found["gpus"])} or {"GPU": "torch finds none"}
    rows |= {name: version for name, version in found["packages"].items() if version is not None}
    missing = [name for name, version in found["packages"].items() if version is None]
    rows |= {"not installed": ", ".join(missing)} if missing else {}
    rows |= found["variables"]
    width = max(map(len, rows))
    return "\n".join(f"{name.replace('_of_', ' of '):{width}}  {value}" for name, value in rows.items())


def show(as_json: bool = False) -> None:
    found = facts()
    print(json.dumps(found, indent=2) if as_json else text(found))
