"""Every import path of version 0.1 gives the module or the name at the new path, so old code and pickles work. The last
tests check the layout of the package."""

import ast
import importlib
import pickle
import subprocess
import sys

import pytest
from places import ROOT, TESTS, child

import vae_kernels as vk
from vae_kernels.core.moved import MOVED

# Each line has a module of version 0.1 and the names that it defined. The list leaves out the command, the kernels, 18
# helpers that the redesign removed, and two names that the formulas had for Triton (CHANGELOG.md names them).
NAMES = [line.split() for line in (TESTS / "project/names-0.1.txt").read_text().splitlines()]
PACKAGE = ROOT / "vae_kernels"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("module, names", [(module, names) for module, *names in NAMES], ids=lambda v: str(v)[:40])
def test_every_name_of_0_1(module, names):
    if module == "vae_kernels.scvi":
        pytest.importorskip("scvi")
    there = importlib.import_module(module)
    for name in names:
        if not hasattr(there, name):
            importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize("old", [old for old in MOVED if old != "bench"])  # bench has modules, but no names
def test_an_old_path_gives_the_new_module_and_warns(old):
    if old == "scvi":
        pytest.importorskip("scvi")
    new = importlib.import_module(f"vae_kernels.{MOVED[old]}")
    there = vars(sys.modules[f"vae_kernels.{old}"])  # names that other tests used here have given their warning already
    name = next(n for n in vars(new) if not n.startswith("_") and n not in there)
    with pytest.warns(DeprecationWarning, match=rf"vae_kernels\.{old} has moved to {new.__name__}: .* version 0\.4"):
        assert getattr(importlib.import_module(f"vae_kernels.{old}"), name) is getattr(new, name)


@pytest.mark.full  # a new process imports torch
def test_a_module_inside_an_old_path_is_the_new_one_and_warns():
    code = """
import warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from vae_kernels.audit.report import Audit
    from vae_kernels.bench import clock as old_clock
from vae_kernels.auditing import report
from vae_kernels.timing import clock
assert Audit is report.Audit and old_clock is clock
for w, old, new in zip(said, ("audit.report", "bench.clock"), ("auditing.report", "timing.clock")):
    assert str(w.message).startswith(f"vae_kernels.{old} has moved to vae_kernels.{new}: "), w
assert len(said) == 2, said
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=child())


@pytest.mark.full  # slow, because each program imports torch
@pytest.mark.parametrize("module", ["vae_kernels.bench", "vae_kernels.bench.gpu"])
def test_a_program_at_an_old_path_runs(module):
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, env=child(), capture_output=True, text=True)
    assert done.returncode == 0 and "--seconds" in done.stdout, done.stderr


def test_what_does_not_exist_is_pythons_own_error():
    with pytest.raises(ModuleNotFoundError, match=r"vae_kernels\.audit\.nothing"):
        importlib.import_module("vae_kernels.audit.nothing")
    with pytest.raises(ImportError, match="nothing"):
        exec("from vae_kernels.audit import nothing")
    with pytest.raises(AttributeError, match="'vae_kernels' has no attribute 'nothing'"):
        _ = vk.nothing


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_pickle_that_names_an_old_path_loads():
    assert pickle.loads(b"cvae_kernels.vae\nVAE\n.") is vk.VAE
    assert pickle.loads(b"cvae_kernels.diagnose.verdicts\nVerdict\n.").__module__ == "vae_kernels.doctor.verdicts"


def test_public_classes_have_the_public_name():
    for name in vk.__all__:
        if isinstance(public := getattr(vk, name), type):
            assert public.__module__ == "vae_kernels" and pickle.loads(pickle.dumps(public)) is public


def test_no_name_of_the_package_hides_a_folder():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    for name in folders & set(vk.__all__):
        assert getattr(vk, name).__name__ == f"vae_kernels.{name}"


def test_at_most_ten_files_beside_the_folders():
    built = ("_C.so", "_C.reason.txt")
    assert len([path for path in PACKAGE.iterdir() if path.is_file() and path.name not in built]) <= 10


def imports(module, path, modules):
    """The modules of the package that this module imports when Python imports it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def found(body):
        for node in body:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from found(node.orelse)
            elif isinstance(node, (ast.If, ast.Try, ast.With)):
                yield from found([n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)])
            elif isinstance(node, ast.ImportFrom) and node.level:
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                base = f"{base}.{node.module}" if node.module else base
                names = {f"{base}.{alias.name}" for alias in node.names}
                yield from names & modules or ({base} if base in modules else set())

    return set(found(ast.parse(path.read_text()).body)) - {module}


def test_imports_have_no_circle():
    """No two modules import each other, directly or through others. It would be a circle too if a package imported its
    own module, and the module imported from the package."""
    paths = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    paths = {name.removesuffix(".__init__"): path for path, name in paths.items()}
    needs = {name: imports(name, path, set(paths)) for name, path in paths.items()}
    while ready := {name for name, needed in needs.items() if not needed & set(needs)}:
        needs = {name: needed for name, needed in needs.items() if name not in ready}
    assert not needs, {name: sorted(needed & set(needs)) for name, needed in needs.items()}
