"""vk.Monitor: its rows are the means over the steps, its counts are exact, and a step costs one copy."""

import csv
import math
import re
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import vae_kernels as vk
from vae_kernels.monitor import SATURATED


def batches(n, sizes=(4,), seed=0):
    g = torch.Generator().manual_seed(seed)
    for i in range(n):
        b = sizes[i % len(sizes)]
        recon, x = torch.randn(b, 3, 2, generator=g), torch.rand(b, 3, 2, generator=g)
        mu, logvar = (torch.randn(b, 5, generator=g) for _ in range(2))
        mu[:, 3:] *= 1e-3  # two dims whose mean hardly varies
        yield recon, x, mu, logvar


def rows(every, data, **options):
    out = []
    with vk.Monitor(every, out.append, **options) as monitor:
        for recon, x, mu, logvar in data:
            terms = vk.fused_elbo(recon, x, mu, logvar, return_terms=True)
            monitor.update(terms, mu=mu, logvar=logvar, logits=recon)
    return out


def test_a_row_is_the_mean_over_its_steps():
    data = list(batches(7, sizes=(4, 4, 3)))
    got = rows(3, data)
    assert [row["step"] for row in got] == [3, 6, 7]  # close() hands over the last, shorter one
    for row, steps in zip(got, (data[:3], data[3:6], data[6:]), strict=True):
        recon, x, mu, logvar = (torch.cat(parts).double() for parts in zip(*steps, strict=True))
        assert row["nll"] == pytest.approx(vk.nll(recon, x).mean().item(), rel=1e-6)
        assert row["kl"] == pytest.approx(vk.gaussian_kl(mu, logvar).mean().item(), rel=1e-6)
        losses = [vk.fused_elbo(*step).item() for step in steps]
        assert row["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)
        by_step = [vk.controls.kl_per_dim(*step[2:]).mean(0) for step in steps]
        assert row["kl_per_dim"] == pytest.approx(torch.stack(by_step).mean(0).tolist(), rel=1e-5)
        assert (row["nonfinite_nll"], row["nonfinite_kl"], row["first_nonfinite"]) == (0, 0, "")
    for row, step in zip(got[:2], (data[2], data[5]), strict=True):
        assert (row["logvar_min"], row["logvar_max"]) == (step[3].min().item(), step[3].max().item())
        assert row["active_units"] == int((step[2].var(0) > 0.01).sum()) == 3


def test_saturated_is_where_a_float32_probability_is_1():
    recon = torch.linspace(10, 30, 400).view(4, 100)
    row = rows(1, [(recon * torch.tensor([1, -1, 1, -1]).view(4, 1), recon / 30, *torch.zeros(2, 4, 5))])[0]
    assert row["saturated"] == pytest.approx((torch.sigmoid(recon.abs()) == 1).double().mean().item(), abs=1 / 400)
    assert torch.sigmoid(torch.tensor(SATURATED + 1e-3)) == 1 > torch.sigmoid(torch.tensor(SATURATED - 1e-3))


@pytest.mark.parametrize("where, value", [("nll", math.nan), ("nll", math.inf), ("kl", math.nan), ("kl", math.inf)])
def test_what_is_not_finite_is_named(where, value):
    data = list(batches(6, sizes=(4, 3)))
    for i in (3, 4):  # steps 4 and 5
        recon, _, mu, _ = data[i]
        (recon if where == "nll" else mu)[2].view(-1)[1] = value
    row = rows(6, data)[0]
    bad = (vk.nll(*data[3][:2]) if where == "nll" else vk.gaussian_kl(*data[3][2:]))[2].item()
    assert row[f"nonfinite_{where}"] == 2
    assert row["first_nonfinite"].startswith(f"{where} of sample 2 at step 4 is {bad}")
    assert ("in latent dims 1" in row["first_nonfinite"]) == (where == "kl")
    assert math.isfinite(row[where])  # of the others
    other = {"nll": "kl", "kl": "nll"}[where]
    assert row[f"nonfinite_{other}"] == 0


class Counter(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += "detach" not in str(function)
        return function(*args, **(kwargs or {}))


def test_a_step_between_rows_runs_one_copy_on_the_device():
    monitor = vk.Monitor(10)
    first, *others, last = [vk.fused_elbo(*step, return_terms=True) for step in batches(10)]
    nothing = torch.empty(0)
    monitor.update(first)  # this makes the rows to copy to
    with Counter() as counter:
        for terms in others:
            monitor.update(terms, mu=nothing, logvar=nothing)
        assert counter.calls == len(others)
        monitor.update(last)
    assert counter.calls > len(others) + 1


def test_terms_cost_nothing_in_the_backward_pass():
    """No zeros are made for the gradients that they do not have."""
    calls = []
    for terms in (False, True):
        recon, x, mu, logvar = next(batches(1))
        out = vk.fused_elbo(recon.requires_grad_(), x, mu, logvar, return_terms=terms)
        with Counter() as counter:
            (out.loss if terms else out).backward()
        calls.append(counter.calls)
    assert calls[0] == calls[1]


@pytest.mark.parametrize("free_bits", [None, (1.0, "per_dim")])  # terms of one tensor, and of several
def test_terms_that_are_written_again_as_by_a_graphs_replay(free_bits):
    terms = vk.fused_elbo(*next(batches(1)), free_bits=free_bits, return_terms=True)
    out = []
    with vk.Monitor(2, out.append) as monitor:
        for fill in (1.0, 3.0):
            terms.nll.fill_(fill)
            monitor.update(terms)
    assert out[0]["nll"] == 2.0


@pytest.mark.parametrize("sizes", [(4,), (4, 3)])
def test_nothing_of_a_step_stays(sizes):
    """It would lie between the steps' gradients, and malloc would ask the system for each of those anew."""
    monitor = vk.Monitor(10)
    for step in batches(3, sizes):
        terms = vk.fused_elbo(*step, return_terms=True)
        kept = weakref.ref(terms.packed()[0])
        monitor.update(terms)
        del terms
        assert kept() is None


def test_a_first_step_unlike_the_others():
    data = list(batches(7, sizes=(3,)))[:1] + list(batches(6))
    got = rows(3, data)
    for row, steps in zip(got, (data[:3], data[3:6], data[6:]), strict=True):
        nll = torch.cat([vk.nll(*step[:2]) for step in steps])
        assert row["nll"] == pytest.approx(nll.mean().item(), rel=1e-6)


def test_more_steps_than_rows_are_made_at_once_and_a_first_one_in_inference_mode():
    data, out = list(batches(150)), []
    with vk.Monitor(150, out.append) as monitor:
        with torch.inference_mode():
            monitor.update(vk.fused_elbo(*data[0], return_terms=True))
        for step in data[1:]:
            monitor.update(vk.fused_elbo(*step, return_terms=True))
    assert out[0]["nll"] == pytest.approx(torch.cat([vk.nll(*step[:2]) for step in data]).mean().item(), rel=1e-6)


def test_to_a_csv_file_which_a_resumed_run_goes_on_with(tmp_path):
    path = tmp_path / "new" / "metrics.csv"
    data = list(batches(4))
    for step in (0, 2):
        with vk.Monitor(1, path, step=step) as monitor:
            for batch in data[step : step + 2]:
                monitor.update(vk.fused_elbo(*batch, return_terms=True))
    with open(path) as file:
        table = list(csv.DictReader(file))
    assert [row["step"] for row in table] == ["1", "2", "3", "4"]
    nll = [vk.nll(*batch[:2], reduction="mean").item() for batch in data]
    assert [float(row["nll"]) for row in table] == pytest.approx(nll, rel=1e-6)
    assert float(table[0]["kl_dim_4"]) == pytest.approx(
        vk.controls.kl_per_dim(*data[0][2:]).mean(0)[4].item(), rel=1e-5
    )
    before = path.read_text()
    wide = [torch.cat([t, t], 1) for t in data[0][2:]]
    for other in (wide, path.with_name("other.csv")):
        if other is not wide:
            path = other
            path.write_text("step,accuracy\n1,0.5\n")
            before = path.read_text()
        with vk.Monitor(1, path) as monitor, pytest.raises(ValueError, match="has other columns"):
            monitor.update(vk.fused_elbo(*data[0][:2], *wide, return_terms=True))
        assert path.read_text() == before


def test_to_tensorboard_and_to_several():
    class Writer:
        def __init__(self):
            self.seen = {}

        def add_scalar(self, tag, value, step):
            self.seen[tag, step] = value

    writer, out = Writer(), []
    with vk.Monitor(2, [writer, out.append]) as monitor:
        for batch in batches(2):
            monitor.update(vk.fused_elbo(*batch, return_terms=True))
    assert writer.seen["vae/kl", 2] == out[0]["kl"]
    assert writer.seen["vae/kl_per_dim/4", 2] == out[0]["kl_per_dim"][4]


def test_terms_without_dims_and_losses_per_sample():
    recon, x, mu, logvar = next(batches(1))
    out = []
    with vk.Monitor(2, out.append) as monitor:
        kl = vk.gaussian_kl(mu, logvar)
        for _ in range(2):
            monitor.update(vk.fused_elbo(recon, x, kl=kl, reduction="none", return_terms=True))
    assert "kl_per_dim" not in out[0] and out[0]["loss"] == pytest.approx(out[0]["nll"] + out[0]["kl"], rel=1e-6)


# ---------------------------------------------------------------- values that cannot be


def problem(likelihood, recon, x, mu=None, given=True, every=1, **options):
    """The problem of one row, with x or without."""
    mu = torch.zeros(len(x), 2) if mu is None else mu
    out, weight = [], options.get("weight")
    with vk.Monitor(every, out.append, likelihood=likelihood) as monitor:
        name = likelihood or "bernoulli"
        terms = vk.fused_elbo(recon, x, mu, torch.zeros_like(mu), likelihood=name, weight=weight, return_terms=True)
        monitor.update(terms, x=x if given else None, logits=None if weight is None else recon, **options)
    return out[0]["problem"]


X = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))
BITS = (X > 0.5).byte()
PROBLEMS = {
    "values on [-1, 1]": ("bernoulli", 2 * X - 1, r"x is between -0.9\d+ and 0.9\d+, expected \[0, 1\]"),
    "values up to 255": ("continuous_bernoulli", (255 * X).floor(), r"x is between \d+ and 2\d\d, expected \[0, 1\]"),
    "log1p of counts": ("poisson", X, "x holds 48 fractions, expected counts"),
    "negative counts": ("poisson", -(9 * X).floor(), "x is between -[78] and 0, expected counts"),
    "bytes of bits": ("bernoulli", BITS, "only 0 and 1, which are read as 0 and 1/255"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_x_outside_the_support(case):
    likelihood, x, words = PROBLEMS[case]
    assert re.search(words, problem(likelihood, torch.zeros(8, 6), x))


GOOD = [
    ("bernoulli", X),
    ("bernoulli", BITS.bool()),
    ("bernoulli", BITS * 255),
    ("poisson", BITS),
    ("gaussian", 300 * X),
]


@pytest.mark.parametrize("likelihood, x", GOOD)
def test_x_inside_the_support(likelihood, x):
    assert problem(likelihood, torch.zeros(8, 6), x) == ""


def test_x_that_is_missing_does_not_count():
    x, mask = X.clone(), torch.arange(6) != 2
    x[:, 2] = -100.0
    assert problem("bernoulli", torch.zeros(8, 6), x, weight=mask) == ""
    assert problem("bernoulli", torch.zeros(8, 6), x, weight=mask[None].float()) == ""
    assert problem("bernoulli", torch.zeros(8, 6), torch.full((8, 6), math.nan), weight=torch.zeros(8, 6).bool()) == ""
    tokens = torch.tensor([[1, 2, -100]] * 8)
    seen = (tokens >= 0)[:, None]
    logits = torch.zeros(8, 5, 3)
    out = []
    monitor = vk.Monitor(1, out.append, likelihood="categorical")
    monitor.update(
        vk.fused_elbo(logits, tokens, X, X, likelihood="categorical", weight=seen[:, 0], return_terms=True),
        x=tokens,
        logits=logits,
        weight=seen,
    )
    assert out[0]["problem"] == ""


def test_an_nll_below_0_and_a_kl_that_cannot_be():
    far = torch.full((8, 6), -100.0)  # and targets of -1: the nll of a coin is -100 each
    assert problem("bernoulli", far, -torch.ones(8, 6), given=False).startswith("the mean nll is -600 nats, but")
    assert problem(None, far, -torch.ones(8, 6), given=False) == ""  # it is not known whether this is a density
    assert problem("bernoulli", far.abs(), torch.ones(8, 6), given=False) == ""
    mu = torch.zeros(8, 3)
    mu[:, 1] = 1e15
    words = "the KL of latent dim 1 is 5e+29 nats, more than a number can carry"
    assert problem(None, torch.zeros(8, 6), X, mu, given=False) == words
    assert problem("bernoulli", torch.zeros(8, 6), X, mu) == words


MODEL = vk.mlp_vae((6,), 2, (4,))
ERRORS = [
    (lambda: vk.Monitor(0), ValueError, "every: got 0"),
    (lambda: vk.Monitor(likelihood="bernouli"), ValueError, "likelihood: got 'bernouli'"),
    (lambda: vk.Monitor().update(MODEL.loss(X, return_terms=True), x=X), ValueError, "x: has no effect without"),
    (
        lambda: vk.Monitor(likelihood="bernoulli").update(MODEL.loss(X, return_terms=True), x=[1]),
        TypeError,
        "x: got list",
    ),
    (lambda: vk.Monitor(step=-1), ValueError, "step: got -1"),
    (lambda: vk.Monitor(to="metrics.txt"), ValueError, "to: got 'metrics.txt'"),
    (lambda: vk.Monitor(to=3), TypeError, "to: got int"),
    (lambda: vk.Monitor().update(torch.zeros(())), TypeError, "terms: got Tensor"),
]


@pytest.mark.parametrize("call, error, message", ERRORS)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


GIVEN = {"mu": ["active_units"], "logvar": ["logvar_min", "logvar_max"], "logits": ["saturated"]}


@pytest.mark.parametrize("lacking", [(0,), (1,), (2,), (0, 1), (1, 2)])
@pytest.mark.parametrize("name", GIVEN)
def test_a_row_that_lacks_a_column_has_an_empty_field(name, lacking, tmp_path):
    """The last row of close() has neither mu nor logits, and a user may leave them out once, also in the first row."""
    path = tmp_path / "metrics.csv"
    with vk.Monitor(1, path) as monitor:
        for step, (recon, x, mu, logvar) in enumerate(batches(3)):
            given = {"mu": mu, "logvar": logvar, "logits": recon}
            if step in lacking:
                del given[name]
            monitor.update(vk.fused_elbo(recon, x, mu, logvar, return_terms=True), **given)
    with open(path) as file:
        table = list(csv.DictReader(file))
    assert [row["step"] for row in table] == ["1", "2", "3"] and {len(row) for row in table} == {len(table[0])}
    for step, row in enumerate(table):
        for column in GIVEN[name]:
            assert (row[column] == "") == (step in lacking)
        others = [c for c in row if c not in (*GIVEN[name], "first_nonfinite", "problem")]
        assert all(row[c] != "" for c in others)


def test_the_last_row_of_a_monitor_that_is_closed(tmp_path):
    path = tmp_path / "metrics.csv"
    recon, x, mu, logvar = next(batches(1))
    with vk.Monitor(2, path) as monitor:
        for _ in range(3):
            monitor.update(vk.fused_elbo(recon, x, mu, logvar, return_terms=True), mu=mu)
    with open(path) as file:
        first, last = csv.DictReader(file)
    assert first["active_units"] != "" and last["active_units"] == "" and last["step"] == "3"
