"""The doctor's HTML: well-formed, one file that needs no other, with all that was found in it."""

import re
import sys
from html.parser import HTMLParser

import pytest
import torch

import vae_kernels as vk
from vae_kernels.doctor import words

pytest.importorskip("matplotlib", reason="matplotlib, which draws the report, is not installed")

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Every element as (tag, attributes); `faults` has what is not closed as it should be. Text is in `text`."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.open, self.faults, self.text = [], [], [], ""
        self.feed(source)
        self.close()
        self.faults += [f"{tag} is not closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{tag} is closed out of place")

    def handle_data(self, data):
        self.text += data if self.open and self.open[-1] != "style" else ""

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def model(shape, **settings):
    torch.manual_seed(0)
    return vk.mlp_vae(shape, 3, (16,), **settings)


@pytest.fixture(scope="module")
def source(found):
    return found.html('A "title" & <tags>')


@pytest.fixture(scope="module")
def found():
    torch.manual_seed(0)
    x = torch.rand(60, 1, 8, 8)
    labels = torch.arange(60) % 3
    return vk.diagnose(model((1, 8, 8), beta=30.0), x, labels=labels, classes=["a", "<b>", "c"], log_p=(8, 8))


def test_the_page_is_well_formed_and_alone(source):
    page = Page(source)
    assert page.faults == [] and 'A "title" & <tags>: found' in page.text
    assert not page.all("script") and not page.all("iframe")
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    references = [value for _, attrs in page.elements for value in attrs.values() if value]
    pointed = {m for value in references for m in re.findall(r"url\(#([^)]+)\)", value)}
    for _, attrs in page.elements:
        for name in ("href", "xlink:href", "src"):
            assert attrs.get(name, "#").startswith(("#", "data:")), attrs[name]
            pointed |= {attrs[name][1:]} if attrs.get(name, "").startswith("#") else set()
    assert pointed and pointed <= set(ids)
    assert not re.search(r"@import|url\((?!['\"]?#)", source) and "prefers-color-scheme" in source


def test_the_page_has_what_was_found(found, source):
    page = Page(source)
    for verdict in found.verdicts:
        name, sentence = words.name(verdict.symptom), words.sentence(verdict)
        for text in (verdict.symptom, name, sentence, verdict.evidence, verdict.cause, verdict.advice):
            assert text.replace("+-", "±") in page.text
    assert f"{found.measures.log_p.value:.2f}" in page.text
    drawings = [svg for svg in page.all("svg") if svg.get("class") != "gauge"]
    assert len(drawings) == 3 and all(len(svg["aria-label"]) > 20 for svg in drawings)
    assert len(page.all("figure")) == 3 + 5 and all(image["alt"] for image in page.all("img"))
    assert page.all("html") == [{"lang": "en"}] and "viewport" in [meta.get("name") for meta in page.all("meta")]
    assert [text for text in ("a", "<b>", "c") if text in page.text.split()] == ["a", "<b>", "c"]  # the legend


def test_ink_is_the_pages_own(source):
    """Text and axes are read on dark too: nothing is black, and nothing paints a background."""
    assert "#000000" not in source and source.count("currentColor") > 20
    for svg in re.findall(r"<svg.*?</svg>", source, re.S):
        assert "fill: #ffffff" not in svg


def test_the_same_page_each_time(found, source):
    assert found.html('A "title" & <tags>') == source


@pytest.mark.parametrize("shape", [(12,), (2, 8, 8)])
def test_no_images(shape):
    torch.manual_seed(0)
    page = Page(vk.diagnose(model(shape), torch.rand(40, *shape), log_p=None).html())
    assert page.faults == [] and "no images of one or three channels" in page.text and not page.all("img")
    assert len([svg for svg in page.all("svg") if svg.get("class") != "gauge"]) == 3


def test_other_models_have_a_page():
    x = torch.rand(40, 3, 6, 5)
    prior = vk.priors.MixtureOfGaussians(2, 3)
    page = Page(vk.diagnose(model((3, 6, 5), prior=prior), x, labels=torch.arange(40), log_p=None).html())
    assert page.faults == [] and "no KL by dimension" in page.text


def test_traversals_move_one_latent_each():
    from vae_kernels.doctor.views import STEPS, traversals

    means = torch.randn(50, 4)
    z = traversals(means, [2, 0]).view(2, STEPS, 4)
    for row, dim in enumerate((2, 0)):
        others = [d for d in range(4) if d != dim]
        assert torch.equal(z[row][:, others], means[0, others].expand(STEPS, 3))
        assert (z[row].diff(dim=0)[:, dim] > 0).all()
        assert z[row].mean(0)[dim].item() == pytest.approx(means[:, dim].mean().item(), abs=1e-6)


def test_what_is_missing_is_said(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match="needs matplotlib and jinja2"):
        found.html()
