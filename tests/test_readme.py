"""The README says what is so: its example runs, its numbers are those of the committed results, its names exist."""

import csv
import re
import sys
from pathlib import Path

import pytest

import vae_kernels as vk

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

if not README.exists():
    pytest.skip("the tests run without the source tree beside them: there is no README.md", allow_module_level=True)


@pytest.mark.parametrize("page", ["README.md", "docs/likelihoods.md", "docs/priors.md"])
def test_the_examples_run(page):
    names, text = {}, (ROOT / page).read_text()
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):  # a page is read from its top
        exec(compile(code, page, "exec"), names)
    assert names


def test_every_likelihood_has_its_section():
    sections = set(re.findall(r"^## (\w+)$", (ROOT / "docs/likelihoods.md").read_text(), re.MULTILINE))
    assert set(vk.LIKELIHOODS) <= sections


def test_the_numbers_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, "bench", raising=False)
    from bench import readme

    assert README.read_text() == readme.rendered(README.read_text()), "python -m bench.readme"


def rows(path):
    return list(csv.DictReader((ROOT / path).read_text().splitlines()))


def mixture_table():
    yield "| N x K x D | | ms | vae_kernels is faster by |"
    yield "|---|---|---|---|"
    for name in ("cpu", "cpu-large"):
        for r in rows(f"bench/results/mixture/{name}.csv"):
            size = " x ".join(r[key] for key in ("points", "components", "dims"))
            ratio = f"{float(r['fused_is_times_faster']):.1f}x" if r["name"] != "fused" else ""
            yield f"| {size} | {r['name']} | {float(r['median_us']) / 1000:.3g} | {ratio} |"


def prior_table():
    yield "| prior | -ELBO | reconstruction | KL | -log p(x) | its standard error | effective samples |"
    yield "|---|---|---|---|---|---|---|"
    names = "neg_elbo", "reconstruction", "kl", "neg_log_p"
    for r in rows("docs/priors.csv"):
        numbers = [f"{float(r[f'test_{name}_nats']):.2f}" for name in names]
        numbers += [r["standard_error_of_sampling"], r["median_effective_samples"]]
        yield f"| {r['prior']} | {' | '.join(numbers)} |"


@pytest.mark.parametrize("table", [mixture_table, prior_table])
def test_the_tables_of_priors_are_those_of_the_results(table):
    expected = "\n".join(table())
    assert expected in (ROOT / "docs/priors.md").read_text(), expected


def test_every_name_exists():
    text = README.read_text()
    named = set(re.findall(r"\bvk\.(\w+)", text)) | set(re.findall(r"^\| `(\w+)\(", text, re.MULTILINE))
    assert named
    assert not [name for name in named if not hasattr(vk, name)]
    for name in vk.available_backends():
        assert f'`"{name}"`' in text, f"the table of backends lacks {name}"
