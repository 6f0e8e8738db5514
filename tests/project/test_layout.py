"""A likelihood is two files and three lines, and no other file names it. These tests say which piece is missing.

The check reads the files of the tree and imports nothing. So the tests can also run the check on copies of the tree in
which a piece is removed.
"""

import ast
import functools
import re
import shutil

import pytest
from places import ROOT
from tiers import every

from vae_kernels.core.objective import REDUCTIONS
from vae_kernels.formulas import ELEMENT as LIKELIHOODS
from vae_kernels.formulas import PIXEL, POSITION, ROW
from vae_kernels.formulas.columns import KINDS as COLUMNS

FORMULAS, HEADERS, ORACLES = "vae_kernels/formulas", "csrc/formulas", "tests/support/oracles.py"
PYTHON_LIST, CPP_LIST = "vae_kernels/typing.py", f"{HEADERS}/all.h"
# The files that must serve every likelihood alike.
NEUTRAL = (
    "csrc/cpu",
    "csrc/cuda",
    "csrc/ops.cpp",
    "vae_kernels/backends/compiled",
    "vae_kernels/backends/triton",
    *(f"vae_kernels/{f}.py" for f in ("backends/choice", "core/layout", "core/checks")),
)
SOURCE = {".py", ".h", ".cpp", ".cu", ".cuh"}
MAX_LINES = 300

if not (ROOT / "csrc").is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no csrc/", allow_module_level=True)


def files(root, *places):
    """Every source file at these places, relative to root. A place is a file or a folder."""
    found = [root / place for place in places if (root / place).is_file()]
    found += [f for place in places for f in (root / place).rglob("*") if f.suffix in SOURCE]
    return sorted(f.relative_to(root).as_posix() for f in found)


@functools.cache  # most files of the copies that the tests change are the same text
def parsed(text):
    return ast.parse(text).body


@functools.cache
def words(text):
    return frozenset(re.findall(r"\w+", text))


def body(path):
    """The statements of a module, none where there is no file."""
    return parsed(path.read_text()) if path.exists() else ()


def assigned(path, name):
    """The expression that a module gives to a name, or None."""
    for node in body(path):
        if isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == [name]:
            return node.value
    return None


def defined(path):
    """The names that a module defines."""
    statements = body(path)
    names = {node.name for node in statements if isinstance(node, ast.FunctionDef)}
    return names | {
        t.id for node in statements if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
    }


def strings(expression):
    return {n.value for n in ast.walk(expression) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def cpp_list(root, name):
    """The names of the likelihoods in a list of all.h."""
    body = re.search(rf"#define {name}\(X\)((?:.*\\\n)*.*)", (root / CPP_LIST).read_text())[1]
    return set(re.findall(r"\bX\((\w+)[,)]", body))


# the names that the Python file of every likelihood defines
SHARED = {"KIND", "PARAMETERS", "DEFAULTS", "SUPPORT", "nll", "mean"}
# kind: (the list in all.h, the list of oracles, the names that the Python file defines)
KINDS = {
    "element": ("VK_LIKELIHOODS", "ORACLES", SHARED | {"triton_nll"}),
    "position": ("VK_POSITIONS", "LEVELS", SHARED | {"triton_value", "triton_softmax"}),
    "row": ("VK_ROWS", "ROWS", SHARED | {"ELEMENT"}),
    "pixel": ("VK_PIXELS", "PIXELS", SHARED | {"OPTIONS", "checked", "numbers", "sizes"}),
}


def kind_of(root, name):
    """The KIND of a likelihood. If its Python file does not define KIND, the C++ list that has its name decides."""
    stated = assigned(root / FORMULAS / f"{name}.py", "KIND")
    in_cpp = [kind for kind, (cpp, _, _) in KINDS.items() if name in cpp_list(root, cpp)]
    return (in_cpp or ["element"])[0] if stated is None else stated.value


def lists(root, kind):
    """{place where a likelihood of this kind must stand: the names that stand there}"""
    cpp, oracles, _ = KINDS[kind]
    modules = {f.stem for f in (root / FORMULAS).glob("*.py") if defined(f) & {"PARAMETERS", "nll"}}
    headers = {f.stem for f in (root / HEADERS).glob("*.h") if re.search(r"\bnll\(|using element =", f.read_text())}
    in_python = strings(assigned(root / PYTHON_LIST, "LikelihoodName"))
    tables = {key.value for key in assigned(root / FORMULAS / "__init__.py", "SEGMENTS").keys}  # they are in no list
    modules, headers = modules - tables, headers - tables
    of_all = {f"{FORMULAS}/<name>.py": modules, f"{HEADERS}/<name>.h": headers, PYTHON_LIST: in_python}
    places = {place: {name for name in names if kind_of(root, name) == kind} for place, names in of_all.items()}
    places[CPP_LIST] = cpp_list(root, cpp)
    return places | {ORACLES: {key.value for key in assigned(root / ORACLES, oracles).keys}}


def problems(root):
    """The problems of the tree: one sentence for each piece that is missing or out of place."""
    found = []
    for kind, (_, _, needed) in KINDS.items():
        places = lists(root, kind)
        names = sorted(set().union(*places.values()))
        for name in names:
            found += [f"{name} is missing in {place}" for place, there in places.items() if name not in there]
            found += parts(root, name, needed)
        for path in files(root, *NEUTRAL):
            there = words((root / path).read_text())
            found += [f"{path} names the likelihood {name}" for name in names if name in there]
    for path in files(root, "csrc", "vae_kernels", "setup.py"):
        lines = len((root / path).read_text().splitlines())
        found += [f"{path} has {lines} lines, expected under {MAX_LINES}"] if lines >= MAX_LINES else []
    return found


def parts(root, name, needed):
    """The pieces that the two files of a likelihood lack, in sentences."""
    module, header = root / FORMULAS / f"{name}.py", root / HEADERS / f"{name}.h"
    text = header.read_text() if header.exists() else ""
    found = [f"{FORMULAS}/{name}.py has no {part}" for part in sorted(needed - defined(module))]
    if f"struct {name} {{" not in text:
        found.append(f"{HEADERS}/{name}.h has no struct {name}")
    if f"{FORMULAS}/{name}.py" not in text:
        found.append(f"{HEADERS}/{name}.h does not point to {FORMULAS}/{name}.py, which has the maths")
    python, cpp = assigned(module, "PARAMETERS"), re.search(r"int parameters = (\d+);", text)
    options = assigned(module, "OPTIONS")  # the kernels take each option of an element as a further parameter
    numbers = len(python.elts) + (0 if options is None else len(options.keys)) if python is not None else 0
    if "triton_nll" in needed and python is not None and (not cpp or int(cpp[1]) != numbers):
        found.append(f"{HEADERS}/{name}.h: expected parameters = {numbers}, as in {FORMULAS}/{name}.py")
    return found


def test_the_tree_is_whole():
    assert problems(ROOT) == []


def test_the_tree_is_read_as_it_is_imported():
    assert all(names == set(LIKELIHOODS) for names in lists(ROOT, "element").values())
    assert all(names == set(POSITION) for names in lists(ROOT, "position").values())
    assert all(names == set(ROW) for names in lists(ROOT, "row").values())
    assert all(names == set(PIXEL) for names in lists(ROOT, "pixel").values())
    assert len(files(ROOT, *NEUTRAL)) > 10  # with no files, the search for names would find nothing


def test_cpp_and_python_have_the_same_numbers_for_the_reductions():
    body = re.search(r"enum class Reduction : int64_t {(.*)};", (ROOT / "csrc/request.h").read_text())[1]
    assert {name: int(number) for name, number in re.findall(r"(\w+) = (\d)", body)} == REDUCTIONS


def test_cpp_and_python_have_the_same_kinds_of_columns():
    header = (ROOT / HEADERS / "mixed.h").read_text()
    body = re.search(r"#define VK_COLUMNS\(X\)((?:.*\\\n)*.*)", header)[1]
    found = re.findall(r"\bX\((\w+), (\d), (\w+)\)", body)
    categories = re.search(r"#define VK_CATEGORIES (\w+)", header)[1]
    assert (*((name, "tanh") if tanh == "true" else name for name, _, tanh in found), categories) == COLUMNS
    scales = {"gaussian": "2", "laplace": "1", "negative_binomial": "1"}
    assert all(scale == scales.get(name, "0") for name, scale, _ in found)


def test_only_the_dispatch_of_each_device_includes_the_list_of_likelihoods():
    """If another file included the list, a new likelihood would make ninja compile that file again, for every
    instruction set."""
    including = [path for path in files(ROOT, "csrc") if '#include "formulas/all.h"' in (ROOT / path).read_text()]
    assert including == ["csrc/cpu/dispatch.cpp", "csrc/cuda/dispatch.cpp"]


@pytest.fixture
def tree(tmp_path):
    for folder in ("csrc", "vae_kernels"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (tmp_path / ORACLES).parent.mkdir(parents=True)
    shutil.copy(ROOT / ORACLES, tmp_path / ORACLES)
    return tmp_path


def new_problems(tree):
    """The problems of the copy that the tree itself does not have. The tree itself has its own test."""
    return sorted(set(problems(tree)) - of_the_tree())


@functools.cache
def of_the_tree():
    return frozenset(problems(ROOT))


def edit(path, pattern, replacement):
    text, n = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.M)
    assert n == 1, f"{pattern} is not in {path}"
    path.write_text(text)


# the removed piece: (file, pattern, replacement, the sentence that names the problem)
REMOVED = {
    "python list": (PYTHON_LIST, r'^ *"{name}",\n', "", "{name} is missing in " + PYTHON_LIST),
    "c++ list": (CPP_LIST, r"X\({name}\)", "", "{name} is missing in " + CPP_LIST),
    "c++ row": (CPP_LIST, r"X\({name}, \w+\)", "", "{name} is missing in " + CPP_LIST),
    "ELEMENT": (FORMULAS + "/{name}.py", r"^ELEMENT = .*\n", "", "{name}.py has no ELEMENT"),
    "oracle": (ORACLES, r'^ *"{name}": .*\n', "", "{name} is missing in " + ORACLES),
    "KIND": (FORMULAS + "/{name}.py", r"^KIND = .*\n", "", "{name}.py has no KIND"),
    "PARAMETERS": (FORMULAS + "/{name}.py", r"^PARAMETERS =", "NAMES =", "{name}.py has no PARAMETERS"),
    "DEFAULTS": (FORMULAS + "/{name}.py", r"^DEFAULTS = .*\n", "", "{name}.py has no DEFAULTS"),
    "SUPPORT": (FORMULAS + "/{name}.py", r"^SUPPORT = .*\n", "", "{name}.py has no SUPPORT"),
    "nll": (FORMULAS + "/{name}.py", r"^def nll\(", "def log_p(", "{name}.py has no nll"),
    "triton": (FORMULAS + "/{name}.py", r"^def triton_nll\(", "def other(", "{name}.py has no triton_nll"),
    "mean": (FORMULAS + "/{name}.py", r"^def mean\(", "def mode(", "{name}.py has no mean"),
    "struct": (HEADERS + "/{name}.h", r"struct {name} ", "struct other ", "{name}.h has no struct {name}"),
    "pointer": (HEADERS + "/{name}.h", r"vae_kernels/formulas/{name}.py", "", "{name}.h does not point to"),
    "count": (HEADERS + "/{name}.h", r"parameters = \d", "parameters = 9", "{name}.h: expected parameters = "),
}


@pytest.mark.full
@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("removed", every(2, [part for part in REMOVED if part not in ("c++ row", "ELEMENT")]))
def test_a_missing_piece_is_named(tree, name, removed):
    path, pattern, replacement, said = (part.replace("{name}", name) for part in REMOVED[removed])
    edit(tree / path, pattern, replacement)
    (problem,) = new_problems(tree)
    assert said in problem


@pytest.mark.full
@pytest.mark.parametrize("name", POSITION)
@pytest.mark.parametrize(
    "removed", every(3, ["python list", "c++ list", "oracle", "KIND", "SUPPORT", "nll", "mean", "struct", "pointer"])
)
def test_a_missing_piece_of_the_position_kind_is_named(tree, name, removed):
    path, pattern, replacement, said = (part.replace("{name}", name) for part in REMOVED[removed])
    edit(tree / path, pattern, replacement)
    (problem,) = new_problems(tree)
    assert said in problem


@pytest.mark.parametrize("name", ROW)
@pytest.mark.parametrize(
    "removed", every(3, ["python list", "c++ row", "oracle", "KIND", "ELEMENT", "nll", "mean", "struct", "pointer"])
)
def test_a_missing_piece_of_the_row_kind_is_named(tree, name, removed):
    path, pattern, replacement, said = (part.replace("{name}", name) for part in REMOVED[removed])
    edit(tree / path, pattern, replacement)
    (problem,) = new_problems(tree)
    assert said in problem


@pytest.mark.parametrize("name", every(4, LIKELIHOODS))
@pytest.mark.parametrize("path", [FORMULAS + "/{}.py", HEADERS + "/{}.h"])
def test_a_missing_file_is_named(tree, name, path):
    (tree / path.format(name)).unlink()
    assert f"{name} is missing in {path.replace('{}', '<name>')}" in new_problems(tree)


def test_a_likelihood_in_one_list_alone_is_told_the_others(tree):
    edit(tree / CPP_LIST, r"X\(\w+\)", r"\g<0> X(toy)")
    said = "\n".join(new_problems(tree))
    for place in (f"{FORMULAS}/<name>.py", f"{HEADERS}/<name>.h", PYTHON_LIST, ORACLES):
        assert f"toy is missing in {place}" in said


@pytest.mark.full
@pytest.mark.parametrize("path", ["csrc/cpu/kernels/likelihood.cpp", "csrc/ops.cpp", "vae_kernels/core/checks.py"])
def test_a_file_that_names_a_likelihood_is_named(tree, path):
    name = next(iter(LIKELIHOODS))
    with open(tree / path, "a") as f:
        f.write(f"\n# if (likelihood == {name})\n")
    assert new_problems(tree) == [f"{path} names the likelihood {name}"]


def test_a_long_file_is_named(tree):
    (tree / "csrc/cpu/long.cpp").write_text("\n" * MAX_LINES)
    assert new_problems(tree) == [f"csrc/cpu/long.cpp has {MAX_LINES} lines, expected under {MAX_LINES}"]
