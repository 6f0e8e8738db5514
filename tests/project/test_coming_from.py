"""The pages for people who come from another loss: the lines before and the lines after run, and give the same."""

import re

import pytest
from places import DOCS

import vae_kernels as vk

PAGES = ["by_hand", "pytorch_examples", "pytorch_vae", "pythae", "pyro", "diffusers"]
SCVI = pytest.param("scvi_tools", marks=pytest.mark.full)  # scvi-tools takes seconds to import

if not (DOCS / "coming_from").is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no docs/", allow_module_level=True)


def text(page):
    return (DOCS / f"coming_from/{page}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [*PAGES, SCVI])
def test_the_lines_before_and_after_run(page, tmp_path, monkeypatch):
    if page == "scvi_tools":
        pytest.importorskip("scvi")
    if page == "pyro":
        pytest.importorskip("pyro")
    monkeypatch.chdir(tmp_path)
    before, after = text(page).split("\n## After\n")
    assert "\n## Before\n" in before and "\n## What to look at\n" in after
    code = [re.findall(r"```python\n(.*?)```", part, re.DOTALL) for part in (before, after)]
    assert all(code) and "vae_kernels" not in "".join(code[0])  # the lines before are without us
    assert re.search(r"^assert |assert_(all)?close\(", code[1][0], re.M)  # and the lines after are compared with them
    exec(compile("\n".join([*code[0], *code[1]]), f"{page}.md", "exec"), {"__name__": "page"})


def test_every_page_is_in_the_table():
    files = {path.stem for path in (DOCS / "coming_from").glob("*.md")} - {"README"}
    assert files == {*PAGES, "scvi_tools"} == set(re.findall(r"\]\((\w+)\.md\)", text("README")))


@pytest.mark.parametrize("page", [*PAGES, "scvi_tools", "README"])
def test_links_and_names_are_there(page):
    for link in re.findall(r"\]\(([^)#]+)", text(page)):
        assert (DOCS / "coming_from" / link).exists(), link
    for name in re.findall(r"`?\bvk\.(\w+)", text(page)):
        assert hasattr(vk, name), name
