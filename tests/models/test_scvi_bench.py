"""bench/scvi_models.py and bench/scvi_bf16.py on a few cells; the table of docs/scvi.md is that of the results."""

import csv

import pytest
from places import DOCS

bench = pytest.importorskip("bench.scvi_models", reason="the tests run without the source tree: there is no bench/")


def row(model, loss, seconds, turn=0, version="1.4.2"):
    return {"model": model, "features": 9, "loss": loss, "turn": turn, "seconds": seconds, "scvi_tools": version}


def test_the_table_has_medians_and_the_share_of_the_possible_gain():
    times = {"scvi-tools": [4.0, 9.0, 4.0], "patch": [2.0] * 3, "attach": [1.5] * 3, "nothing": [1.0, 1.0, 9.0]}
    rows = [row("SCVI", loss, s, turn) for loss, all_turns in times.items() for turn, s in enumerate(all_turns)]
    expected = "| SCVI, 9 | 1.4.2 | 4.00 s | 2.00 s, 2.00x | 1.50 s, **2.67x** | 1.00 s, 4.00x | 83% |"
    assert bench.summary(rows) == [expected]


def test_rows_of_another_version_stay(tmp_path):
    path = tmp_path / "models.csv"
    for version, seconds in (("1.4.2", 1.0), ("1.5.1", 2.0), ("1.4.2", 3.0)):
        bench.save([row("SCVI", loss, seconds, version=version) for loss in bench.LOSSES], path)
    with path.open() as file:
        found = [(r["scvi_tools"], r["seconds"]) for r in csv.DictReader(file)]
    assert sorted(set(found)) == [("1.4.2", "3.0"), ("1.5.1", "2.0")] and len(found) == 8
    assert len(bench.table(path).splitlines()) == 2 + 2


def test_the_docs_have_the_table_of_the_results():
    if not bench.RESULTS.exists():
        pytest.skip("bench/results/scvi/models.csv is not measured yet")
    assert bench.table() in (DOCS / "scvi.md").read_text()


@pytest.mark.full
@pytest.mark.parametrize("name", bench.MODELS)
def test_each_model_is_measured(name):
    pytest.importorskip("scvi", reason='scvi-tools: not installed: pip install "vae-kernels[scvi]"')
    rows = bench.measure([name], cells=130, genes=300, regions=40, turns=1, threads=1)
    assert [r["loss"] for r in rows] == list(bench.LOSSES) and all(r["seconds"] > 0 for r in rows)


@pytest.mark.full
def test_bf16_is_measured():
    pytest.importorskip("scvi", reason='scvi-tools: not installed: pip install "vae-kernels[scvi]"')
    from bench import scvi_bf16

    rows = scvi_bf16.measure(cells=60, genes=30, seeds=1, epochs=1, threads=1)
    assert len(rows) == 4 and len(list(scvi_bf16.summary(rows))) == 4
