"""The documentation site: the build has no warning, every public name is on a page of the API, every link leads to a
heading or a file, and a page loads nothing from elsewhere."""

import dataclasses
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import places
import pytest
from places import DOCS, ROOT

import vae_kernels as vk
from vae_kernels.formulas import ALL

pytestmark = pytest.mark.full
pytest.importorskip("mkdocs", reason='the site needs mkdocs: pip install ".[docs]"')
pytest.importorskip("mkdocstrings_handlers.python", reason='the site needs mkdocstrings: pip install ".[docs]"')

if not (DOCS / "site").is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no docs/", allow_module_level=True)

INTEGRATIONS = {"scvi": ["attach", "detach", "load", "patch"], "ctgan": ["attach", "detach"], "onnx": ["translations"]}


class Page(HTMLParser):
    """The text of a page, its headings' names, its links, and what a browser loads for it."""

    def __init__(self, path):
        super().__init__()
        self.text, self.ids, self.links, self.loaded, self.classes = "", set(), [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[key] for key in ("id", "name") if found.get(key)}
        self.classes |= set((found.get("class") or "").split())
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link":
            self.loaded.append(found["href"])
        elif found.get("src"):
            self.loaded.append(found["src"])

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """{path: the Page}, of the site that `make site` builds."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", DOCS / "site/mkdocs.yml", "-d", folder]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=os.environ | {"PYTHONPATH": ""})
    assert run.returncode == 0, run.stderr
    return {path: Page(path) for path in folder.rglob("*.html")}


def public_names():
    yield from vk.__all__
    yield from (f"controls.{member}" for member in vk.controls.__all__)
    yield from (member if member in vk.__all__ else f"models.{member}" for member in vk.models.__all__)
    bases = {
        "likelihoods": vk.likelihoods.Likelihood,
        "priors": (vk.priors.Prior, vk.priors.ConditionalGaussian),
        "distributions": vk.distributions.FusedDistribution,
    }
    for name, base in bases.items():
        found = vars(getattr(vk, name)).items()
        classes = [key for key, value in found if isinstance(value, type) and issubclass(value, base) and key[0] != "_"]
        assert len(classes) > 5
        yield from (f"{name}.{key}" for key in classes)
    yield from (f"integrations.{name}.{member}" for name, members in INTEGRATIONS.items() for member in members)
    yield "integrations.pyro"


def test_every_public_name_is_on_a_page_of_the_api(site):
    ids = set().union(*(page.ids for path, page in site.items() if path.parent.name == "api"))
    missing = [name for name in public_names() if f"vae_kernels.{name}" not in ids]
    assert not missing, missing


def test_the_signatures_of_the_likelihoods_are_those_of_the_classes(site):
    """The site makes these classes from the sources, by the rules of vae_kernels/likelihoods.py."""
    (page,) = (page for path, page in site.items() if path.parent.name == "api" and path.stem == "likelihoods")
    text = re.sub(r"\s", "", page.text).replace(",)", ")")
    for name in ALL:
        (made,) = (
            value
            for value in vars(vk.likelihoods).values()
            if isinstance(value, type) and vars(value).get("name") == name
        )
        options = ",".join(f"{field.name}={field.default!r}" for field in dataclasses.fields(made))
        assert f"{made.__name__}({options})".replace(" ", "").replace("'", '"') in text


def test_every_link_leads_to_something(site):
    broken = []
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link in ("", "#") or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in site[target].ids):
                broken.append(f"{path.name}: {link}")
    assert not broken, broken


def test_a_page_loads_nothing_from_elsewhere(site):
    for path, page in site.items():
        assert not [address for address in page.loaded if re.match(r"(?:[a-z]+:)?//", address)], path.name
        assert "mermaid" not in page.classes, "the theme would load the program that draws diagrams"
    folder = min(site, key=lambda path: len(path.parts)).parent
    for style in folder.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(['\"]?(?:https?:)?//", text), style.name


def load(name):
    """A module of docs/site."""
    return places.module(DOCS / f"site/{name}.py")


def test_no_name_is_left_out_in_silence(monkeypatch):
    pages, file, names = load("pages"), "vae_kernels/__init__.py", '    "VAE",\n'
    given = (ROOT / file).read_text(encoding="utf-8")
    assert names in given
    monkeypatch.setattr(pages, "_text", lambda name: given.replace(names, f'{names}    "Newest",\n'))
    with pytest.raises(pages.PluginError, match="Newest is on no page"):
        pages._check_names()


def test_a_list_of_arguments_becomes_a_section():
    text = "First line.\n\nx:      [B], which\n        goes on.\na, b:   two\n\nc       three\n\nNote: none.\n"
    assert load("docstrings").with_arguments(text, {"x", "a", "b", "c"}) == (
        "First line.\n\n\nArgs:\n    x: [B], which\n        goes on.\n    a, b: two\n    c: three\n\nNote: none.\n"
    )
