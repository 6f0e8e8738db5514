"""Compiles csrc/cuda with a plain C++ compiler, where the launch of a kernel is a loop, and runs its ops on CPU
tensors."""

import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from places import CPP, CSRC  # noqa: F401 - other modules import CSRC from here

from vae_kernels.formulas import LEVELS, LIKELIHOODS, PIXEL, ROW

LIBRARY = "VAE_KERNELS_TEST_CUDA_HOST"  # this variable may name a built library, for example one with a planted fault
CXX = shlex.split(os.environ.get("CXX", "g++"))
OPS = (
    "elbo", "elbo_backward", "log_prob", "sample", "sample_backward", "position", "position_backward",
    "pixel", "pixel_backward", "pixel_log_prob", "segments", "segments_backward", "mixture", "mixture_backward",
    "correct_", "pixel_correct_", "rescale_",
)  # fmt: skip
HOST_CODE = ("dispatch", "elbo", "log_prob", "sample", "position", "pixel", "segments", "mixture")


def write_list(csrc, likelihoods):
    """Shortens the lists in this copy of csrc to these likelihoods."""
    elements = {name: formula.ELEMENT.__name__.rpartition(".")[2] for name, formula in ROW.items()}
    rows = [f"{name}, {element}" for name, element in elements.items() if element in likelihoods]
    lists = {"VK_LIKELIHOODS": likelihoods, "VK_ROWS": rows, "VK_POSITIONS": LEVELS, "VK_PIXELS": PIXEL}
    text = "".join(f"#define {name}(X) {' '.join(f'X({n})' for n in names)}\n" for name, names in lists.items())
    (csrc / "formulas/all.h").write_text(text)


def compile_commands(csrc, folder, likelihoods, optimize, flags=()):
    """The commands compile csrc/cuda as setup.py does, but a launch is a loop, and cuda_host.cpp replaces
    runtime.cpp."""
    flags = [optimize, "-std=c++20", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-DVK_CUDA_ON_HOST", *flags]
    flags.append("-DVK_MOST_BLOCKS=2048")  # the grid of a GPU may have 2^31 - 1 blocks, which would take too long here
    flags += ["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-maybe-uninitialized", "-iquote", str(csrc)]
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        flags.append("-mfma")  # a GPU has fma too
    sources = {f"likelihood.{name}": (csrc / "cuda/likelihood.cu", [f"-DVK_LIKELIHOOD={name}"]) for name in likelihoods}
    sources |= {f"position.{name}": (csrc / "cuda/position.cu", [f"-DVK_POSITION={name}"]) for name in LEVELS}
    sources |= {f"pixel.{name}": (csrc / "cuda/pixel.cu", [f"-DVK_PIXEL={name}"]) for name in PIXEL}
    others = ("latent.cu", "mixture.cu", "row.cu", "segments.cu", *(f"{name}.cpp" for name in HOST_CODE))
    sources |= {name: (csrc / f"cuda/{name}", []) for name in others}
    sources["host"] = CPP / "cuda_host.cpp", []
    return [
        [*CXX, *flags, *extra, "-x", "c++", "-c", str(source), "-o", str(folder / f"{name}.o")]
        for name, (source, extra) in sources.items()
    ]


def build(csrc, folder, likelihoods=tuple(LIKELIHOODS), optimize="-O1", threads=2, unit=None):
    """Compiles and links, and gives the path of the library. With fewer likelihoods, csrc is a copy with shorter lists.
    With `unit`, only this unit is compiled, because the other objects exist already."""
    if len(likelihoods) < len(LIKELIHOODS):
        write_list(csrc, likelihoods)
    folder.mkdir(parents=True, exist_ok=True)
    commands = compile_commands(csrc, folder, likelihoods, optimize)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_run, [c for c in commands if unit is None or c[-1] == str(folder / f"{unit}.o")]))
    library = folder / "host.so"
    _run([*link_command(sorted(map(str, folder.glob("*.o")))), "-o", str(library)])
    return library


def link_command(objects, flags=()):
    """The command that links the objects to a library. The library finds torch's functions when it is loaded."""
    libtorch = Path(torch.__file__).parent / "lib"
    return [*CXX, "-shared", *flags, *objects, f"-L{libtorch}", "-Wl,--no-as-needed", "-ltorch"]


def _run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


_defined = []


def load(path):
    """The ops of the library at this path. A process can load only one, because all register under the same name."""
    if not _defined:
        library = torch.library.Library("vae_kernels_cuda_host", "DEF")
        for name in OPS:
            schema = str(getattr(torch.ops.vae_kernels, name).default._schema)
            library.define(schema.removeprefix("vae_kernels::"))
        library.define("set_mode(bool backwards, bool tickets) -> ()")
        _defined.append(library)
        torch.ops.load_library(str(path))
    return torch.ops.vae_kernels_cuda_host
