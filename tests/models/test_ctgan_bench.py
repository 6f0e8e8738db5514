"""bench/tvae.py on a few rows; the tables of docs/tvae.md are those of the results."""

import pytest
from places import DOCS

bench = pytest.importorskip("bench.tvae", reason="the tests run without the source tree: there is no bench/")


def test_the_table_has_medians_and_the_share_of_the_possible_gain():
    seconds = {"ctgan": [0.4, 0.9, 0.4], "attach": [0.2] * 3, "nothing": [0.1, 0.1, 0.9]}
    rows = [{"columns": 15, "loss": loss, "seconds": s, "steps": 10} for loss, each in seconds.items() for s in each]
    assert list(bench.summary(rows)) == ["| 15 | 40.0 ms | 20.0 ms, **2.00x** | 10.0 ms, 4.00x | 67% |"]


def test_the_table_of_scores_has_means_and_deviations():
    rows = [{"loss": loss, "last_loss": s, "columns": 0.5, "pairs": 1} for loss in bench.LOSSES[:2] for s in (1, 3)]
    cells = "2.000 ± 1.414 | 0.500 ± 0.000 | 1.000 ± 0.000"
    assert list(bench.scores(rows)) == [f"| ctgan | {cells} |", f"| attach | {cells} |"]


@pytest.mark.parametrize("name", bench.TABLES_OF_DOCS)
def test_the_docs_have_the_tables_of_the_results(name):
    if not (bench.RESULTS / f"{name}.csv").exists():
        pytest.skip(f"bench/results/tvae/{name}.csv is not measured yet")
    assert bench.table_of(name) in (DOCS / "tvae.md").read_text()


@pytest.mark.full
def test_each_loss_is_timed(monkeypatch):
    pytest.importorskip("ctgan")
    monkeypatch.setattr(bench, "TABLES", {5: (2, (3, 2, 1))})
    rows = bench.times(60, 1, 1, {})
    assert [r["loss"] for r in rows] == list(bench.LOSSES) and all(r["seconds"] > 0 and r["steps"] == 1 for r in rows)


@pytest.mark.full
def test_the_rows_are_scored(monkeypatch):
    pytest.importorskip("ctgan")
    pytest.importorskip("sdmetrics")
    pytest.importorskip("statsmodels")
    table, *rest = bench.real()
    monkeypatch.setattr(bench, "real", lambda: (table[:200], *rest))
    rows = bench.quality(1, 1, {})
    assert [r["loss"] for r in rows] == ["ctgan", "attach"]
    assert all(0 < r[name] <= 1 for r in rows for name in ("columns", "pairs"))
