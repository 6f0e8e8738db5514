"""The pictures of the pages are those of their sources, and each page shows its picture with a text for who cannot see
it."""

import csv
import html
import re
import statistics
import sys
from types import SimpleNamespace

import pytest
from places import DOCS, ROOT

if not DOCS.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no docs/", allow_module_level=True)

NAMES = ("audit", "controls", "likelihoods", "monitor", "priors", "scvi")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    for name in [name for name in sys.modules if name.partition(".")[0] == "bench"]:
        monkeypatch.delitem(sys.modules, name)
    from bench import pictures, plots

    return SimpleNamespace(pictures=pictures, plots=plots)


def words(name):
    """The texts of a picture."""
    found = re.findall(r"<text[^>]*>([^<]*)</text>", (DOCS / "pictures" / f"{name}.svg").read_text())
    return [html.unescape(text).replace("\xa0", " ").replace("\N{MINUS SIGN}", "-").strip() for text in found]


def test_there_are_no_others(bench):
    assert {path.stem for path in bench.pictures.FOLDER.iterdir()} == {*NAMES} == {*bench.pictures.PICTURES, "audit"}


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_that_of_its_source(bench, name):
    text = (DOCS / "pictures" / f"{name}.svg").read_text()
    source = bench.pictures.HERE if name == "audit" else bench.pictures.PICTURES[name][1]
    assert f"made by python -m bench.pictures from {source.name} {bench.plots.digest(source)}" in text, (
        "python -m bench.pictures"
    )
    assert not re.search(r"(url\(|href=)[\"']?http", text)  # the picture loads nothing
    (alt,) = re.findall(rf"!\[([^\]]+)\]\(pictures/{name}\.svg\)", (DOCS / f"{name}.md").read_text())
    assert len(alt) > 20


def rows(place):
    with open(ROOT / "bench/results" / place, newline="") as file:
        return list(csv.DictReader(file))


def test_the_numbers_of_the_pictures():
    said = words("priors")
    for row in rows("priors/digits.csv"):
        assert f"{float(row['test_neg_elbo_nats']):.1f}" in said and f"{float(row['test_neg_log_p_nats']):.1f}" in said
    seconds = {}
    for row in rows("scvi/epochs.csv"):
        seconds.setdefault(row["loss"], []).append(float(row["seconds"]))
    theirs, ours = (statistics.median(seconds[loss]) for loss in ("scvi", "vae_kernels"))
    assert {f"{theirs:.2f} s", f"{ours:.2f} s", f"an epoch of SCVI: {theirs / ours:.1f} times faster"} <= {
        *words("scvi")
    }
    last = {row["beta"]: row["active_units"] for row in rows("monitor/digits.csv")}
    assert {f"beta = {float(b):g}: {n} of 10 active at the end" for b, n in last.items()} <= {*words("monitor")}


def test_the_terminal_shows_what_the_audit_says(bench):
    """Wrapped, and with the command before it. The relative difference may differ from machine to machine."""
    import vae_kernels as vk

    of = bench.pictures
    expected = str(vk.audit(of.my_loss, of.audit.drawn("16x784/20"))).split()
    said = " ".join(words("audit")).split()
    assert said[:4] == ["$", "vae-kernels", "audit", "losses.py:my_loss"]
    digits = lambda text: "..." if re.search(r"\de-\d", text) else text  # noqa: E731
    assert [*map(digits, said[4:])] == [*map(digits, expected)]
