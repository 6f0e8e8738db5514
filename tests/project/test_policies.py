"""The pages of the project that make promises: versions, security, issue templates, the checklist of a release."""

import ast
import re
import shutil
import subprocess
import sys

import places
import pytest
from places import ROOT

import vae_kernels as vk
from vae_kernels import cli
from vae_kernels.core import moved

if not (ROOT / ".ci/release.py").exists():
    pytest.skip("the tests run without the source tree beside them: there is no .ci/", allow_module_level=True)

TEXTS = "pyproject.toml", "CITATION.cff", "CHANGELOG.md", ".ci/conda/recipe.yaml"


@pytest.fixture(scope="module")
def release():
    return places.module(ROOT / ".ci/release.py")


@pytest.fixture
def tree(tmp_path):
    """A copy of the files that name the version."""
    (tmp_path / ".ci/conda").mkdir(parents=True)
    for name in TEXTS:
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "vae_kernels").mkdir()
    (tmp_path / "vae_kernels/some.py").write_text('"""Old paths work until 0.4."""\n')
    return tmp_path


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_texts_agree_now(release):
    """Between two releases nothing is wrong but that the version is not released yet."""
    assert [p for p in release.problems_of_texts(ROOT) if "is unreleased, expected a day" not in p] == []


def test_a_prepared_release_is_ready_and_the_next_version_is_not(release, tree):
    release.prepare(tree, "0.2.0", "2027-01-02")
    assert list(release.problems_of_texts(tree)) == [] and release.version_of(tree) == "0.2.0"
    assert release.sections(tree)[0] == ("0.2.0", "2027-01-02")
    assert "version: 0.2.0\ndate-released: 2027-01-02\n" in (tree / "CITATION.cff").read_text()
    with pytest.raises(SystemExit, match=r"0\.2\.0 was released on 2027-01-02"):
        release.prepare(tree, "0.2.0", "2027-01-03")
    with pytest.raises(SystemExit, match=r"got 0\.1\.0, but pyproject\.toml has 0\.2\.0"):
        release.prepare(tree, "0.1.0", "2027-01-03")
    with pytest.raises(SystemExit, match=r"got '0\.3', expected a number"):
        release.prepare(tree, "0.3", None)
    release.prepare(tree, "0.3.0", None)
    assert release.sections(tree)[:2] == [("0.3.0", "unreleased"), ("0.2.0", "2027-01-02")]
    assert "date-released" not in (tree / "CITATION.cff").read_text()
    (problem,) = release.problems_of_texts(tree)
    assert problem == "CHANGELOG.md: 0.3.0 is unreleased, expected a day: --prepare 0.3.0"


@pytest.mark.parametrize(
    "name, old, new, problem",
    [
        ("pyproject.toml", 'version = "0.2.0"', 'version = "0.2.1"', "the top section is 0.2.0, expected 0.2.1"),
        ("CITATION.cff", "version: 0.2.0", "version: 0.1.0", "expected the line version: 0.2.0"),
        ("CITATION.cff", "date-released: 2027-01-02", "date-released: 2027-01-01", "date-released: 2027-01-02"),
        (".ci/conda/recipe.yaml", 'version: "0.2.0"', 'version: "0.1.0"', 'expected the line version: "0.2.0"'),
        ("CHANGELOG.md", "## 0.2.0 (2027-01-02)", "## 0.2.0 (2027-01-02)\n\n## 0.3.0 (2027-01-03)", "falling order"),
        ("CHANGELOG.md", "## 0.2.0 (2027-01-02)", "## 0.2.0 (2027-01-02)\n\n## 0.1.0 (unreleased)", "below the top"),
        ("vae_kernels/some.py", "until 0.4", "until 0.2", "something ends with 0.2, and this is 0.2.0"),
    ],
)
def test_the_checklist_finds_what_does_not_agree(release, tree, name, old, new, problem):
    release.prepare(tree, "0.2.0", "2027-01-02")
    edit(tree / name, old, new)
    assert any(problem in found for found in release.problems_of_texts(tree)), list(release.problems_of_texts(tree))


def test_the_checklist_looks_at_the_files_of_a_release(release, tmp_path):
    assert list(release.problems_of_the_files(tmp_path, "0.2.0")) == []  # nothing is built yet
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/vae_kernels-0.2.0-py3-none-any.whl").touch()
    assert list(release.problems_of_the_files(tmp_path, "0.2.0")) == ["dist/: expected an sdist and a wheel"]
    (tmp_path / "dist/vae_kernels-0.2.0.tar.gz").touch()
    assert list(release.problems_of_the_files(tmp_path, "0.2.0")) == []
    (problem,) = release.problems_of_the_files(tmp_path, "0.3.0")
    assert "is not of 0.3.0" in problem
    (tmp_path / "dist/vae_kernels-0.2.0-py3-none-linux_x86_64.whl").touch()
    (problem,) = release.problems_of_the_files(tmp_path, "0.2.0")
    assert "no index takes vae_kernels-0.2.0-py3-none-linux_x86_64.whl" in problem


def test_the_recipe_for_conda_needs_what_the_package_needs():
    project, recipe = ((ROOT / name).read_text() for name in ("pyproject.toml", ".ci/conda/recipe.yaml"))
    python, torch, setuptools = (
        re.search(rf'{name}( = ")?(>=[\d.]+)"', project)[2] for name in ("requires-python", '"torch', '"setuptools')
    )
    assert recipe.count(f"- python {python}\n") == 2
    assert f"- pytorch {torch}\n" in recipe and f"- setuptools {setuptools}\n" in recipe


def test_the_checklist_runs():
    done = subprocess.run([sys.executable, ROOT / ".ci/release.py"], capture_output=True, text=True)
    assert done.returncode in (0, 1) and "Left to do, in this order:" in done.stdout, done.stderr


def test_old_paths_end_when_the_policy_says(release):
    """Two minor releases have the warning before an old path is gone: docs/versions.md."""
    (end,) = set(re.findall(release.ENDS, (ROOT / "vae_kernels/core/moved.py").read_text()))
    assert release.numbers(end) >= (0, release.numbers("0.1.0")[1] + 3) and "until 0.4" in moved.__doc__
    page = (ROOT / "docs/versions.md").read_text()
    assert "**two minor releases**" in page and f"vae-kernels >=0.1,<{end}" in page


def test_the_policy_names_every_folder_of_the_package():
    public, private = "", ""
    for row in re.findall(r"^\| (.*) \| (.*) \|$", (ROOT / "docs/versions.md").read_text(), re.M):
        public, private = public + row[0], private + row[1]
    files = {"densities", "functional", "sampling", "conditions"}  # their public names are in vae_kernels.__all__
    names = {path.stem for path in (ROOT / "vae_kernels").iterdir() if not path.name.startswith(("_", "."))}
    for name in names - files - {"py", "estimators", "monitor"}:
        assert (f"`{name}`" in public) != (f"`{name}`" in private), name
    assert {"controls", "distributions", "likelihoods", "models", "priors"} <= {*vk.__all__}


def called(tree):
    """The last name of everything that a file calls, and of everything that it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


UNPICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.load", "torch.jit.load"}


def unpickling(source):
    """The names in a file that unpickle. numpy.load must say allow_pickle=False."""
    tree = ast.parse(source)
    found = [name for name in called(tree) if name in UNPICKLES or name.partition(".")[0] in UNPICKLES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load", "pandas.read_pickle"):
            refused = any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
            found += [] if refused else [ast.unparse(node.func)]
    return found


def test_nothing_unpickles():
    for path in sorted((ROOT / "vae_kernels").rglob("*.py")):
        assert unpickling(path.read_text(encoding="utf-8")) == [], path


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from torch import load", "torch.load(path, weights_only=False)", "np.load(path)",
     "np.load(path, allow_pickle=True)", "from dill import loads", "joblib.load(path)"],
)  # fmt: skip
def test_the_search_for_unpickling_finds(source):
    assert unpickling(source)


@pytest.mark.parametrize("name", ["bug", "wrong_number", "question"])
def test_an_issue_template_is_a_form_of_github(name):
    yaml = pytest.importorskip("yaml")
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text())
    assert {"name", "description", "body"} <= form.keys()
    asked = [item for item in form["body"] if item["type"] != "markdown"]
    ids = [item["id"] for item in asked]
    assert len(ids) == len(set(ids)) and "env" in ids
    assert all(item["attributes"]["label"] for item in asked)
    words = next(item for item in asked if item["id"] == "env")["attributes"]["label"]
    assert "`vae-kernels env`" in words and "env" in cli.EXAMPLES


def test_the_citation_has_what_github_needs():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= found.keys()
    project = (ROOT / "pyproject.toml").read_text()
    assert f'license = "{found["license"]}"' in project and f'name = "{found["authors"][0]["name"]}"' in project
