"""Compiles csrc with tests/cpp/sanitized.cpp, without torch and Python, with a sanitizer of the compiler or for
valgrind.

python tests/support/sanitizers.py  # `make soak`: every likelihood, both instruction sets, CUDA on the host, valgrind
"""

import contextlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cuda_host import compile_commands, write_list
from places import CPP, CSRC

from vae_kernels.formulas import LEVELS, LIKELIHOODS, PIXEL

CXX = shlex.split(os.environ.get("CXX", "g++"))
UNDEFINED = "undefined,float-cast-overflow"
FLAGS = {
    "address": [f"-fsanitize=address,{UNDEFINED}", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
    "valgrind": [],
}
OPS = "elbo", "evaluation", "row", "log_prob", "sample", "position", "pixel", "mixture", "decomposition", "segments"
BEST = ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"]


def commands(csrc, folder, flags, likelihoods, cuda):
    shared = ["-O1", "-g", "-std=c++20", "-fopenmp-simd", "-ffp-contract=off", "-fno-math-errno", *flags]
    shared += ["-iquote", str(csrc), "-iquote", str(folder), "-iquote", str(CPP)]
    sources = [(CPP / f"{name}.cpp", name, []) for name in ("fake_torch", "sanitized")]
    sources += [(csrc / "cpu/pool.cpp", "pool", [])]
    if cuda:
        shared += ["-DVK_CUDA_ON_HOST", "-Wno-unknown-pragmas"]
    else:
        sources += [(csrc / f"cpu/{name}.cpp", name, []) for name in OPS]
        kernels = csrc / "cpu/kernels"
        isa = ["-DVK_ISA=base"]
        loops = "convert", "latent", "row", "mixture", "decomposition", "segments"
        sources += [(kernels / f"{name}.cpp", f"k.{name}", isa) for name in loops]
        sources += [(kernels / "position.cpp", f"k.{n}", [*isa, f"-DVK_POSITION={n}"]) for n in LEVELS]
        sources += [(kernels / "pixel.cpp", f"k.{n}", [*isa, f"-DVK_PIXEL={n}"]) for n in PIXEL]
        sources += [(kernels / "likelihood.cpp", f"k.{n}", [*isa, f"-DVK_LIKELIHOOD={n}"]) for n in likelihoods]
    made = [[*CXX, *shared, *more, "-c", str(s), "-o", str(folder / f"{name}.o")] for s, name, more in sources]
    if cuda:
        theirs = compile_commands(csrc, folder, likelihoods, "-O1")[:-1]  # the last unit registers the ops with torch
        made += [[*command, *flags] for command in theirs]
    return made


def build(folder, sanitizer, likelihoods=tuple(LIKELIHOODS), cuda=False, more=(), plant=None):
    """Builds the program and gives its path. plant is (file, the right code, the wrong code): a fault in the copy of
    csrc."""
    csrc, flags = folder / "csrc", [*FLAGS[sanitizer], *more]
    if not csrc.exists():
        shutil.copytree(CSRC, csrc)
        write_list(csrc, likelihoods)
        (folder / "likelihoods.h").write_text("".join(f'#include "formulas/{name}.h"\n' for name in likelihoods))
    made = commands(csrc, folder, flags, likelihoods, cuda)
    if plant:
        file, there, wrong = plant
        text = (CSRC / file).read_text()
        assert text.count(there) == 1, f"{there} is not once in {file}"
        (csrc / file).write_text(text.replace(there, wrong))
        made = [command for command in made if str(csrc / file) in command]
    objects = [Path(command[command.index("-o") + 1]) for command in made]
    whole = [o.rename(f"{o}.whole") for o in objects if o.exists()]  # keep the objects of a build without the fault
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(call, made))
    program = folder / "program"
    call([*CXX, *flags, *map(str, sorted(folder.glob("*.o"))), "-pthread", "-o", str(program)])
    if plant:
        (csrc / file).write_text(text)
        for o in whole:
            o.rename(o.with_suffix(""))
    return program


def call(command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(program, before=(), how="all", seconds=None):
    """Runs the program and gives the finished process. how is "all" cases, "few" cases, or "as malloc gives it": all
    cases, in memory from plain malloc. With `seconds`, the program ends at its first report, and may take so long."""
    # The ThreadSanitizer of GCC 12 fails with the randomised addresses of a new Linux kernel, so they are turned off.
    fixed = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    env = os.environ | ({} if seconds is None else {"TSAN_OPTIONS": "halt_on_error=1"})
    command = [*fixed, *before, str(program), how]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds)


def run_with_a_fault(program, how):
    """A fault may destroy the sanitizer's own memory while the sanitizer writes its report. The sanitizer can then wait
    for ever, so the program gets a limit and three tries."""
    for _ in range(2):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return run(program, how=how, seconds=60)
    return run(program, how=how, seconds=60)


def soak():
    avx512 = "avx512f" in Path("/proc/cpuinfo").read_text()
    few = ("bernoulli", "gaussian")
    runs = [("address", {}), ("thread", {}), ("address", {"cuda": True}), ("valgrind", {"likelihoods": few})]
    if avx512:
        runs += [("address", {"more": BEST}), ("thread", {"more": BEST})]
    for sanitizer, options in runs:
        with tempfile.TemporaryDirectory() as folder:
            program = build(Path(folder), sanitizer, **options)
            before = ("valgrind", "--error-exitcode=9", "--leak-check=full", "-q") if sanitizer == "valgrind" else ()
            done = run(program, before, "as malloc gives it" if before else "all")
        print(sanitizer, options, done.stdout.strip(), "exit", done.returncode, flush=True)
        if done.returncode:
            sys.exit(done.stderr)


if __name__ == "__main__":
    soak()
