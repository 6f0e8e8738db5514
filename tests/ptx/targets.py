"""What is compiled: the executor, nvcc's PTX of csrc/cuda, the host code of csrc/cuda, and a driver for Triton."""

import importlib.util
import os
import platform
import re
import shlex
import sys
from pathlib import Path

from .build import compile_all, digest, link
from .work import CSRC, HERE, ROOT, say, work

CXX = shlex.split(os.environ.get("CXX", "g++"))
CC = shlex.split(os.environ.get("CC", "gcc"))
EXECUTOR = ["-O2", "-march=native", "-ffp-contract=off", "-frounding-math", "-fno-strict-aliasing", "-std=c++20"]


def executor():
    """The library that executes PTX. It is for the CPU of this machine, and its name says for which."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        sys.exit("ptxsim: the executor is for x86-64")
    cpu = re.search(r"^flags.*", Path("/proc/cpuinfo").read_text(), re.M)
    out = work("core", f"core-{digest(cpu[0] if cpu else '')[:12]}.so")
    compile_all([([*CXX, *EXECUTOR, "-shared", "-fPIC", "-fvisibility=hidden"], HERE / "sim/all.cpp", out)])
    return out


def nvcc_command():
    """setup.py's own command, without what is for ptxas alone; None where there is no nvcc."""
    spec = importlib.util.spec_from_file_location("vae_kernels_setup", ROOT / "setup.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    found = setup.find_nvcc()
    if found is None:
        return None, ()
    return [f for f in found[0] if not f.startswith(("-gencode", "-Xptxas", "--compress"))], setup.cuda_units()


def ptx(csrc=CSRC, name="ptx", only=()):
    """The folder with nvcc's PTX of csrc/cuda/*.cu, or of the files of these names. csrc may be a copy."""
    command, units = nvcc_command()
    if command is None:
        sys.exit("ptxsim: no nvcc: set CUDA_HOME, or put nvcc on the PATH")
    arch = os.environ.get("PTXSIM_CUDA_ARCH", "80")
    folder = work(name, arch, "x").parent
    command = [flag.replace("-iquote,csrc", f"-iquote,{csrc}") for flag in command] + [f"-arch=compute_{arch}", "-ptx"]
    units = [
        ([*command, *flags], csrc.parent / source, folder / f"{obj.removesuffix('.cu.o')}.ptx")
        for source, obj, flags in units
        if Path(source).name in only or not only
    ]
    for old in set(folder.glob("*.ptx")) - {out for _, _, out in units}:
        old.unlink()
    say(f"nvcc: {compile_all(units)} of {len(units)} units compiled")
    return folder


def host():
    """csrc/cuda's host code on CPU tensors, as cuda_host.py compiles it, but a launch goes to shims/hooks.cpp."""
    import cuda_host

    folder = work("host", "x").parent
    commands = cuda_host.compile_commands(CSRC, folder, tuple(cuda_host.LIKELIHOODS), "-O1", ["-DVK_LAUNCH_BY_NAME"])
    hooks = HERE / "shims/hooks.cpp"
    commands.append([*commands[-1][:-3], str(hooks), "-o", str(folder / "hooks.o")])
    units = [(command[:-3], command[-3], Path(command[-1])) for command in commands]
    say(f"{CXX[0]}: {compile_all(units)} of {len(units)} units compiled")
    objects = [str(out) for _, _, out in units]
    return link(cuda_host.link_command(objects, ["-Wl,--wrap=aoti_torch_empty_strided"]), objects, folder / "host.so")


def driver():
    """The folder of a libcuda.so.1 that launches in the simulator. The header cuda.h is Triton's."""
    triton = Path(importlib.util.find_spec("triton").origin).parent
    out, source = work("driver", "libcuda.so.1"), HERE / "shims/libcuda.c"
    include = triton / "backends/nvidia/include"
    flags = ["-O1", "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-I", str(include)]
    link([*CC, *flags, str(source)], [source], out)
    name = out.with_name("libcuda.so")
    if not name.is_symlink():
        name.symlink_to(out.name)
    return out.parent
