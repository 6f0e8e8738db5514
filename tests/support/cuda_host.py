"""csrc/cuda compiled by a plain C++ compiler, where a kernel's launch is a loop, and its ops on CPU tensors."""

import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from places import CPP, CSRC  # noqa: F401 - CSRC is for who imports this

from vae_kernels.formulas import LEVELS, LIKELIHOODS

LIBRARY = "VAE_KERNELS_TEST_CUDA_HOST"  # the variable with a library that was built already, to plant a fault
CXX = shlex.split(os.environ.get("CXX", "g++"))
OPS = (
    "elbo", "elbo_backward", "sample", "sample_backward", "position", "position_backward",
    "mixture", "mixture_backward", "rescale_",
)  # fmt: skip
HOST_CODE = ("dispatch", "elbo", "sample", "position", "mixture")


def write_list(csrc, likelihoods):
    """Cut the lists of this copy of csrc down to these likelihoods."""
    lists = {"VK_LIKELIHOODS": likelihoods, "VK_POSITIONS": LEVELS}
    text = "".join(f"#define {name}(X) {' '.join(f'X({n})' for n in names)}\n" for name, names in lists.items())
    (csrc / "formulas/all.h").write_text(text)


def compile_commands(csrc, folder, likelihoods, optimize, flags=()):
    """As setup.py compiles csrc/cuda, but with a loop for a launch; cuda_host.cpp stands in for runtime.cpp."""
    flags = [optimize, "-std=c++20", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-DVK_CUDA_ON_HOST", *flags]
    flags.append("-DVK_MOST_BLOCKS=2048")  # a GPU's grid has 2^31 - 1, which take too long here
    flags += ["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-maybe-uninitialized", "-iquote", str(csrc)]
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        flags.append("-mfma")  # as the GPU has it
    sources = {f"likelihood.{name}": (csrc / "cuda/likelihood.cu", [f"-DVK_LIKELIHOOD={name}"]) for name in likelihoods}
    sources |= {f"position.{name}": (csrc / "cuda/position.cu", [f"-DVK_POSITION={name}"]) for name in LEVELS}
    others = ("latent.cu", "mixture.cu", *(f"{name}.cpp" for name in HOST_CODE))
    sources |= {name: (csrc / f"cuda/{name}", []) for name in others}
    sources["host"] = CPP / "cuda_host.cpp", []
    return [
        [*CXX, *flags, *extra, "-x", "c++", "-c", str(source), "-o", str(folder / f"{name}.o")]
        for name, (source, extra) in sources.items()
    ]


def build(csrc, folder, likelihoods=tuple(LIKELIHOODS), optimize="-O1", threads=2, unit=None):
    """Compile and link: the path of the library. Where it has not all likelihoods, csrc is cut down to these. With a
    unit, it alone is compiled: the objects of the others are there."""
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
    """Makes a library of the objects, which finds torch's functions when it is loaded."""
    libtorch = Path(torch.__file__).parent / "lib"
    return [*CXX, "-shared", *flags, *objects, f"-L{libtorch}", "-Wl,--no-as-needed", "-ltorch"]


def _run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


_defined = []


def load(path):
    """The ops of the library at this path. One fits in a process: all register under the same name."""
    if not _defined:
        library = torch.library.Library("vae_kernels_cuda_host", "DEF")
        for name in OPS:
            schema = str(getattr(torch.ops.vae_kernels, name).default._schema)
            library.define(schema.removeprefix("vae_kernels::"))
        library.define("set_mode(bool backwards, bool tickets) -> ()")
        _defined.append(library)
        torch.ops.load_library(str(path))
    return torch.ops.vae_kernels_cuda_host
