"""Mutation: breaks kernels and formulas on purpose, one small change at a time, and asks whether the tests see it.

    python tests/soak/mutate.py                 # all groups; goes on where it was stopped
    python tests/soak/mutate.py --again         # those that survived, after a test was written

Each mutant lives in a scratch copy of the tree. The tests that should see it run until the first one fails, and, where
none of the first ones does, those of the second stage. A survivor that changes no result is in equivalent.csv, with the
reason. Writes bench/results/reliability/mutants.csv. In two hours; not a part of CI.
"""

import argparse
import csv
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import mutants as make

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "bench/results/reliability/mutants.csv"
EQUIVALENT = Path(__file__).with_name("equivalent.csv")
COLUMNS = ["group", "file", "line", "change", "before", "after", "outcome", "by", "seconds", "reason"]
SEED = 11
KEY = ("file", "before", "after")
PLAIN = lambda name: not name.startswith("triton_")  # noqa: E731
TWIN = lambda name: name.startswith("triton_")  # noqa: E731
# file -> what stands in the names of the tests that are first to see a change of it, where that is not its own name
NAMED = {
    **dict.fromkeys(("categorical", "levels_kernel"), "levels"),
    "mixture_kernel": "mixture",
    **dict.fromkeys(("kl", "latent", "lanes"), "latent_dims"),
    **dict.fromkeys(("reparameterize", "sample_kernel", "kernels", "sample"), "test_sample"),
    **dict.fromkeys(("elbo_kernel", "plan", "maths", "elbo", "scalar", "finish", "tile"), "gaussian and shapes"),
    **dict.fromkeys(("tiles", "block", "vector", "gather"), "gaussian and dtypes"),
    **dict.fromkeys(("counts", "launch"), "negative_binomial"),
    "noise": "bits",
    "rescale_kernel": "test_rescale",
}
LIMIT = 900  # seconds of a stage; what takes longer hangs
FEW = ("bernoulli", "gaussian")  # of the CUDA harness, as in test_cuda_faults.py
OTHERS = "poisson or binomial or zinb or laplace or continuous or logistic"


@dataclass(frozen=True)
class Group:
    """number: of mutants; builds: what is compiled anew; stages: arguments of pytest, one list after another."""

    number: int
    files: tuple
    builds: str  # "", "cpu" or "cuda"
    stages: tuple
    functions: object = None


def tests(k, *files):
    return [*(f"tests/test_{file}.py" for file in files), "-k", k]


# The compiled library has one instruction set here; tests that start a process of another, or that compile for long.
SLOW = "not instruction_set and not compile and not aot and not memory"
REFERENCE = "not cpu and not triton and not fma and not base and not compile and not instruction_set"
GROUPS = {
    "reference": Group(
        22,
        ("vae_kernels/formulas/[a-z]*.py", "vae_kernels/philox.py"),
        "",
        (
            tests(REFERENCE, "formulas", "philox", "levels", "mixture"),
            tests(REFERENCE, "counts", "reals", "api", "noise"),
        ),
        PLAIN,
    ),
    "C++ formulas": Group(
        26,
        ("csrc/formulas/[b-z]*.h", "csrc/formula.h", "csrc/scalar.h", "csrc/counts.h", "csrc/truncated_mean.h"),
        "cpu",
        (
            tests(f"cpu and {SLOW}", "objective", "levels"),
            tests(f"{SLOW} and not triton", "elementwise", "scalar", "counts", "reals", "mixture"),
        ),
    ),
    "CPU loops": Group(
        28,
        (
            *("csrc/cpu/kernels/*", "csrc/cpu/elbo.cpp", "csrc/cpu/levels.cpp", "csrc/cpu/mixture.cpp"),
            *("csrc/cpu/sample.cpp", "csrc/cpu/pool.cpp", "csrc/cpu/*.h", "csrc/arguments.h"),
        ),
        "cpu",
        (
            tests(f"not triton and not torch and {SLOW}", "noise", "levels", "pool", "objective", "mixture"),
            tests(f"{SLOW} and not triton", "autograd", "counts", "ops"),
        ),
    ),
    "noise": Group(6, ("csrc/philox.h",), "cpu", (tests(f"cpu and {SLOW}", "noise"), ["tests/test_scalar.py"])),
    "Triton": Group(
        24,
        ("vae_kernels/triton/*.py", "vae_kernels/formulas/[a-z]*.py"),
        "",
        (
            tests(
                f"{SLOW} and not cpu and not torch and not base and not fma",
                "triton_kernels",
                "noise",
                "levels",
                "objective",
                "mixture",
            ),
            tests(SLOW, "triton_launch", "autograd"),
        ),
        TWIN,
    ),
    "CUDA on the host": Group(
        20,
        ("csrc/cuda/*.h", "csrc/cuda/*.cpp"),
        "cuda",
        (tests(f"not planted and not ({OTHERS})", "cuda_host"),),
    ),
}


def files_of(group):
    return sorted({p.relative_to(ROOT).as_posix() for pattern in group.files for p in ROOT.glob(pattern)})


def stages_of(group, mutant):
    """The stages, and before them those tests of the first that have the name of the mutant's file."""
    *files, _, k = group.stages[0]
    stem = Path(mutant.file).stem
    return [[*files, "-k", f"{NAMED.get(stem, stem)} and {k}"], *group.stages]


def mutants_of(group):
    found = []
    for file in files_of(group):
        functions = group.functions
        if file.startswith("vae_kernels/triton"):
            functions = None
        found += make.of_file(ROOT, file, functions)
    return make.chosen(found, group.number, SEED)


# ---------------------------------------------------------------- the scratch copy


def scratch(folder):
    """A copy of the tree, whose library has one instruction set, the best, under the name of the portable one."""
    ignore = shutil.ignore_patterns(".*", "build", "runs", "*.so", "__pycache__", "docs")
    shutil.copytree(ROOT, folder, ignore=ignore)
    edit(folder / "setup.py", 'if platform.machine().lower() in ("x86_64", "amd64"):', "if False:")
    edit(folder / "setup.py", 'ISAS = {"base": []}', 'ISAS = {"base": ["-march=native", "-mprefer-vector-width=512"]}')
    edit(folder / "setup.py", '("-O3", ', '("-O1", ')  # the compiler's time is what a mutant costs
    for _ in range(2):
        edit(folder / "csrc/cpu/dispatch.cpp", "#if defined(__x86_64__)", "#if 0")
    return folder


def edit(path, before, after):
    text = path.read_text()
    assert before in text, f"{before} is not in {path}"
    path.write_text(text.replace(before, after, 1))


def module(path):
    spec = importlib.util.spec_from_file_location(f"of_scratch_{path.stem}", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def build(kind, tree):
    """Compile what has changed: False if the compiler refuses it."""
    pid = os.fork()
    if pid == 0:
        with open(tree / "build.log", "w") as log:
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        os.environ["VAE_KERNELS_CUDA"] = "0"
        code = 1
        try:
            if kind == "cpu":
                setup = module(tree / "setup.py")
                setup.build(setup.find_cxx()[0])
                shutil.copy2(tree / "build/kernels/_C.so", tree / "vae_kernels/_C.so.new")
                os.replace(tree / "vae_kernels/_C.so.new", tree / "vae_kernels/_C.so")
            else:
                sys.path.insert(0, str(tree))
                host = module(tree / "tests/cuda_host.py")
                csrc = tree / "build/csrc"
                shutil.rmtree(csrc, ignore_errors=True)
                host.build(Path(shutil.copytree(tree / "csrc", csrc)), tree / "build/cuda", FEW, optimize="-O0")
            code = 0
        except BaseException as error:  # SystemExit is what setup.py ends with
            print(error, flush=True)
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


# ---------------------------------------------------------------- the tests


class Watch:
    """A pytest plugin: which test fails first."""

    first = ""

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.first:
            self.first = report.nodeid

    def pytest_collectreport(self, report):
        if report.failed and not self.first:
            self.first = f"{report.nodeid} (collected)"


def run(tree, arguments, limit):
    """(the first test that fails, or ""; seconds). In a fork of this process, which has imported torch."""
    said, began = tree / "first.txt", time.monotonic()
    said.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        with open(tree / "tests.log", "w") as log:
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        os.environ["VAE_KERNELS_TEST_CUDA_HOST"] = str(tree / "build/cuda/host.so")
        sys.path[:0] = [str(tree), str(tree / "tests")]
        import pytest

        watch = Watch()
        code = pytest.main([*arguments, "-x", "-q", "-p", "no:cacheprovider", "--durations=5"], plugins=[watch])
        ok = code in (0, 1, 5) and (code != 1) == (watch.first == "")  # 5: no test has that name
        said.write_text(watch.first or ("" if ok else f"pytest ended with {int(code)}"))
        os._exit(0)
    while time.monotonic() - began < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return f"a crash ({signal.Signals(os.WTERMSIG(status)).name})", time.monotonic() - began
            text = said.read_text() if said.exists() else "the interpreter ended"
            return text, time.monotonic() - began
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout", limit


def import_the_heavy():
    os.environ["TRITON_INTERPRET"] = "1"
    for name in ("pytest", "torch", "numpy", "scipy.stats", "scipy.special", "mpmath", "triton", "triton.language"):
        importlib.import_module(name)
    importlib.import_module("torch._dynamo")
    importlib.import_module("torch.distributed.tensor")


# ---------------------------------------------------------------- all of it


def judge(group, mutant, tree, reasons):
    """The row of this mutant."""
    path, began = tree / mutant.file, time.monotonic()
    reason = reasons.get((mutant.file, mutant.before.strip(), mutant.after.strip()), "")
    whole = path.read_text()
    path.write_text(mutant.apply(whole))
    by, outcome = "", "invalid"
    try:
        if not group.builds or build(group.builds, tree):
            by = next(filter(None, (run(tree, stage, LIMIT)[0] for stage in stages_of(group, mutant))), "")
            outcome = "killed" if by else "equivalent" if reason else "survived"
    finally:
        path.write_text(whole)
    reason = reason if outcome == "equivalent" else ""
    seconds = f"{time.monotonic() - began:.0f}"
    fields = (mutant.file, mutant.line, mutant.kind, mutant.before.strip(), mutant.after.strip(), outcome, by, seconds)
    return dict(zip(COLUMNS[1:], (*fields, reason), strict=True))


def table(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(rows):
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with open(RESULTS, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--again", action="store_true", help="try the survivors once more")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = parser.parse_args()
    import_the_heavy()
    reasons = {tuple(row[key] for key in KEY): row["reason"] for row in table(EQUIVALENT)}
    for name in options.groups or GROUPS:
        group = GROUPS[name]
        if options.list:
            for m in mutants_of(group):
                print(f"{m.file}:{m.line}: {m.kind}\n  - {m.before.strip()}\n  + {m.after.strip()}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            tree = scratch(Path(folder) / "tree")
            if group.builds != "cpu":
                shutil.copy2(ROOT / "vae_kernels/_C.so", tree / "vae_kernels/_C.so")
            if group.builds and not build(group.builds, tree):
                sys.exit((tree / "build.log").read_text())
            for mutant in mutants_of(group):
                rows = table(RESULTS)
                key = mutant.file, mutant.before.strip(), mutant.after.strip()
                old = next((row for row in rows if tuple(row[k] for k in KEY) == key), None)
                if old and not (options.again and old["outcome"] == "survived"):
                    continue
                row = {"group": name} | judge(group, mutant, tree, reasons)
                rows = [r for r in table(RESULTS) if tuple(r[k] for k in KEY) != key]  # another group may have written
                write([*rows, row])
                print(*(row[k] for k in ("outcome", "file", "line", "seconds", "by")), flush=True)
            if group.builds and not build(group.builds, tree):  # without the last mutant
                sys.exit((tree / "build.log").read_text())
            killers = {row["by"] for row in table(RESULTS) if row["group"] == name and "::" in row["by"]}
            wrong = run(tree, sorted(killers), 3 * LIMIT)[0] if killers else ""
            if wrong:  # a test that fails without a mutant has killed nothing
                sys.exit(f"{name}: {wrong} fails without a mutant")


if __name__ == "__main__":
    main()
