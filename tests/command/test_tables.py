"""`vae-kernels train --likelihood mixed`: which kinds the columns of a table get, and the way from a table to a run and
back to a table."""

import json
import shutil

import numpy as np
import pytest
import torch
from training import refusal, same_run, train
from typer.testing import CliRunner

import vae_kernels as vk
from vae_kernels import cli
from vae_kernels.cli import UserError
from vae_kernels.cli.data import load
from vae_kernels.cli.reading import How, columns

pandas = pytest.importorskip("pandas")
ROWS = 80


def table():
    """A column of each kind that is recognised, a count, and columns that are hard to read."""
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "height": rng.normal(170, 10, ROWS),
            "year": rng.integers(1900, 2000, ROWS),
            "colour": rng.choice(["red", "green", ""], ROWS),
            "rooms": rng.integers(3, 8, ROWS),
            "smokes": rng.integers(0, 2, ROWS),
            "alive": rng.integers(0, 2, ROWS).astype(bool),
            "visits": rng.poisson(9, ROWS),
            "planet": "earth",
            "class": rng.choice(["b", "a"], ROWS),
        }
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "people.csv"
    table().to_csv(path, index=False)
    return path


def read(place, text=None):
    return load(place, "mixed", How(columns=text))


def run(*options, code=0):
    result = CliRunner().invoke(cli.app(), [*map(str, options)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stderr if code else result.output


# ---------------------------------------------------------------- which kind a column is

KINDS = {
    "height": "gaussian",
    "year": "gaussian",
    "colour": "categorical",
    "rooms": "categorical",
    "smokes": "bernoulli",
    "alive": "bernoulli",
    "visits": "gaussian",
    "planet": "constant",
    "class": "categorical",
}


def test_the_kinds_that_are_recognised(place):
    found = {column.name: column for column in read(place).table}
    assert {name: column.kind for name, column in found.items()} == KINDS
    assert found["colour"].categories == ("", "green", "red") and found["rooms"].categories == (3, 4, 5, 6, 7)
    assert found["alive"].categories == (False, True) and found["smokes"].categories == (0, 1)
    assert found["year"].whole and not found["height"].whole


def test_few_integers_are_categories_and_more_are_numbers(tmp_path):
    for n, kind in ((columns.FEW, "categorical"), (columns.FEW + 1, "gaussian")):
        pandas.DataFrame({"a": np.arange(ROWS) % n, "b": np.arange(ROWS) % n / 2}).to_csv(tmp_path / "t.csv")
        assert [column.kind for column in read(tmp_path / "t.csv").table] == [kind, "gaussian"]


def test_other_kinds_on_request(place):
    text = "visits=negative_binomial, rooms=poisson,height=laplace,class=bernoulli,year=categorical,smokes=skip"
    data = read(place, text)
    found = {column.name: column.kind for column in data.table}
    assert found["visits"] == "negative_binomial" and found["rooms"] == "poisson" and found["height"] == "laplace"
    assert found["class"] == "bernoulli" and found["year"] == "categorical" and "smokes" not in found
    assert any("left out the columns smokes" in note for note in data.notes)


def test_a_name_with_a_comma(tmp_path):
    pandas.DataFrame({"a,b=c": np.arange(ROWS)}).to_csv(tmp_path / "t.csv", index=False)
    assert read(tmp_path / "t.csv", '"a,b=c=poisson"').table[0].kind == "poisson"


REFUSED = {
    "visits": "expected name=kind",
    "visits=counts": "expected name=kind, where a kind is one of gaussian",
    "visits=poisson,visits=skip": "got 'visits' twice",
    "shoe=skip": "has no column 'shoe'; it has 'height', 'year'",
    "height=poisson": "column 'height' holds other numbers than counts",
    "class=gaussian": "column 'class' holds text, expected numbers",
    "rooms=bernoulli": "column 'rooms' has 5 values, expected two",
    "planet=categorical": "column 'planet' has one value",
    "planet=gaussian": "column 'planet' holds text",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_kind_that_the_values_do_not_fit_is_refused(place, text):
    with pytest.raises(UserError, match=REFUSED[text]):
        read(place, text)


def spoilt(tmp_path, name, values):
    frame = table()
    frame[name] = values
    frame.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def test_columns_that_cannot_be_read(tmp_path):
    cases = {
        "has 1 empty cells; fill them": [np.nan, *range(ROWS - 1)],
        "has infinite numbers": [np.inf, *range(ROWS - 1)],
        "80 different texts in 80 rows, which look like names; --columns more=skip": [f"id {i}" for i in range(ROWS)],
    }
    for expected, values in cases.items():
        path = spoilt(tmp_path, "more", values)
        with pytest.raises(UserError, match=expected):
            read(path)
        assert "more" not in {column.name for column in read(path, "more=skip").table}


def test_a_number_that_varies_in_held_out_rows_only(tmp_path, place):
    held_out = read(place).split()[1]
    values = np.zeros(ROWS)
    values[held_out[0]] = 0.5
    with pytest.raises(UserError, match="has one value in the rows to train on"):
        read(spoilt(tmp_path, "more", values), "more=gaussian")


def test_options_that_do_not_belong_together(place, tmp_path):
    assert "--columns: has no effect with --likelihood gaussian" in refusal(
        "--data", place, "--likelihood", "gaussian", "--columns", "a=skip"
    )
    assert "expected a table" in refusal("--likelihood", "mixed")
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    assert "expected a table" in refusal("--likelihood", "mixed", "--data", tmp_path / "a.npy")
    mixed = ("--data", place, "--likelihood", "mixed")
    assert "--standardise: has no effect" in refusal(*mixed, "--standardise")
    assert "--size: has no effect" in refusal(*mixed, "--size", 3)
    assert "mixed needs --loss fused" in refusal(*mixed, "--loss", "eager")
    assert "--model conv needs images" in refusal(*mixed, "--model", "conv")
    assert "take --likelihood mixed" in refusal("--data", place, "--likelihood", "gaussian")


# ---------------------------------------------------------------- from a table to numbers and back


def test_a_table_comes_back(place):
    data = read(place, "visits=poisson")
    back = columns.decoded(data.images, data.table)
    expected = pandas.read_csv(place, keep_default_na=False)
    assert list(back.columns) == list(expected.columns)
    for name in expected:
        if name == "height":
            np.testing.assert_allclose(back[name], expected[name], rtol=1e-6)
        else:
            assert back[name].tolist() == expected[name].tolist(), name


def test_what_the_model_sees(place):
    data = read(place)
    train, _ = data.split()
    widths = [column.width for column in data.table]
    x = dict(zip(KINDS, data.images.split(widths, 1), strict=True))
    assert data.images.shape == (ROWS, sum(widths)) and data.images.dtype == torch.float32
    for name in ("height", "year", "visits"):
        torch.testing.assert_close(x[name][train].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
        torch.testing.assert_close(x[name][train].std(correction=0), torch.tensor(1.0))
    for name in ("colour", "rooms", "class"):
        assert (x[name].sum(1) == 1).all() and ((x[name] == 0) | (x[name] == 1)).all()
    assert torch.equal(data.before[:, 0], torch.tensor(pandas.read_csv(place)["height"].to_numpy("float32")))
    assert x["planet"].shape == (ROWS, 0) and x["alive"].squeeze().tolist() == table()["alive"].astype(int).tolist()
    assert data.classes == ["a", "b"] and data.labels.tolist() == [["a", "b"].index(v) for v in table()["class"]]


def test_other_rows_are_read_with_the_categories_and_scales_of_the_training(place, tmp_path):
    known = read(place).table
    again = table()[20:30].assign(more=1)
    again.to_csv(tmp_path / "t.csv", index=False)
    found = load(tmp_path / "t.csv", "mixed", How(table=known))
    assert torch.equal(found.images, read(place).images[20:30]) and "left out the columns more" in found.notes[0]
    for change, expected in {
        "column 'colour' holds 'blue', which the training's table has not": again.assign(colour="blue"),
        "column 'height' holds an empty cell, expected finite numbers": again.assign(height=np.nan),
        "has no column 'class', which the training had": again.drop(columns="class"),
    }.items():
        expected.to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(UserError, match=change):
            load(tmp_path / "t.csv", "mixed", How(table=known))


# ---------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def made(place, tmp_path_factory):
    """(the folder of a run, what train printed)"""
    out = tmp_path_factory.mktemp("runs")
    said = train(*options(place, out))
    return out / "run", said


def options(place, out, epochs=2, name="run"):
    own = "--likelihood", "mixed", "--columns", "visits=negative_binomial", "--backend", "torch", "--no-report"
    return "--data", place, "--out", out, "--name", name, "--latent-dim", 2, "--threads", 1, "--epochs", epochs, *own


def test_the_columns_are_shown(made):
    _, said = made
    assert "table  gaussian: height, year\n" in said
    assert "table  categorical: colour (3), rooms (5), class (2)\n" in said
    assert "table  negative_binomial: visits\n" in said and "--columns name=kind" in said
    assert "nats per row:" in said and "nats per row after 2 epochs" in said and "image" not in said


def test_a_run_has_the_likelihood_of_its_columns(made, place):
    folder, _ = made
    found = vk.load_run(folder)
    kinds = found.vae.likelihood.columns
    assert kinds == (
        *("gaussian", "gaussian", ("categorical", 3), ("categorical", 5), "bernoulli", "bernoulli"),
        *("negative_binomial", ("categorical", 2)),
    )
    data = found.data()
    terms = found.vae.loss(data.images, return_terms=True)
    assert terms.nll_per_column.shape == (8,) and torch.equal(found.read(place), data.images)
    scales = found.vae.decoder[-1].logscale  # of the two numbers and of the count they were trained
    assert scales[[0, 1, 6]].all() and not scales[[2, 3, 4, 5, 7]].any()


def test_sample_writes_a_table(made, tmp_path):
    folder, _ = made
    run("sample", folder, "--count", 200, "--out", tmp_path / "a.csv")
    run("sample", folder, "-n", 200, "--out", tmp_path / "b.csv")
    run("sample", folder, "-n", 200, "--seed", 1, "--out", tmp_path / "c.csv")
    a, b, c = ((tmp_path / f"{name}.csv").read_text() for name in "abc")
    assert a == b != c
    drawn, original = pandas.read_csv(tmp_path / "a.csv", keep_default_na=False), table()
    assert list(drawn.columns) == list(original.columns) and len(drawn) == 200
    for name in ("colour", "rooms", "smokes", "alive", "planet", "class"):
        assert set(drawn[name]) == set(original[name]), name
    assert drawn["year"].dtype.kind == "i" and drawn["visits"].dtype.kind == "i" and (drawn["visits"] >= 0).all()
    assert 140 < drawn["height"].mean() < 200 and drawn["height"].nunique() == 200


def test_reconstruct_and_encode(made, place, tmp_path):
    folder, _ = made
    run("reconstruct", folder, "-n", 5, "--out", tmp_path / "r.csv")
    assert pandas.read_csv(tmp_path / "r.csv").shape == (5, 9)
    run("encode", folder, "--data", place, "--out", tmp_path / "z.npy")
    assert np.load(tmp_path / "z.npy").shape == (ROWS, 2)
    found = vk.load_run(folder)
    rows = found.table(found.vae.likelihood.sample(found.vae.decode(found.vae.sample_prior(4))))
    assert list(rows.columns) == list(table().columns)


def test_the_files_of_a_table(made, tmp_path, monkeypatch):
    folder, _ = made
    monkeypatch.chdir(tmp_path)
    run("sample", folder)
    assert len(pandas.read_csv("samples.csv")) == 64
    assert "expected a name that ends in .csv" in run("sample", folder, "--out", "a.png", code=2)
    assert "expected a name that ends in .csv" in run("reconstruct", folder, "--out", "a.npy", code=2)


def test_a_run_goes_on(made, place, tmp_path):
    train(*options(place, tmp_path, epochs=3, name="whole"))
    again = shutil.copytree(made[0], tmp_path / "again")
    train("--resume", again, "--epochs", 3)
    same_run(again, tmp_path / "whole")
    assert "cannot go on with another --columns" in refusal("--resume", again, "--columns", "visits=skip")


def test_a_changed_table_is_refused(made, tmp_path):
    changed = table()
    changed.loc[3, "height"] += 1
    changed.to_csv(tmp_path / "t.csv", index=False)
    assert "its values differ" in refusal("--resume", made[0], "--epochs", 3, "--data", tmp_path / "t.csv")


def test_table_is_of_a_mixed_run_alone(finished):
    with pytest.raises(ValueError, match="table: got a run of 'bernoulli'"):
        vk.load_run(finished).table(torch.zeros(2, 3))


FORGED = {
    "no table": lambda t: None,
    "a text": lambda t: "age",
    "no column": lambda t: [],
    "another key": lambda t: [{**t[0], "more": 1}],
    "a kind": lambda t: [{**t[0], "kind": "zinb"}],
    "a deviation": lambda t: [{**t[0], "deviation": 0}],
    "one category": lambda t: [{**t[2], "categories": [1]}],
    "categories of a number": lambda t: [{**t[0], "categories": [1, 2]}],
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_table_is_refused(made, tmp_path, name):
    folder = shutil.copytree(made[0], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["table"] = FORGED[name](config["table"])
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="table is"):
        vk.load_run(folder)


def test_the_doctor_of_a_table(made, tmp_path):
    result = CliRunner().invoke(
        cli.app(), ["doctor", str(made[0]), "--samples", "40", "--html", str(tmp_path / "r.html")]
    )
    assert result.exit_code in (0, 1), result.output + repr(result.exception)
    text = (tmp_path / "r.html").read_text()
    assert 'id="columns"' in text and "<h3>negative_binomial</h3>" in text
    for name in KINDS.keys() - {"planet"}:
        assert f'<th scope="row">{name}</th>' in text
    assert "columns are explained no better than by their own distribution" in result.output.replace("\n", " ")
    assert "no better than the mean" in result.output.replace("\n", " ")
