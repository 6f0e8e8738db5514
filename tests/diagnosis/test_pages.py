"""What a notebook shows of an audit, and two runs beside each other."""

import re
import shutil

import pytest
import torch
from test_report import Page
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from training import doctor, small, train

import vae_kernels as vk
from vae_kernels.core import page


def loss_in_means(recon, x, mu, logvar):
    """The usual mistake: a mean over the pixels beside a sum over the latents."""
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()
    return bce(recon, x) + kl


def test_a_notebook_shows_an_audit():
    torch.manual_seed(0)
    example = torch.randn(6, 30), torch.rand(6, 30), torch.randn(6, 4), torch.randn(6, 4)
    audit = vk.audit(loss_in_means, example)
    source = audit._repr_html_()
    found = Page(source)
    assert found.faults == [] and "effective beta = 30" in found.text
    for level, sentence in audit.findings:
        assert sentence.replace("+-", "±") in found.text and f'<p class="{level}">' in source
    assert audit.equal in found.text and (audit.meant is None or audit.meant in found.text)
    assert source.count("<pre>") == 1 + (audit.meant not in (None, audit.equal))
    worst = "wrong" if "wrong" in {level for level, _ in audit.findings} else "note"
    assert f'<section class="banner {worst}">' in source


def test_an_audit_without_a_beta():
    example = torch.randn(6, 30), torch.rand(6, 30), torch.randn(6, 4), torch.randn(6, 4)
    audit = vk.audit(lambda recon, x, mu, logvar: bce(recon, x) + (mu**3).sum(), example)
    source = audit._repr_html_()
    assert "no fixed effective beta" in source and Page(source).faults == [] and "None" not in source


def test_every_rule_of_a_notebooks_style_is_below_its_class():
    """A notebook has its own headings and tables."""
    style = re.sub(r"@media [^{]*\{|/\*.*?\*/", "", page.STYLE)
    selectors = [part.strip() for rule in re.findall(r"([^{}]+)\{", style) for part in rule.split(",")]
    assert len(selectors) > 20 and all(selector.startswith(".vk") for selector in selectors), selectors


@pytest.fixture(scope="module")
def two(blobs, tmp_path_factory):
    """Two runs: one with beta = 1000, one with beta = 1."""
    out = tmp_path_factory.mktemp("two")
    from vae_kernels.cli import terminal

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal, "draw", lambda *_: None)
        train(*small(blobs, out, "--name", "sick", "--beta", 1000, "--epochs", 2))
        train(*small(blobs, out, "--name", "well", "--epochs", 2))
    return out / "sick", out / "well"


def test_two_runs_beside_each_other(two):
    result = doctor(*two, "--samples", 20)
    assert result.exit_code == 1 and "beside.html" in result.output, result.output
    source = (two[0] / "beside.html").read_text()
    found = Page(source)
    assert found.faults == [] and found.text.count("beta is 1000: the KL outweighs the likelihood") == 1
    assert source.count('<section class="banner') == 2
    heads = re.findall(r"<h2>(.*?)</h2>", source)
    assert [head for head in heads if "<" not in head] == ["Symptoms", "Options that differ", "Numbers", "Pictures"]
    assert '<tr><th scope="row">--beta</th><td>1000.0</td><td>1.0</td></tr>' in source
    assert '<th scope="row">--latent-dim</th>' not in source  # the same in both
    names = re.findall(r"<h3>([^<]*)</h3>", source)
    assert {"Reconstructions", "KL of each latent", "Rate and distortion", "Loss of each epoch"} <= set(names)
    assert source.count("<figure>") == 2 * (len(names) - 2)
    # one axis for both: the bars of the two spectra end at the same number
    tops = re.findall(r"<title>latent \d: ([\d.e-]+) nats", source)
    assert len(tops) == 4 and min(map(float, tops)) < 0.1


def test_names_and_refusals(two, tmp_path):
    twin = tmp_path / "sick"
    shutil.copytree(two[0], twin)
    doctor(two[0], twin, "--samples", 20, "--html", tmp_path / "both.html")
    assert f"{two[0]} beside {twin}" in (tmp_path / "both.html").read_text()
    result = doctor(*two, twin)
    assert result.exit_code == 2 and "error: RUN: got 3 folders, expected one, or two" in result.stderr
