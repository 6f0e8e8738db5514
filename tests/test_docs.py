"""The examples in docs/ run, as one script a page."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("controls", "audit", "monitor", "doctor")

if not DOCS.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no docs/", allow_module_level=True)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where they write
    path = DOCS / f"{page}.md"
    code = "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
    assert "vk." in code
    exec(compile(code, str(path), "exec"), {})
