"""docs/reliability.md has the numbers of the committed results, and every mutant that changes no result has a
reason."""

import csv
from collections import Counter

import pytest
from places import ROOT
from soak import record

RESULTS = ROOT / "bench/results/reliability"

if not RESULTS.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no bench/", allow_module_level=True)


def rows(name):
    with open(RESULTS / name, newline="") as file:
        return list(csv.DictReader(file))


def summary():
    """The lines of the table of mutants. A change that does not compile is not counted as a mutant."""
    counted = Counter((row["group"], row["outcome"]) for row in rows("mutants.csv"))
    groups = dict.fromkeys(row["group"] for row in rows("mutants.csv"))
    lines = []
    for group in (*groups, "all"):
        of = [sum(n for (g, o), n in counted.items() if o == outcome and group in (g, "all")) for outcome in OUTCOMES]
        lines.append(f"| {group} | {sum(of)} | {' | '.join(map(str, of))} |")
    return lines


OUTCOMES = ("killed", "equivalent", "survived")


def test_the_table_of_mutants_is_that_of_the_results():
    text = (ROOT / "docs/reliability.md").read_text()
    assert [line for line in summary() if line not in text] == []


def test_nineteen_of_twenty_mutants_are_killed():
    """The tests kill 19 of 20 mutants that change a result. Each mutant that changes no result has a reason."""
    outcomes = Counter(row["outcome"] for row in rows("mutants.csv"))
    assert outcomes["killed"] >= 0.95 * (outcomes["killed"] + outcomes["survived"])
    assert all(row["reason"] for row in rows("mutants.csv") if row["outcome"] == "equivalent")


def test_the_inputs_of_fuzzing_are_those_of_the_results():
    text = (ROOT / "docs/reliability.md").read_text()
    for row in rows("fuzz.csv"):
        assert f"| {row['what']} | {row['first_seed']} | {row['inputs']} | {row['wrong']} |" in text


def test_the_figures_of_reliability_are_those_of_the_long_runs():
    """The first table has exactly the lines that follow from the committed results of tests/soak."""
    table, seconds = record.rows()
    text = (ROOT / "docs/reliability.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ") and "`make soak-" in line]
    assert lines == [f"| {what} | {number:,} | `{command}` |" for what, number, command in table] != []
    assert f"{seconds / 3600:.1f} hours" in text
