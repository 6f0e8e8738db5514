"""Builds vae_kernels/_C.so: C++ for the CPU, and CUDA if nvcc is found. The build needs a compiler and ninja, but no
torch.

Environment: VAE_KERNELS_CUDA=0 leaves CUDA out, and VAE_KERNELS_CUDA=1 makes a missing nvcc an error.
VAE_KERNELS_CUDA_ARCHS ("80;90") chooses the GPUs. CXX, LDFLAGS, CUDA_HOME and MAX_JOBS have their usual meaning.
Without a C++ compiler the package installs as pure Python, and vae_kernels/_C.reason.txt says why. VAE_KERNELS_PURE=1
compiles nothing, and the wheel is then for every system: py3-none-any. .ci/wheel.py makes the wheel for manylinux.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
# All paths in the ninja file are relative to ROOT, so no folder name needs escaping, and none gets into the binary. The
# build folder is fixed, because setuptools makes a new temporary folder for every editable install, and ninja would
# then compile everything again.
BUILD = Path("build/kernels")

CXX_FLAGS = [
    # -iquote, not -I: a system header's #include <...> must never find our headers
    *("-O3", "-std=c++20", "-fPIC", "-fvisibility=hidden", "-fopenmp-simd", "-iquote", "csrc"),
    # Only flags that change no result: never -ffast-math, and a*b+c is fused only where the source says fma.
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"),
    # GCC threads jumps through the clamps of a loop-invariant value, and a loop with branches is not vectorised.
    "-fno-thread-jumps",
    # On x86, GCC keeps instructions in the order of the source. In a long formula, independent instructions then come
    # too late.
    "-fschedule-insns",
    # g++ 12 warns falsely about std::optional<Tensor>
    *("-Wall", "-Wextra", "-Wno-maybe-uninitialized"),
    *("-Wno-unknown-warning-option", "-Wno-ignored-optimization-argument"),  # clang would warn about flags of GCC
]
NVCC_FLAGS = ["-O3", "-fmad=false", "-Xptxas=-v", "-Xcompiler=-fPIC,-fvisibility=hidden,-iquote,csrc"]
ISAS = {"base": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    AVX2 = ["-mavx2", "-mfma"]
    ISAS["avx2"] = AVX2
    ISAS["avx512"] = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"]


def say(text):
    print(f"vae_kernels: {text}", file=sys.stderr)


def probe(command, source):
    """Compiles a few lines with this command. Gives None if this works, else the first line of the error."""
    (ROOT / BUILD).mkdir(parents=True, exist_ok=True)
    try:
        command = [*command, "-", "-o", str(BUILD / "probe")]
        r = subprocess.run(command, input=source, capture_output=True, text=True, cwd=ROOT)
    except OSError as e:
        return e.strerror
    lines = [*filter(None, (r.stderr + r.stdout).splitlines()), f"exit status {r.returncode}"]
    return None if r.returncode == 0 else lines[0]


def chosen(name):
    """Whether this environment variable is 1; None if it is not set."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        sys.exit(f"{name}={value}: expected 0 or 1")
    return value == "1" if value else None


def find_cxx():
    """(compiler, None), or (None, the reason why there is no compiler)."""
    if chosen("VAE_KERNELS_PURE"):
        return None, "this is the package of pure Python: VAE_KERNELS_PURE was 1 when the package was built"
    if os.name == "nt":
        return None, "the compiled kernels are not built on Windows"
    found = filter(shutil.which, ("g++", "c++", "clang++"))
    cxx = shlex.split(os.environ.get("CXX", "")) or [next(found, "g++")]
    error = probe([*cxx, "-std=c++20", "-x", "c++"], "#include <array>\nint main() {}\n")
    return (None, f"no working C++20 compiler: {shlex.join(cxx)}: {error}") if error else (cxx, None)


def find_nvcc():
    """(nvcc and its flags, the folder of its headers, the folder of its libraries), or None for a build without
    CUDA."""
    want = chosen("VAE_KERNELS_CUDA")
    if want is False:
        return None
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    places = [*(os.path.join(home, "bin") for home in homes if home), None, "/usr/local/cuda/bin"]  # None: the PATH
    nvcc = next((found for place in places if (found := shutil.which("nvcc", path=place))), None)
    error, flags = "no nvcc: set CUDA_HOME, or put nvcc on the PATH", []
    # Take the best flags that nvcc knows. Code that is compressed by size (nvcc 12.8 and later) is a third as large,
    # and needs a driver of CUDA 12.4. vae_kernels/backends/choice.py says what helps with an older driver.
    if nvcc:
        for flags in (["-std=c++20", "--compress-mode=size"], ["-std=c++20"], ["-std=c++17"]):
            error = probe([nvcc, *flags, "-x", "cu", "-c"], "__global__ void f() {}\n")
            if not error:
                break
    if error:
        error = f"{nvcc}: {error}" if nvcc else error
        if want:
            sys.exit(f"VAE_KERNELS_CUDA=1, but {error}")
        say(f"building without CUDA: {error}")
        return None
    # nvcc on the PATH may be a link or a wrapper script: only nvcc itself knows where its toolkit is
    dryrun = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True).stderr
    folders = [re.search(rf"#\$ {name}=(.*)", dryrun)[1] for name in ("INCLUDES", "LIBRARIES")]
    return [nvcc, *flags, *NVCC_FLAGS, *gencode(nvcc)], *map(shlex.split, folders)


# docs/gpus.md says which GPU runs which of these
CUDA_ARCHS = ("75", "80", "90", "100")


def gencode(nvcc):
    """The flags for code of each architecture, and for PTX, from which the driver makes code for newer architectures.

    Making PTX takes half of the time, so all code from sm_80 on is made from one PTX: nothing in csrc/cuda is for one
    architecture alone. Before sm_80 no instruction rounds to bfloat16, and cuda_bf16.h has other code there. So these
    architectures have a PTX of their own, which the library does not keep."""
    archs = os.environ.get("VAE_KERNELS_CUDA_ARCHS", "").replace(",", ";").split(";")
    archs = [a.strip() for a in archs if a.strip()]
    if not archs:
        known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
        archs = [a for a in CUDA_ARCHS if f"sm_{a}" in known]
    archs.sort(key=_number)
    flags = []
    for group in ([a for a in archs if _number(a) < 80], [a for a in archs if _number(a) >= 80]):
        if group:
            first, last = group[0], group[-1]
            code = [*(f"sm_{a}" for a in group), *[f"compute_{first}"] * (last == archs[-1])]
            flags.append(f"-gencode=arch=compute_{first},code=[{','.join(code)}]")
    return flags


def _number(arch):
    return int(re.match(r"\d+", arch)[0])  # "90a": 90


def find_ninja():
    try:  # the ninja package: its program is on the PATH only in an isolated build or an activated environment
        import ninja

        return os.path.join(ninja.BIN_DIR, "ninja")
    except ImportError:
        return shutil.which("ninja") or sys.exit("vae_kernels: no ninja: pip install ninja")


# The kinds of formula: {source of the loop or kernel: (the macro that chooses the formula, the list in all.h)}
KINDS = {
    "likelihood": ("VK_LIKELIHOOD", "VK_LIKELIHOODS"),
    "position": ("VK_POSITION", "VK_POSITIONS"),
    "pixel": ("VK_PIXEL", "VK_PIXELS"),
}


def likelihoods(kind="likelihood"):
    """The names in the list of this kind in csrc/formulas/all.h."""
    text = (ROOT / "csrc/formulas/all.h").read_text(encoding="utf-8")
    body = re.search(rf"#define {KINDS[kind][1]}\(X\)((?:.*\\\n)*.*)", text)[1]
    return re.findall(r"\bX\((\w+)\)", body)


def sources(folder, pattern):
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob(pattern))


def each_likelihood(source, suffix, flags):
    """(source, object, flags). The source of a kind is compiled once for each formula of the kind; any other source is
    compiled once."""
    stem = Path(source).stem
    if stem not in KINDS:
        return [(source, f"{stem}.{suffix}", flags)]
    names, choose = likelihoods(stem), KINDS[stem][0]
    return [(source, f"{stem}.{name}.{suffix}", [*flags, f"-D{choose}={name}"]) for name in names]


def kernel_units():
    """The kernels for the CPU. Each instruction set has its own objects, and csrc/cpu/dispatch.cpp chooses one set."""
    return [
        unit
        for isa, flags in ISAS.items()
        for source in sources("csrc/cpu/kernels", "*.cpp")
        for unit in each_likelihood(source, f"{isa}.o", [*flags, f"-DVK_ISA={isa}"])
    ]


def cuda_units():
    return [unit for source in sources("csrc/cuda", "*.cu") for unit in each_likelihood(source, "cu.o", [])]


def torch_stub(cxx):
    """Makes an empty libtorch.so to link with, and returns the link flags.

    At run time, the libtorch that `import torch` has loaded takes its place. The stub has only the functions that
    torch_abi.h declares. So any other missing symbol is an error of the build, and not an error at the user's import.
    """
    if sys.platform == "darwin":
        return ["-undefined", "dynamic_lookup"]
    names = set(re.findall(r"\b((?:aoti_)?torch_\w+)\(", (ROOT / "csrc/torch_abi.h").read_text(encoding="utf-8")))
    source = "".join(f'extern "C" void {name}() {{}}\n' for name in sorted(names))
    stub = BUILD / "stub/libtorch.so"
    (ROOT / stub.parent).mkdir(parents=True, exist_ok=True)
    command = [*cxx, "-shared", "-fPIC", "-Wl,-soname,libtorch.so", "-x", "c++", "-", "-o", str(stub)]
    subprocess.run(command, input=source, text=True, check=True, cwd=ROOT)
    return [f"-L{stub.parent}", "-Wl,--no-undefined,--no-as-needed", "-ltorch", "-Wl,--as-needed"]


def build(cxx, targets=("_C.so",)):
    """Compiles with ninja, into BUILD, everything that the targets need and that is out of date."""
    rules = {"cxx": [*cxx, *CXX_FLAGS]}
    link = ["-shared", *torch_stub(cxx)]
    nvcc, kernels, glue = find_nvcc(), kernel_units(), []
    if nvcc and cuda_units():  # the CUDA runtime is linked statically, so _C.so needs no CUDA library
        rules["nvcc"], includes, libraries = nvcc
        glue = ["-DVK_CUDA", *includes]
        link += [*libraries, "-lcudart_static", "-lrt", "-ldl", "-lpthread", "-Wl,--exclude-libs,ALL"]
        kernels += cuda_units()
        kernels += [(source, f"{Path(source).stem}.cuda.o", glue) for source in sources("csrc/cuda", "*.cpp")]
    link += shlex.split(os.environ.get("LDFLAGS", ""))  # last: .ci/wheel.py gives libraries that all objects may need
    once = ["csrc/ops.cpp", *sources("csrc/cpu", "*.cpp")]
    units = [*((source, f"{Path(source).stem}.o", glue) for source in once), *kernels]
    units.sort(key=lambda unit: not unit[0].endswith(".cu"))  # the longest first, so no core waits at the end

    def quote(words):
        return shlex.join(words).replace("$", "$$")

    lines = [f"builddir = {BUILD}"]
    # nvcc prints a long report on the registers of each kernel. It goes to a file, which tests/gpu/test_cuda_build.py
    # reads.
    output = {"cxx": "", "nvcc": " >$out.txt 2>&1 || (cat $out.txt; false)"}
    for name, words in rules.items():
        lines += [f"rule {name}", f"  command = {quote(words)} $flags -MMD -MF $out.d -c $in -o $out{output[name]}"]
        lines += ["  depfile = $out.d", "  deps = gcc"]
    for source, obj, flags in units:
        lines += [f"build {BUILD}/{obj}: {'nvcc' if source.endswith('.cu') else 'cxx'} {source}"]
        lines += [f"  flags = {quote(flags)}"]
    lines += ["rule link", f"  command = {quote(cxx)} $in {quote(link)} -o $out"]
    lines += [f"build {BUILD}/_C.so: link " + " ".join(f"{BUILD}/{obj}" for _, obj, _ in units)]
    (ROOT / BUILD / "build.ninja").write_text("\n".join(lines) + "\n", encoding="utf-8")

    jobs = os.environ.get("MAX_JOBS")
    ninja = [find_ninja(), "-f", f"{BUILD}/build.ninja", *([f"-j{jobs}"] if jobs else [])]
    if subprocess.run([*ninja, *(f"{BUILD}/{target}" for target in targets)], cwd=ROOT).returncode:
        sys.exit("vae_kernels: the compiler failed on csrc/: its message is above. VAE_KERNELS_PURE=1 compiles nothing")


class BuildKernels(build_ext):
    def run(self):
        package = (ROOT if self.inplace else Path(self.build_lib)) / "vae_kernels"
        library, reason = package / "_C.so", package / "_C.reason.txt"
        cxx, error = find_cxx()
        if cxx:
            build(cxx)
        elif chosen("VAE_KERNELS_CUDA"):
            sys.exit(f"VAE_KERNELS_CUDA=1, but {error}")
        # Remove the old files only when the build has worked. A running Python may have loaded the old library, so the
        # library is replaced and never written to.
        for stale in (library, reason):
            stale.unlink(missing_ok=True)
        package.mkdir(parents=True, exist_ok=True)
        if cxx:
            shutil.copy2(ROOT / BUILD / "_C.so", library)
        else:
            reason.write_text(error + "\n", encoding="utf-8")
            say(f"installing without compiled kernels: {error}")

    def get_ext_filename(self, name):  # the library has no symbol of Python, so any Python can load it
        return name.replace(".", os.sep) + ".so"


class AnyPython(bdist_wheel):
    def get_tag(self):
        return "py3", "none", "any" if chosen("VAE_KERNELS_PURE") else super().get_tag()[2]

    def write_wheelfile(self, folder):
        self.root_is_pure = bool(chosen("VAE_KERNELS_PURE"))
        super().write_wheelfile(folder)


if __name__ == "__main__":
    setup(
        ext_modules=[Extension("vae_kernels._C", sources=[])],
        cmdclass={"build_ext": BuildKernels, "bdist_wheel": AnyPython},
    )
