"""The examples in docs/ run, and the tables have the numbers of the committed results. The examples of a page are one
script."""

import csv
import re
import statistics

import pytest
from places import DOCS

from vae_kernels.auditing import steps

PAGES = "controls", "audit", "monitor", "doctor", "missing", "conditional", "distributions", "pixels", "tables"

if not DOCS.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no docs/", allow_module_level=True)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the examples write files here
    monkeypatch.setattr(steps, "SECONDS", 0.05)  # of the times of a training step
    path = DOCS / f"{page}.md"
    code = "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
    assert "vk." in code
    exec(compile(code, str(path), "exec"), {})


def monitor_table():
    with open(DOCS.parent / "bench/results/monitor/cpu.csv") as file:
        rows = list(csv.DictReader(file))
    yield "| batch x dims / latents | processes | loss | return_terms | and Monitor |"
    yield "|---|---|---|---|---|"
    for i in range(0, len(rows), 3):
        loss, *others = rows[i : i + 3]
        cells = [f"{float(r['more_us']):+.1f} us, {float(r['more_percent']):+.1f} %" for r in others]
        process = {"one": "one for all three", "own": "one for each"}[loss["process"]]
        yield f"| {loss['shape']} | {process} | {float(loss['us']):.1f} us | {' | '.join(cells)} |"


def test_no_result_names_a_folder_of_a_machine():
    results = [path for path in (DOCS.parent / "bench/results").rglob("*") if path.is_file()]
    assert len(results) > 20
    private = re.compile(r"(?<![\w.])/(?:tmp|home|root|work|Users|mnt)/")
    assert [path.name for path in results if private.search(path.read_text(encoding="utf-8"))] == []


def test_the_monitors_costs_are_those_of_the_results():
    expected = "\n".join(monitor_table())
    assert expected in (DOCS / "monitor.md").read_text(), expected


def test_the_losses_of_bfloat16_are_those_of_the_results():
    with open(DOCS.parent / "bench/results/command/bf16.csv") as file:
        rows = list(csv.DictReader(file))
    losses = {p: [float(r["test_neg_elbo_nats"]) for r in rows if r["precision"] == p] for p in ("float32", "bf16")}
    means = {precision: sum(found) / len(found) for precision, found in losses.items()}
    spread = max(losses["float32"]) - min(losses["float32"])
    text = " ".join((DOCS / "command.md").read_text().split())
    assert f"{means['float32']:.1f} nats with float32 and {means['bf16']:.1f} nats with bf16" in text
    assert f"which differ by {spread:.1f} nats" in text


def test_the_doctors_cases_are_those_of_the_results():
    """Each line of the doctor's table follows from the committed results of examples/doctor_cases.py."""
    with open(DOCS.parent / "bench/results/doctor/cases.csv") as file:
        rows = list(csv.DictReader(file))
    text = (DOCS / "doctor.md").read_text()
    stages = dict.fromkeys((row["model"], row["stage"]) for row in rows)
    assert len(stages) == 8 + 4
    for model, stage in stages:
        mine = [row for row in rows if (row["model"], row["stage"]) == (model, stage)]
        ill = [name for name in rows[0] if all(row[name] == "ill" for row in mine)]
        watch = [name for name in rows[0] if all(row[name] == "watch" for row in mine)]
        right = sum(row["right"] == "True" for row in mine)
        judged = f"{', '.join(ill) or '-'} | {', '.join(watch) or '-'} | {right} of {len(mine)} |"
        assert f"| {model}, {stage} | {judged}" in text
    for name in re.findall(r"\]\((doctor/[^)]+)\)", text):
        assert (DOCS / name).exists()


def first_look_table():
    """The table of the results of examples/first_look_cases.py, line by line."""
    with open(DOCS.parent / "bench/results/doctor/first_look.csv") as file:
        rows = list(csv.DictReader(file))
    sets = list(dict.fromkeys(row["set"] for row in rows))
    yield f"| model | must be | {' | '.join(sets)} |"
    yield f"|---|---|{'---|' * len(sets)}"
    for model, symptom, made in dict.fromkeys((row["model"], row["symptom"], row["made"]) for row in rows):
        cells = []
        for data in sets:
            mine = [row for row in rows if (row["set"], row["model"]) == (data, model)]
            cells.append(f"{sum(row['right'] == 'True' for row in mine)} of {len(mine)}")
        yield f"| {model} | {symptom + ': ill' if made == 'True' else 'nothing ill'} | {' | '.join(cells)} |"


def test_the_first_look_is_that_of_the_results():
    expected = "\n".join(first_look_table())
    assert expected in (DOCS / "doctor.md").read_text(), expected


def test_the_times_of_an_epoch_are_those_of_the_results():
    with open(DOCS.parent / "bench/results/scvi/epochs.csv") as file:
        rows = list(csv.DictReader(file))
    theirs, ours = (
        statistics.median(float(r["seconds"]) for r in rows if r["loss"] == loss) for loss in ("scvi", "vae_kernels")
    )
    text = (DOCS / "scvi.md").read_text().replace("\n", " ")
    assert f"{theirs:.3f} s with scvi-tools' loss, {ours:.3f} s with ours, {theirs / ours:.1f} times faster" in text


def test_the_errors_of_counts_are_those_of_the_results():
    with open(DOCS.parent / "bench/results/distributions/counts.csv") as file:
        error = {row["of"]: float(row["error_nats"]) for row in csv.DictReader(file)}
    text = (DOCS / "distributions.md").read_text().replace("\n  ", " ")
    theirs = f"{error['torch.distributions']:g} nats for `torch.distributions.NegativeBinomial`"
    assert f"{theirs}, {error['scvi-tools']:g} nats for scvi-tools and {error['vae_kernels']:g} nats here" in text
