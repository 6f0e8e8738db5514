"""`vae-kernels bench` times contenders in turns, and only contenders with right results. Its counts of operations and
bytes are right. The tests also cover its options, its files and its refusals. test_bench_steps.py tests the training
steps."""

import dataclasses
import functools
import importlib.util
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from screen import screen
from typer.testing import CliRunner

import vae_kernels as vk
from vae_kernels import cli
from vae_kernels.cli import bench as command
from vae_kernels.formulas import ALL
from vae_kernels.timing import check, contenders, counts, measure, results, rivals, suites
from vae_kernels.timing.case import Case, draw, least_bytes, needed, parse_shape
from vae_kernels.timing.table import table

FAST = measure.Options(seconds=0.0, least=1, modes=(), memory=False)
FORMS = [(name, n) for name in vk.LIKELIHOODS for n in sorted({needed(name), len(ALL[name].PARAMETERS)})]


def small(**settings):
    return Case(**({"batch": 16, "dims": 50, "latents": 8} | settings))


@pytest.mark.full
@pytest.mark.parametrize(
    ("likelihood", "outputs", "part"),
    [
        pytest.param(*form, part, marks=[pytest.mark.soak] * (part == "loss" and i > 0))
        for i, form in enumerate(FORMS)
        for part in ("objective", "loss")
    ],
)
def test_every_contender_is_right(likelihood, outputs, part):
    """measure() checks every contender. The next tests show that this check finds a wrong contender."""
    x = "uint8" if ALL[likelihood].SUPPORT == "levels" else "float32"
    rows = measure.measure(small(likelihood=likelihood, outputs=outputs, part=part, incoming=0.7, x=x), FAST)
    assert {row["kind"] for row in rows} == {contenders.EAGER, contenders.OURS, contenders.COPY}
    names = {row["name"] for row in rows}
    assert names >= {*rivals.rivals(likelihood, outputs), measure.AGAIN}
    pyro = importlib.util.find_spec("pyro") and part == "objective" and (likelihood, outputs) in rivals.DISTRIBUTIONS
    assert ("Pyro" in names) == bool(pyro)


@pytest.mark.parametrize(("likelihood", "outputs"), FORMS)
def test_a_case_has_as_many_parameters_as_it_says(likelihood, outputs):
    x = "uint8" if ALL[likelihood].SUPPORT == "levels" else "float32"
    assert len(draw(Case(3, 5, 2, likelihood=likelihood, outputs=outputs, x=x)).params) == outputs


@pytest.mark.full
def test_a_likelihood_without_rivals_competes_with_its_own_formula(monkeypatch):
    monkeypatch.setattr(rivals, "RIVALS", {("poisson", 1): [rivals.poisson]})
    monkeypatch.setattr(rivals, "DISTRIBUTIONS", {})
    case = small(likelihood="zinb", outputs=3)
    assert [row["name"] for row in measure.measure(case, FAST) if row["kind"] == contenders.EAGER] == ["plain formula"]
    monkeypatch.setitem(rivals.RIVALS, ("zinb", 3), [rivals.scvi_zinb])  # one entry is enough for a rival
    assert [row["name"] for row in measure.measure(case, FAST) if row["kind"] == contenders.EAGER] == ["scvi_zinb"]


@pytest.mark.full
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("dtype", "x"), [("float32", "uint8"), ("bfloat16", "float32"), ("bfloat16", "uint8")])
def test_storage_and_directions(dtype, x, direction):
    rows = measure.measure(small(dtype=dtype, x=x, direction=direction), FAST)
    assert all((row["least_bytes"] is None) == (direction == "backward") for row in rows)


PARTS = {
    "nll": ({"bce_with_logits", "sigmoid_bce", "torch.distributions"}, {"nll, mean", "nll.mean()"}),
    "terms": ({"torch.distributions", "plain formula"}, {"log_prob", "distributions"}),
    "free bits": ({"bce_with_logits", "sigmoid_bce", "torch.distributions"}, {"fused_elbo, free_bits"}),
    "decomposition": ({"by hand"}, {"kl_decomposition"}),
}


def of_part(part):
    return small(
        part=part, **{"nll": {"latents": 0}, "terms": {"latents": 0}, "decomposition": {"dims": 0}}.get(part, {})
    )


@pytest.mark.full
@pytest.mark.parametrize("part", PARTS)
def test_parts(part):
    rows = measure.measure(of_part(part), FAST)
    found = [{r["name"] for r in rows if r["kind"] == kind} for kind in (contenders.EAGER, contenders.OURS)]
    assert found == [PARTS[part][0], PARTS[part][1] | {measure.AGAIN}]
    assert all(row["median_us"] for row in rows)


@pytest.mark.parametrize("part", PARTS)
def test_a_wrong_part_is_refused(monkeypatch, part):
    case = of_part(part)
    right = next(c for c in contenders.contenders(case, (), few=True) if c.kind == contenders.OURS)

    def wrong(*tensors):
        loss, z = right.objective(*tensors)
        return loss + 0.01 * loss.detach(), z

    monkeypatch.setattr(measure, "contenders", lambda *_: [dataclasses.replace(right, objective=wrong)])
    with pytest.raises(check.WrongResult, match="relative error 1"):
        measure.measure(case, FAST)


def test_every_way_to_write_the_objective_competes():
    ways = [c.name for c in contenders.contenders(small(), ()) if c.kind == contenders.OURS]
    assert ways == ["sample_kl + fused_elbo", "(nll + kl).mean()", "fused_elbo, z by hand"]


@pytest.mark.full
def test_sampling_alone():
    rows = measure.measure(small(dims=0, part="sample"), FAST)
    assert [row["name"] for row in rows] == ["by hand", "sample_kl", measure.AGAIN, ""]


def scaled(factor):
    """The right objective, except that one of its results is multiplied by a factor."""

    def wrong(result, params, x, mu, logvar):
        z, kl = vk.sample_kl(mu, logvar)
        loss = vk.fused_elbo(params[0], x, kl=kl)
        twisted = {"loss": lambda t: t.detach() * factor + (t - t.detach()), "recon": lambda t: t, "z": lambda t: t}
        if result == "recon":
            loss = loss + (factor - 1) * (params[0] - params[0].detach()).sum() / len(x)
        return (twisted["loss"](loss) if result == "loss" else loss), (mu + (z - mu) * factor if result == "z" else z)

    return wrong


@pytest.mark.parametrize("result", ["loss", "recon", "z"])
def test_a_wrong_contender_is_refused(monkeypatch, result):
    case = small(batch=100, latents=50)

    def with_factor(factor):
        wrong = scaled(factor)
        found = [contenders.Contender(contenders.OURS, "wrong", lambda *t: wrong(result, *t))]
        monkeypatch.setattr(measure, "contenders", lambda *_: found)
        return measure.measure(case, FAST)

    assert with_factor(1.0)  # with a factor of 1 the same code is right
    with pytest.raises(check.WrongResult, match=r"relative error|its noise has"):
        with_factor(1.2)


def test_a_wrong_rival_is_not_timed(monkeypatch):
    monkeypatch.setattr(rivals, "RIVALS", {("bernoulli", 1): [lambda x, t: 1.01 * rivals.bce_with_logits(x, t)]})
    rows = measure.measure(small(), FAST)
    (wrong,) = (row for row in rows if row["name"] == "<lambda>")
    assert wrong["median_us"] is None and wrong["error"] == pytest.approx(0.01, rel=0.1)
    assert "eager <lambda>: wrong by 1.0e-02, and not timed" in table(rows)
    assert sum(row["median_us"] is not None for row in rows) == len(rows) - 1
    assert wrong["disturbed"] is None and isinstance(results.quiet(rows), bool)


def test_what_is_allowed_goes_by_the_type_of_each_result():
    """The allowed error depends on the type of each result. The loss is float32, whatever the storage type is, so an
    error of one rounding of bfloat16 is too large for the loss. A rival may have a larger error than ours, because its
    formula may have an eps."""
    error = torch.finfo(torch.bfloat16).eps
    assert check.worst([(error, torch.bfloat16)], ours=True) == error
    for ours in (True, False):
        with pytest.raises(check.WrongResult, match=r"torch\.float32"):
            check.worst([(0.0, torch.bfloat16), (error, torch.float32)], ours)
    assert check.worst([(1e-4, torch.float32)], ours=False) == 1e-4
    with pytest.raises(check.WrongResult, match="allowed"):
        check.worst([(1e-4, torch.float32)], ours=True)
    with pytest.raises(check.WrongResult, match="nan"):
        check.worst([(float("nan"), torch.float32)], ours=False)


def test_operations():
    a = torch.ones(4, requires_grad=True)
    assert counts.operations(lambda t: t.view(2, 2) * 2 + 1, (a,), "cpu") == 2
    assert counts.operations(lambda t: torch.autograd.grad((t * 2).sum(), t), (a,), "cpu") == 4  # ones_like; mul


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory is read from Linux's /proc")
def test_peak_memory():
    a = torch.ones(1 << 24)  # 64 MiB: the rest of the process needs little memory beside it
    size = a.numel() * a.element_size()
    found = [counts.peak_bytes(f, (a,), "cpu") for f in (lambda t: t + 1, lambda t: (t + 1) * 2, lambda t: t.sum())]
    if found[0] is None:
        pytest.skip("this system does not reset the peak")
    assert [round(peak / size, 1) for peak in found] == [1, 2, 0]


def test_least_bytes():
    case = small(dtype="bfloat16", x="uint8")
    n, k = 16 * 50, 16 * 8
    # recon, x and the gradient of recon; then mu, logvar and z; in the backward pass mu, logvar, grad_z and two
    # gradients
    assert least_bytes(case, draw(case)) == n * (2 + 1 + 2) + k * 2 * (3 + 5)
    loss = dataclasses.replace(case, part="loss")
    assert least_bytes(loss, draw(loss)) == n * 5 + k * 2 * 4
    forward = dataclasses.replace(case, direction="forward")
    assert least_bytes(forward, draw(forward)) == n * 3 + k * 2 * 3
    nll = dataclasses.replace(case, part="nll", latents=0)
    assert least_bytes(nll, draw(nll)) == n * 5


def test_suites_are_of_cases_that_differ():
    for name, cases in suites.CASES.items():
        cases = list(cases())
        assert len(set(cases)) == len(cases) > 0, name
    assert {case.likelihood for case in suites.likelihoods()} == set(vk.LIKELIHOODS)


def test_results_are_kept_by_suite(tmp_path):
    path = results.file_of(tmp_path, "A CPU (model 1)")
    assert path.name == "a-cpu-model-1.csv"
    row = {"allocator": "default", "error": 1.25e-7, "median_us": 12.345, "peak_bytes": None}
    results.merge(path, [row | {"suite": "a", "name": "old"}, row | {"suite": "b", "name": "other"}])
    results.merge(path, [row | {"suite": "a", "name": "new"}])
    found = results.read(path)
    assert [(r["suite"], r["name"]) for r in found] == [("b", "other"), ("a", "new")]
    assert (found[1]["error"], found[1]["median_us"], found[1]["peak_bytes"]) == ("1.25e-07", "12.35", "")
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="got the columns"):
        results.read(path)


def bench(*options, code=0):
    found = CliRunner().invoke(cli.app(), ["bench", *map(str, options)])
    assert found.exit_code == code, found.output + repr(found.exception)
    return found.output


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "quiet", lambda rows: True)  # other tests run beside this test
    options = ("--shape", "16x50/8", "--seconds", 0, "--compile", "none", "--likelihood", "gaussian", "--out", tmp_path)
    output = bench(*options)
    for said in ("gaussian objective", "mse_loss", "x best eager", "of copy", "kernels"):
        assert said in output
    (path,) = Path(tmp_path).glob("*.csv")
    rows = results.read(path)
    assert {row["suite"] for row in rows} == {"own"} and {row["batch"] for row in rows} == {"16"}


@pytest.mark.full
def test_a_disturbed_case_is_not_written_and_measured_again(tmp_path, monkeypatch):
    """A case that other programs disturbed does not reach the file. --missing measures this case, and no other."""
    small = [Case(2, 3, 0, part="nll"), Case(4, 3, 0, part="nll"), Case(8, 3, 0, part="nll", threads=1)]
    monkeypatch.setitem(suites.CASES, "narrow", lambda: small)
    options = ("narrow", "--seconds", 0, "--compile", "none", "--out", tmp_path)
    monkeypatch.setattr(results, "quiet", lambda rows: rows[0]["batch"] != 4)
    assert bench(*options).count("not written; --missing measures this case again") == 1
    (path,) = Path(tmp_path).glob("*.csv")
    before = results.read(path)
    assert {row["batch"] for row in before} == {"2", "8"}
    monkeypatch.setattr(results, "quiet", lambda rows: True)
    output = bench(*options, "--missing")
    assert "4x3" in output and "2x3" not in output and "8x3" not in output
    after = results.read(path)
    assert [row for row in after if row["batch"] != "4"] == before and len(after) > len(before)
    assert "4x3" not in bench(*options, "--missing") and results.read(path) == after


def timed(kind, name, us, **others):
    """A row of a case that took so many us."""
    row = {"part": "objective", "likelihood": "bernoulli", "dtype": "float32", "x": "float32", "direction": "both"}
    row |= {"batch": 128, "dims": 784, "latents": 20, "incoming": 1.0, "threads": 2, "kind": kind, "name": name}
    times = {"median_us": us, "p20_us": us, "p80_us": us} if us else {"median_us": None, "error": 0.004}
    return row | times | {"disturbed": 0.0} | others


CASE = [
    timed("eager", "bce_with_logits", 1000.0, least_bytes=1e6, copy_bytes_per_s=1e10, kernels=32, peak_bytes=1 << 20),
    timed("eager", "torch.distributions", 2500.0, kernels=47, first_us=9e6),
    timed("eager", "sigmoid_bce", None),
    timed("vae_kernels", "sample_kl + fused_elbo", 400.0, kernels=6, disturbed=0.25),
    timed("vae_kernels", "again", 1050.0),
    timed("copy", "", 10.0),
]


@pytest.mark.parametrize("columns", [80, 100, 150])
def test_a_terminal_gets_a_table(columns, monkeypatch, tmp_path):
    """Names and times are whole at every width. A narrow terminal lacks the last columns, and no table is too wide."""
    monkeypatch.setenv("TERM", "xterm-256color")
    out = io.StringIO()
    made = functools.partial(Console, file=out, width=columns, force_terminal=True, color_system="truecolor")
    monkeypatch.setattr(command, "Console", made)
    command.show([CASE], None, results.where("vae-kernels bench"))
    lines = screen(out.getvalue().replace("\n", "\r\n"), columns)
    said = [" ".join(line.split()) for line in lines]
    whole = "eager bce_with_logits 1.00 ms 1.0x 1.00 ms to 1.00 ms", "vae_kernels sample_kl + fused_elbo 400 us 2.5x"
    for expected in (*whole, "torch.distributions 2.50 ms 0.40x", "again 1.05 ms 0.95x", "sigmoid_bce wrong by 4e-03"):
        assert any(line.startswith(expected) for line in said), expected
    assert ("first run" in "\n".join(lines)) == (columns == 150) and "x eager" in "\n".join(lines)
    assert any(line.startswith("other programs disturbed up to 25% of the runs") for line in lines)
    assert "bernoulli objective  128x784/20" in "\n".join(lines)


@pytest.mark.full
def test_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "quiet", lambda rows: True)
    output = bench("--shape", "16x50/8", "--seconds", 0, "--out", tmp_path)
    assert "torch.compile bce_with_logits" in output
    (path,) = Path(tmp_path).glob("*.csv")
    (row,) = (row for row in results.read(path) if row["kind"] == "torch.compile")
    assert float(row["first_us"]) > 100 * float(row["median_us"]) and int(row["kernels"]) > 0


REFUSALS = {
    ("shapes", "--shape", "2x3/4"): "suite: has no effect with --shape",
    ("--dtype", "bfloat16"): "--dtype: has no effect without --shape",
    ("--shape", "12x3"): "got '12x3', expected batch x dims / latents",
    ("--shape", "0x3/4"): "all of them positive",
    ("--missing",): "--missing: has no effect without a suite and --out",
    ("--compile", "fast", "--shape", "2x3/4"): "--compile: got fast, expected some of default",
    ("--part", "nll", "--shape", "2x3/4"): "got '2x3/4', expected batch x dims, all of them positive: 128x784",
    ("--outputs", 2, "--shape", "2x3/4"): "--outputs: got 2, but bernoulli has logits",
    ("--likelihood", "zinb", "--outputs", 1, "--shape", "2x3/4"): "--outputs: got 1",
}


@pytest.mark.parametrize("options", REFUSALS, ids=lambda options: " ".join(map(str, options)))
def test_refusals(options):
    assert REFUSALS[options] in bench(*options, code=2)


def test_shapes():
    assert parse_shape("128x784/20") == parse_shape("128x784x20") == (128, 784, 20)
    assert parse_shape("128x784", "nll") == (128, 784, 0)
    assert [Case(*sizes).shape for sizes in [(2, 3, 4), (2, 3, 0), (2, 0, 4)]] == ["2x3/4", "2x3", "2x4"]


def test_suites_run_apart(monkeypatch):
    """`all` runs each suite in a process of its own. The suite "malloc" runs with a malloc that keeps its memory."""
    calls = []

    def run(command, env):
        calls.append((command[3:], env.get("MALLOC_MMAP_MAX_")))
        return SimpleNamespace(returncode=len(calls) == len(suites.SUITES) and 7)

    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    monkeypatch.setattr(suites.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["vae-kernels", "bench", "--seconds", "1", "all", "--out", "there"])
    bench(*sys.argv[2:], code=7)
    assert [call[0][1] for call in calls] == list(suites.SUITES)
    assert all(words[2:] == ["--seconds", "1", "--out", "there"] for words, _ in calls)
    assert {words[1]: kept for words, kept in calls if kept} == {"malloc": "0"}
    assert suites.apart("malloc") == ("malloc",) and suites.apart("shapes") == ()
