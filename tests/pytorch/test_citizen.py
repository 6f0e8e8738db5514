"""docs/citizen.md tells the truth: the tests that it names exist, they run with the backends that it names, and no cell
is empty."""

import ast
import functools
import re

import pytest
from places import DOCS, TESTS

PAGE = DOCS / "citizen.md"

if not PAGE.exists():
    pytest.skip("the tests run without the source tree beside them: there is no docs/", allow_module_level=True)

COLUMNS = ["feature", "test", "torch", "cpu", "triton", "on a GPU"]
# In these files a fixture makes every test run with these backends.
BY_FILE = {"test_compile.py": {"cpu", "triton"}, "test_gpu.py": {"on a GPU"}}


def table(text):
    """The rows of the table; each row is {column: cell}."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == COLUMNS
    assert all(len(row) == len(COLUMNS) for row in cells)
    return [dict(zip(COLUMNS, row, strict=True)) for row in cells[2:]]


@functools.cache
def functions(file):
    """{name of a test: the names of its arguments} for a file of tests."""
    path = next(TESTS.rglob(file), TESTS / file)
    tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
    return {node.name: {a.arg for a in node.args.args} for node in tree.body if isinstance(node, ast.FunctionDef)}


def problems(text):
    found = []
    for row in table(text):
        where = f"{row['feature']}: "
        found += [f"{where}{column} is empty" for column, cell in row.items() if not cell]
        if not re.fullmatch(r"\w+\.py::\w+", row["test"]):
            found.append(f"{where}{row['test']!r} is no test")
            continue
        named = re.findall(r"(\w+\.py)::(\w+)", " ".join(row.values()))
        found += [f"{where}there is no {file}::{name}" for file, name in named if name not in functions(file)]
        file, name = row["test"].split("::")
        takes = {"torch", "cpu", "triton"} if "backend" in functions(file).get(name, ()) else set()
        takes = BY_FILE.get(file, takes)
        for column in COLUMNS[2:]:
            cell = row[column]
            if cell == "yes" and column not in takes | {"cpu"}:
                found.append(f"{where}{row['test']} does not run with {column}")
            if column in takes & {"torch", "triton"} and cell != "yes" and not cell.startswith(("no: ", "takes ")):
                found.append(f"{where}{row['test']} runs with {column}, and the table does not say yes")
            if cell != "yes" and "::" not in cell and len(cell.split()) < 2:
                found.append(f"{where}{column} is {cell!r}, expected yes, a test or a reason")
    return found


def test_the_table_is_what_the_tests_are():
    assert problems(PAGE.read_text()) == []


def test_every_check_of_ranks_has_a_row():
    text = PAGE.read_text()
    missing = [name for name in functions("ranks.py") if name.startswith("check_") and f"ranks.py::{name} " not in text]
    assert missing == ["check_train_resumes"]  # belongs to the row of test_ranks.py::test_two_ranks_go_on_as_one_would


HOOKS = "| test_transforms.py::test_hooks | yes"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (HOOKS, "| test_transforms.py::test_hook | yes", "there is no test_transforms.py::test_hook"),
        (HOOKS, "| somewhere | yes", "'somewhere' is no test"),
        (HOOKS, "| test_transforms.py::test_hooks | ", "torch is empty"),
        (HOOKS, "| test_transforms.py::test_hooks | no", "torch is 'no', expected yes, a test or a reason"),
        (HOOKS, "| test_transforms.py::test_hooks | of no use", "runs with torch, and the table does not say yes"),
        ("test_noise_bits | plain operations", "test_noise_bits | yes", "test_noise_bits does not run with torch"),
    ],
)
def test_what_is_wrong_is_named(old, new, said):
    text = PAGE.read_text()
    assert old in text
    assert any(said in problem for problem in problems(text.replace(old, new, 1)))
