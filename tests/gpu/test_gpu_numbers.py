"""examples/gpu_numbers.py and its notebook: one file with everything that a run on a GPU has found."""

import csv
import io
import json
import os
import subprocess
import sys

import pytest
from places import EXAMPLES, ROOT

from vae_kernels.timing import results

if not EXAMPLES.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no examples/", allow_module_level=True)
FORM = ROOT / ".github/ISSUE_TEMPLATE/gpu_numbers.yml"


@pytest.fixture
def numbers(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    import gpu_numbers

    return gpu_numbers


def read(text):
    """({fact: its values}, the rows of the table) of a file."""
    facts = {}
    for line in text.splitlines():
        if line.startswith("# "):
            name, value = line.removeprefix("# ").split(": ", 1)
            facts.setdefault(name, []).append(value)
    table = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return facts, list(csv.DictReader(io.StringIO(table)))


def code_of_the_notebook():
    cells = json.loads((EXAMPLES / "gpu_numbers.ipynb").read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.soak  # a minute: .ci/run names this test
def test_a_dry_run_of_the_notebook(tmp_path):
    """The cells run one after the other, in a folder that has a checkout, on a machine that shows no GPU."""
    pytest.importorskip("triton")
    (tmp_path / "vae-kernels").symlink_to(ROOT, target_is_directory=True)
    (tmp_path / "cells.py").write_text("\n".join(code_of_the_notebook()), encoding="utf-8")
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    r = subprocess.run([sys.executable, "cells.py"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert r.returncode == 0 and "nothing has failed" in r.stdout, r.stdout[-3000:] + r.stderr[-3000:]
    text = (tmp_path / "gpu_numbers.csv").read_text(encoding="utf-8")
    assert text in r.stdout
    facts, rows = read(text)
    assert facts["dry run"][0].startswith("yes") and "skipped" in facts["tests"][0]
    assert facts["times"][0].startswith("exit status 0: 0 failures") and "triton" in facts["backends"][0]
    assert list(rows[0]) == results.COLUMNS and len({row["likelihood"] for row in rows}) == 2
    assert all("the times mean nothing" in row["device"] for row in rows)


def test_the_notebook_asks_for_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code_of_the_notebook()[0], names)
    with pytest.raises(ValueError, match="REPOSITORY"):
        exec(code_of_the_notebook()[1], names)


def test_what_fails_is_in_the_file(numbers, monkeypatch):
    """Both programs fail here, and the second one leaves rows of the cases before."""
    commands = []

    def run(command, seconds):
        commands.append((command, seconds))
        if "pytest" in command:
            return 1, ["FAILED tests/gpu/test_gpu.py::test_a", "=== 1 failed, 3 passed in 9.00s ==="]
        results.write(numbers.Path(command[command.index("--out") + 1]) / "tesla-t4.csv", [{"suite": "gpu"}])
        return 1, ["device: Tesla T4", "FAILED numbers of triton", "1 failures in 9 s", "FAILED numbers of triton"]

    monkeypatch.setattr(numbers, "run", run)
    monkeypatch.setattr(numbers, "capability", lambda: "75")
    assert numbers.measure(minutes=10) is False
    facts, rows = read((numbers.Path.cwd() / numbers.OUT).read_text(encoding="utf-8"))
    assert facts["dry run"] == ["no"] and facts["compute capability"] == ["75"] and facts["device"] == ["Tesla T4"]
    assert facts["tests"] == ["exit status 1: 1 failed, 3 passed in 9.00s"]
    assert facts["test"] == ["FAILED tests/gpu/test_gpu.py::test_a"] and facts["case"] == ["FAILED numbers of triton"]
    assert facts["times"] == ["exit status 1: 1 failures in 9 s"] and rows == [{"suite": "gpu"}]
    (_, tests), (command, times) = commands
    assert "--dry" not in command and 9 < (tests + times) / 60 <= 14  # what the tests do not need, the times get


@pytest.mark.full  # three seconds: the program must have begun when it is stopped
def test_a_program_that_takes_too_long_is_stopped(numbers):
    """The program gets Ctrl-C, and its last lines are kept."""
    sleep = "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('ended')"
    code = f"import time\nprint('begun', flush=True)\n{sleep}"
    status, lines = numbers.run([sys.executable, "-c", code], 3)
    assert (status, lines) == (0, ["begun", "ended"])


def test_the_form_asks_for_the_file(numbers):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    form = yaml.safe_load(FORM.read_text(encoding="utf-8"))
    fields = {field["id"]: field for field in form["body"] if "id" in field}
    assert {"name", "description", "body"} <= form.keys()
    assert fields["file"]["attributes"]["label"] == numbers.OUT and fields["file"]["validations"]["required"]
    for name in ("gpu_numbers.ipynb", "gpu_numbers.py"):
        assert name in form["description"] and (EXAMPLES / name).exists()
    shown = json.loads((EXAMPLES / "gpu_numbers.ipynb").read_text(encoding="utf-8"))["cells"][0]["source"]
    assert f"*{form['name']}*" in "".join(shown)
