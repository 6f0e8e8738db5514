"""The README tells the truth: its example runs, it has the numbers of the committed results, and its names exist."""

import re
import sys
from types import SimpleNamespace

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from places import ROOT

import vae_kernels as vk
from vae_kernels.formulas import ALL
from vae_kernels.timing import results, steps, suites

README, OVERVIEW = ROOT / "README.md", ROOT / "docs/overview.md"

if not README.exists():
    pytest.skip("the tests run without the source tree beside them: there is no README.md", allow_module_level=True)


@pytest.mark.parametrize("page", ["README.md", "docs/likelihoods.md", "docs/priors.md"])
def test_the_examples_run(page):
    names, text = {}, (ROOT / page).read_text()
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):  # a later example may use names of an earlier one
        exec(compile(code, page, "exec"), names)
    assert names


def likelihood_pages():
    """{place where a likelihood and its parameters must be named: {likelihood: the text about the likelihood}}"""
    page, docstring = (ROOT / "docs/likelihoods.md").read_text(), vk.fused_elbo.__doc__
    sections = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r'^\| `"(\w+)"` \|(.*)$', OVERVIEW.read_text(), re.MULTILINE)
    return {
        "a section of docs/likelihoods.md": dict(sections),
        "the table of docs/overview.md": dict(rows),
        "the docstring of fused_elbo": dict.fromkeys(re.findall(r'"(\w+)"', docstring), docstring),
    }


@pytest.mark.parametrize("name", vk.LIKELIHOODS)
def test_every_likelihood_is_documented(name):
    assert f'[`"{name}"`](#{name})' in (ROOT / "docs/likelihoods.md").read_text(), "the first table"
    for place, texts in likelihood_pages().items():
        assert name in texts, f"{name} is missing in {place}"
        words = re.findall(r"\w+", texts[name])
        for parameter in ALL[name].PARAMETERS:
            assert parameter in words, f"the parameter {parameter} of {name} is missing in {place}"


@pytest.fixture
def bench(monkeypatch):
    """The modules of bench/ in this tree, which make the pages from the results."""
    monkeypatch.syspath_prepend(str(ROOT))
    for name in [name for name in sys.modules if name.partition(".")[0] == "bench"]:
        monkeypatch.delitem(sys.modules, name)
    from bench import first, losses, plots, readme, rows, tables

    return SimpleNamespace(first=first, losses=losses, plots=plots, readme=readme, rows=rows, tables=tables)


def test_the_numbers_are_those_of_the_results(bench):
    for path in bench.readme.PARTLY:
        assert path.read_text() == bench.readme.rendered(path.read_text()), "python -m bench.readme"
    assert bench.readme.PAGE.read_text() == bench.readme.page(), "python -m bench.readme"


def test_the_figures_are_those_of_the_results(bench):
    pages = "".join(path.read_text() for path in (*bench.readme.PARTLY, bench.readme.PAGE))
    shown = set(re.findall(r"bench/([\w-]+\.svg)", pages))
    assert shown == {path.name for path in bench.readme.FIGURES.glob("*.svg")} != set()
    sums = [bench.plots.digest(path) for path in bench.rows.devices()]
    for name in shown:
        assert any(found in (bench.readme.FIGURES / name).read_text() for found in sums), "python -m bench.readme"


def test_the_first_screen(bench):
    """The loss before and after, for whom, a training that gains, one that does not, that no GPU has run the code, and
    three pictures."""
    text = README.read_text()
    begin = text[: text.index("## Try it")]
    assert begin.count("```python") == 2 and "**For whom:**" in begin and "**No GPU has run this code yet.**" in begin
    assert "times faster** (" in bench.first.epoch() in begin
    assert bench.first.trainings() in begin and begin.index("nothing is gained") < begin.index("times faster** (")
    pictures = re.findall(r'<img src="([^"]+)" alt="([^"]+)"', text)
    pictures += [(place, alt) for alt, place in re.findall(r"!\[([^]]+)\]\((.+)\)", text)]
    assert len(pictures) == 3 and all((ROOT / place).exists() and len(alt) > 20 for place, alt in pictures)
    assert len(text.splitlines()) < 130


def test_both_ways_of_the_readme_are_one_loss():
    """The lines by hand, and the line in their place, with the same noise."""
    names = {}
    ours, by_hand = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(ours, "README.md", "exec"), names)
    z, loss = names["z"], names["loss"]
    noise = "torch.randn_like(mu)"
    assert by_hand.count(noise) == 1
    names["eps"] = ((z - names["mu"]) / torch.exp(0.5 * names["logvar"])).detach()
    names["mu"], names["logvar"] = (names[name].detach() for name in ("mu", "logvar"))
    exec(compile(by_hand.replace(noise, "eps"), "README.md", "exec"), names)
    torch.testing.assert_close(names["loss"], loss, rtol=1e-5, atol=0)


def test_a_step_that_gains_nothing_is_said_first(bench, monkeypatch):
    """Of two clients, one gains nothing, the other gains half of its time beside eager PyTorch, and nothing beside
    torch.compile. The one that gains less comes first."""
    same = comparison(bench, (100,), 100, 140, other=100, compiled=100)
    faster = comparison(bench, (200,), 100, 100, other=100, compiled=100)
    for name, c in (("small loss", same), ("large loss", faster)):
        for row in c.rows:
            row["model"] = name
    monkeypatch.setattr(bench.first, "devices", lambda: {"path": []})
    monkeypatch.setattr(bench.first, "comparisons", lambda rows, suite: [faster, same])
    lines = [line.strip("| ").split(" | ") for line in bench.first.steps().splitlines()[4:]]
    assert [(line[0], *line[2:]) for line in lines] == [
        ("small loss", "nothing", "nothing", "-", "-"),
        ("large loss", "50%", "nothing", "-", "-"),
    ]
    monkeypatch.setattr(bench.first, "comparisons", lambda rows, suite: [])
    assert bench.first.trainings() == bench.first.epoch()


def a_step(bench, dtype="float32", compiled=80):
    """A comparison of a training step: 100 us by hand and 70 us with our loss; the losses alone take 40 and 15 us."""
    found = comparison(bench, (100,), 70, 70, other=60, compiled=compiled)
    for row in found.rows:
        row |= {"model": "toy", "dtype": dtype, "part": "step"}
    kinds = [("eager", 40), ("vae_kernels", 15)] + ([("torch.compile", 32)] if compiled else [])
    alone = [found.first | {"part": "loss of the step", "kind": kind, "median_us": us} for kind, us in kinds]
    return bench.rows.Comparison(found.rows + alone)


def test_a_step_has_its_bound_beside_its_saving(bench):
    """No loss saves more than the share of the loss. By Amdahl's law ours saves (40 - 15) / 100 of the eager step, and
    (32 - 15) / 80 of the compiled step; measured are 30 and 20 of these."""
    found = [a_step(bench), a_step(bench, "bfloat16", compiled=None)]
    lines = [line.strip("| ").split(" | ") for line in bench.tables.amdahl(found).splitlines()[2:]]
    assert lines == [
        ["toy, batch 128", "eager", "100 us", "40.0 us", "15.0 us", "40%", "25%", "30%", "0%"],
        ["torch.compile", "80.0 us", "32.0 us", "15.0 us", "40%", "21%", "25%", "0%"],
        ["toy, batch 128, bfloat16", "eager", "100 us", "40.0 us", "15.0 us", "40%", "25%", "30%", "0%"],
    ]
    lines = [line.strip("| ").split(" | ") for line in bench.tables.steps(found).splitlines()[2:]]
    first = ["100 us", "40%", "70.0 us", "**30%**"]
    assert lines[0] == ["toy, batch 128", *first, "80.0 us", "40%", "60.0 us", "**25%**"]
    assert lines[1] == ["toy, batch 128, bfloat16", *first, "-", "-", "60.0 us", "-"]


def test_the_share_of_a_loss_that_was_not_timed_is_not_said(bench):
    found = a_step(bench)
    older = [row for row in found.rows if (row["part"], row["kind"]) != ("loss of the step", "torch.compile")]
    (line,) = bench.tables.steps([bench.rows.Comparison(older)]).splitlines()[2:]
    assert line.endswith("| 80.0 us | - | 60.0 us | **25%** |")
    assert "torch.compile" not in bench.tables.amdahl([bench.rows.Comparison(older)])


def test_every_model_of_a_training_step_is_described(bench):
    for client, _ in steps.CASES:
        assert f"- {client.name}, batch {client.case.batch}: {client.what}." in bench.readme.introduction()


def test_the_build_is_said_if_it_was_measured(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(bench.first, "BUILD", tmp_path)
    assert bench.first.build() == ""
    head = "seconds,processor_seconds,library_bytes,cores,load,device\n"
    rows = "".join(f"{seconds},{2 * seconds},4321000,2,0.1,A CPU\n" for seconds in (50, 40.4, 39))
    (tmp_path / "cpu.csv").write_text(head + rows)
    said = "The build for the CPU alone takes 40 s on 2 cores (81 s of processor time; A CPU), and makes"
    assert bench.first.build().startswith(f"{said} a library of 4.3 MB (")
    (tmp_path / "cuda.csv").write_text(head + "70,90,16000000,2,1.5,A CPU\n")
    _, cuda = bench.first.build().splitlines()
    said = (
        "The build with CUDA takes 90 s of processor time on 2 cores (other programs ran beside the build; A CPU), and"
    )
    assert cuda.startswith(said) and "(`python -m bench.build --cuda`, `bench/results/build/cuda.csv`)" in cuda


def words(path):
    """The texts of an SVG."""
    return [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())]


def test_the_bars_say_what_they_are(bench):
    """The device and the threads in the title, a name and the ratios for each row, and ticks from 1x."""
    for path, rows in bench.rows.devices().items():
        found = [c for c in bench.rows.comparisons(rows, *bench.readme.SHAPES) if c.limit_us()]
        if not found:
            continue
        said = words(bench.readme.FIGURES / f"{path.stem}.svg")
        assert found[0].first["device"] in said and f"2 threads, PyTorch {found[0].first['torch']}" in said
        assert [text for text in said if re.fullmatch(r"\d+x", text)][:4] == ["1x", "2x", "5x", "10x"]
        kept = bench.readme.kept_memory(rows)
        for c in found:
            assert c.name in said, f"{c.what} has no name in bench/rows.py"
            ours = bench.tables.times(c, c.ours, c.eager[0])
            if c.key in kept:
                other = kept[c.key]
                ours += f" ({bench.tables.times(other, other.ours, other.eager[0])}*)"
            assert ours in said
        assert len(kept) == 1 and any(text.startswith("* with an allocator that keeps its memory") for text in said)


def test_nothing_strikes_through_a_ratio(bench, tmp_path, monkeypatch):
    """The ratios are beside the axes, and no two of their texts overlap."""
    drawn = []
    monkeypatch.setattr(bench.plots, "save", lambda figure, *_: drawn.append(figure))
    for rows in bench.rows.devices().values():
        if found := bench.rows.comparisons(rows, *bench.readme.SHAPES):
            bench.plots.bars(found, bench.readme.kept_memory(rows), tmp_path, tmp_path)
    for figure in drawn:
        (axes,) = figure.axes
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        assert len(boxes) > 20 and all(box.x0 > axes.bbox.x1 and box.x1 < figure.bbox.x1 for box in boxes)
        names = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
        assert all(box.x0 > 0 and box.x1 < axes.bbox.x0 for box in names)
        for row in (boxes, names):
            assert not any(a.overlaps(b) for i, a in enumerate(row) for b in row[:i])


def test_a_ratio_of_another_allocator_stands_beside_it(bench):
    default, kept = comparison(bench, (200,), 100, 100), comparison(bench, (120,), 100, 100)
    cell = "**2.0x** (1.2x\\*)"
    assert cell in bench.tables.speeds([default], {default.key: kept}) and cell not in bench.tables.speeds([default])
    assert "MNIST MLP: 128 x 784 / 20, bernoulli" in bench.tables.speeds([default])


def test_what_is_not_measured_is_said(bench):
    """A suite may have a case that is newer than a file of results. The page must say that this case was not measured,
    because "we lose 0" does not count it."""
    columns = dict.fromkeys(results.COLUMNS, "")
    whole = [
        columns | {name: results.shown(getattr(case, name)) for name in results.CASE} | {"suite": suite}
        for suite, cases in suites.CASES.items()
        for case in cases()
    ]
    whole = [bench.rows._numbers(row) for row in whole]
    whole += [columns | {"suite": "steps", "model": client.name, "dtype": dtype} for client, dtype in steps.CASES]
    assert bench.rows.missing(whole) == []
    partly = [row for row in whole if row["suite"] not in ("narrow", "steps")]
    lacking = bench.rows.missing(partly)
    assert len(lacking) == len(suites.NARROW) + len(steps.CASES)
    assert {"8192 x 5 / 2, bernoulli", "65536 x 1, bernoulli, nll alone", "MLP 784-400-20, batch 128"} <= {*lacking}
    assert "MLP 784-400-20, batch 128, bfloat16" in lacking
    assert bench.rows.missing([columns | {"suite": "gpu"}]) == []
    said = bench.losses.losses([comparison(bench, (100,), 50, 50)], ["4 x 5 / 6", "7 x 8 / 9"])
    start = "Not measured yet on this machine, and so not counted: "
    assert said.startswith(f"{start}4 x 5 / 6; 7 x 8 / 9.\n\nIn 1 comparisons")
    said = bench.losses.losses([comparison(bench, (100,), 50, 50)], ["4 x 5 / 6", "7 x 8 / 9"], "[a page](a.md)")
    assert said.startswith(f"{start}2 cases ([a page](a.md)).\n\nIn 1 comparisons")


def test_every_suite_is_shown(bench):
    assert {*bench.readme.CASES, "steps"} == {*suites.SUITES, "gpu"}
    elsewhere = {*bench.readme.SHAPES, "steps", "batch", "dims"}
    assert {*bench.readme.SECTIONS, *elsewhere} == {*suites.SUITES, "gpu"}


def comparison(bench, eager, ours, again, other=None, compiled=None):
    """A comparison with these medians in us. `other` is the median of a second way of ours to write the case."""
    shared = {"part": "objective", "model": "", "dims": 784, "batch": 128, "latents": 20, "likelihood": "bernoulli"}
    shared |= {
        "outputs": "1",
        "least_bytes": None,
        "dtype": "float32",
        "x": "float32",
        "direction": "both",
        "incoming": 1,
        "threads": 2,
    }
    rows = [("eager", f"rival {us}", us) for us in eager]
    rows += [("vae_kernels", "ours", ours), ("vae_kernels", "again", again)]
    rows += [("vae_kernels", "other", other)] if other else []
    rows += [("torch.compile", "rival", compiled)] if compiled else []
    rows = [shared | {"kind": k, "name": name, "median_us": us, "p20_us": us, "p80_us": us} for k, name, us in rows]
    return bench.rows.Comparison(rows)


def test_where_we_lose_is_told(bench):
    """We are compared with the fastest rival. A difference no larger than between two equal runs is a tie."""
    won, lost, tie = ((200, 100), 50, 50), ((100, 300), 150, 150), ((100,), 101, 103)
    said = bench.losses.losses([comparison(bench, *times) for times in (won, lost, tie)])
    assert said.startswith("In 3 comparisons") and "we lose 1, and 1 are ties" in said
    lines = [line.split(" | ")[4] for line in said.splitlines() if "rival 1" in line]
    assert lines == ["**0.67x**", "0.99x, a tie", "2.00x"]


def test_the_worst_loss_is_told_first(bench):
    """The table has every way to write a case, against both kinds of rivals, and the worst loss is first. A tie comes
    after the losses, however far from 1 its ratio is. The closest of the ways that no rival beats are shown too."""
    far_but_noise = comparison(bench, (100,), 400, 1700)
    bad, worse = comparison(bench, (100,), 150, 150), comparison(bench, (300,), 200, 200, other=400, compiled=100)
    won = [comparison(bench, (100 * i,), 10, 10) for i in range(2, 9)]
    said = bench.losses.losses([*won, far_but_noise, bad, worse])
    assert "In 13 comparisons" in said and "we lose 4, and 1 are ties" in said
    lines = [line.strip("| ").split(" | ") for line in said.splitlines()[4:]]
    assert [(line[1], line[4], line[6]) for line in lines] == [
        ("other", "**0.75x**", "**0.25x**"),
        ("ours", "1.50x", "**0.50x**"),
        ("ours", "**0.67x**", "-"),
        ("ours", "0.25x, a tie", "-"),
        *(("ours", f"{10 * i}.00x", "-") for i in (2, 3, 4)),
    ]


def test_a_loss_is_no_zero(bench):
    assert [bench.tables.factor(ratio) for ratio in (0.04, 0.97, 1.23, 25.16)] == ["0.04x", "0.97x", "1.2x", "25.2x"]


def test_the_slower_way_to_write_a_step(bench):
    """The table compares our slower way in each case with the best eager and the best compiled form, and has the
    geometric means of these ratios."""
    found = [
        comparison(bench, (400,), 100, 100, other=200, compiled=600),
        comparison(bench, (1600,), 200, 200, other=100, compiled=600),
    ]
    for c in found:
        for row, name in zip(c.others, (bench.tables.FUSED, bench.tables.ADDED), strict=True):
            row["name"] = name
    lines = [line.strip("| ").split(" | ")[-2:] for line in bench.tables.ways(found).splitlines()[2:]]
    assert lines == [["2.00x", "3.00x"], ["8.00x", "3.00x"], ["**4.00x**", "**3.00x**"]]


def test_noise_is_no_ratio(bench):
    (told, noise) = (bench.tables.speeds([comparison(bench, (200,), 100, again)]) for again in (101, 300))
    assert "**2.0x**" in told and "**noise**" in noise and "2.0x" not in noise
    wide = comparison(bench, (200,), 100, 100)
    wide.ours["p80_us"], wide.eager[0]["p20_us"] = 150, 140
    assert "**noise**" in bench.tables.speeds([wide])


@pytest.mark.parametrize(
    ("us", "text"), [(0.94, "0.94 us"), (9.999, "10.0 us"), (12.34, "12.3 us"), (999.6, "1.00 ms"), (2.5e6, "2.50 s")]
)
def test_durations(bench, us, text):
    assert bench.tables.duration(us) == text


def test_every_name_exists():
    text = README.read_text() + OVERVIEW.read_text()
    named = set(re.findall(r"\bvk\.(\w+)", text)) | set(re.findall(r"^\| `(\w+)\(", text, re.MULTILINE))
    assert named
    assert not [name for name in named if not hasattr(vk, name)]
    for name in vk.available_backends():
        assert f'`"{name}"`' in text, f"the table of backends lacks {name}"
