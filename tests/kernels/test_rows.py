"""The row kind: `log_total` of the likelihoods of counts, and "multinomial". Values and gradients of every backend
against float64, scipy and mpmath."""

import math

import cases
import mpmath
import numpy as np
import pytest
import rows
import torch
from known import BACKENDS, compiled
from oracles import ROWS as ORACLES
from scipy import stats

import vae_kernels as vk
from vae_kernels.formulas import LOG_TOTAL, ROW, multinomial

close = torch.testing.assert_close
pytestmark = pytest.mark.usefixtures("poisoned")
PAIRS = [(b, name) for b in BACKENDS for name in rows.NAMES if b != "triton" or name in ("negative_binomial", *ROW)]
INF = float("inf")


def few(values, some):
    """(backend, value) pairs: all values for the compiled kernels, some for Triton's interpreter, which is slow."""
    return [(b, v) for b in BACKENDS for i, v in enumerate(values) if b != "triton" or i in some]


# ---------------------------------------------------------------- the formula


@pytest.mark.parametrize("shape", [(5, 7), (3, 2, 3), (1, 1), (4, 300)], ids=str)
def test_the_multinomial_formula_is_that_of_scipy(shape):
    x, (logits,), _ = rows.draw("multinomial", shape, (torch.float64, torch.float64))
    oracle = ORACLES["multinomial"](x.numpy(), logits.numpy())
    close(multinomial.nll(x, logits), torch.from_numpy(np.atleast_1d(oracle)), rtol=1e-12, atol=1e-12)


def test_the_multinomial_formula_keeps_its_digits_for_large_counts():
    """log n! is 1e10 here, and -log p is about 10. The oracle has 60 digits."""
    x = torch.tensor([[4e8, 3e8, 3e8 + 7, 0.0, 1.0]], dtype=torch.float64)
    logits = torch.tensor([[0.3, 0.01, 0.0, -22.0, -19.0]], dtype=torch.float64)
    with mpmath.workdps(60):
        counts, values = ([mpmath.mpf(float(v)) for v in t[0]] for t in (x, logits))
        top = mpmath.log(mpmath.fsum(mpmath.exp(v) for v in values))
        terms = [mpmath.loggamma(c + 1) - c * (v - top) for c, v in zip(counts, values, strict=True)]
        exact = float(mpmath.fsum(terms) - mpmath.loggamma(mpmath.fsum(counts) + 1))
    close(multinomial.nll(x, logits), torch.tensor([exact], dtype=torch.float64), rtol=1e-9, atol=0)


def test_the_mean_of_the_multinomial_is_the_shares():
    logits = torch.randn(3, 2, 5)
    close(multinomial.mean(logits).flatten(1), logits.flatten(1).softmax(1))


# ---------------------------------------------------------------- the kernels


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", rows.SHAPES, ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_shapes(backend, likelihood, shape, reduction):
    if backend == "triton" and shape == (2, 4099):
        pytest.skip("Triton's interpreter is slow")
    rows.compare(backend, likelihood, *rows.draw(likelihood, shape), reduction)


@pytest.mark.parametrize("dtypes", [*cases.DTYPES, *cases.COUNT_DTYPES], ids=str)
@pytest.mark.parametrize("shape", [(5, 37), (3, 1031)], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_dtypes(backend, likelihood, dtypes, shape):
    rows.compare(backend, likelihood, *rows.draw(likelihood, shape, dtypes))


@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("shape", [(37, 3, 2, 7), (11, 4, 9, 17)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), [p for p in PAIRS if p[1] in ("negative_binomial", "zinb")])
def test_forms_of_the_other_parameters(backend, likelihood, form, shape, dtype):
    rows.compare(backend, likelihood, *rows.draw(likelihood, shape, (dtype, torch.float32), form), "sum")


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("of", ["recon", "x", "both"])
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_layouts(backend, likelihood, layout, of):
    x, params, log_total = rows.draw(likelihood, (5, 4, 6, 7))
    lay = cases.LAYOUTS[layout]
    rows.compare(
        backend,
        likelihood,
        x if of == "recon" else lay(x),
        params if of == "x" else [lay(p) for p in params],
        log_total,
    )


@pytest.mark.parametrize("dtype", cases.WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("shape", [(5, 3, 4, 7), (4, 3, 5, 19), (3, 1, 1, 1)], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), [p for p in PAIRS if p[1] in LOG_TOTAL])
def test_weights(backend, likelihood, form, dtype, shape):
    weight = cases.weight(cases.WEIGHTS[form](shape), dtype)
    rows.compare(backend, likelihood, *rows.draw(likelihood, shape), weight=weight)


@pytest.mark.parametrize("dtype", cases.WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("form", ["number", "sample"])
@pytest.mark.parametrize("shape", [(5, 3, 4, 7), (5, 300), (3, 1), (4,), (1, 6)], ids=str)
@pytest.mark.parametrize("likelihood", ROW)
@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_of_rows(backend, likelihood, form, dtype, shape):
    weight = cases.weight(cases.WEIGHTS[form](shape), dtype)
    rows.compare(backend, likelihood, *rows.draw(likelihood, shape), weight=weight)


@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_a_weight_of_a_sample_is_a_factor(backend, likelihood):
    """Value and gradients, also that of log_total, are the weight times what they are without a weight."""
    x, params, log_total = rows.draw(likelihood, (4, 200))
    weight = torch.tensor([0.5, 1.0, 0.0, 1.5])
    given = likelihood, x, params, log_total
    ours = rows.outcome(rows.fused, *given, torch.ones(4), backend=backend, weight=weight[:, None])
    nll, *grads = rows.outcome(rows.fused, *given, weight, backend=backend)
    for a, b in zip(ours, (weight * nll, *grads), strict=True):
        close(a, b, rtol=1e-6, atol=1e-6 * b.abs().max().item())


@pytest.mark.parametrize("likelihood", ["negative_binomial", "zinb"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_of_16_bits_is_rounded_once(backend, likelihood):
    """One share is close to 1, and its count is far from its mean. The gradient of its logit is then a difference that
    is 20 times smaller than what is subtracted. bfloat16 would lose most of its digits before the subtraction."""
    x, params, log_total = rows.draw(likelihood, (3, 300), (torch.bfloat16, torch.float32))
    params[0], log_total = params[0].nan_to_num(neginf=-1), torch.tensor([13.0, 13.5, 14.0])
    params[0][:, 0], x[:, 0], x[:, 1:] = 18, torch.tensor([0.0, 5e5, 2e6]), 0
    for p in params[1:]:
        p[:, 0] = 6
    wide = [p.double().requires_grad_() for p in params]
    (truth,) = torch.autograd.grad(rows.truth(likelihood, x, wide, log_total).sum(), wide[:1])
    logits = params[0].requires_grad_()
    nll = vk.nll((logits, *params[1:]), x, likelihood=likelihood, log_total=log_total, backend=backend)
    (grad,) = torch.autograd.grad(nll.sum(), logits)
    subtracted = 800  # about e^6 times the relative distance of the count from its mean
    assert ((grad.double() - truth).abs() <= 2**-8 * truth.abs() + 8e-6 * subtracted).all()


@pytest.mark.parametrize("form", ["element", "sample", "row"])
@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (6, 3, 4, 50)], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_poison_where_the_weight_is_0(backend, likelihood, form, shape):
    """NaN in x and in the parameters beside the logits reaches nothing. The logits stay finite."""
    if likelihood in ROW and form != "sample":
        pytest.skip("a row has one weight")
    x, params, log_total = rows.draw(likelihood, shape)
    weight = cases.weight(cases.WEIGHTS[form](shape), torch.float32)
    keep = (weight != 0).expand(shape)
    bad = cases.poisoned(x, keep), [params[0], *(cases.poisoned(p, keep) for p in params[1:])], log_total
    ours = rows.compare(backend, likelihood, x, params, log_total, weight=weight, poisoned=bad)
    for grad in ours[2 : 1 + len(params)]:
        assert not grad[~keep].any()


# ---------------------------------------------------------------- log_total


@pytest.mark.parametrize("form", ["[B]", "[B, 1]", "strided", "one for all", "float64", "bfloat16"])
@pytest.mark.parametrize(("backend", "likelihood"), [p for p in PAIRS if p[1] in LOG_TOTAL])
def test_forms_of_log_total(backend, likelihood, form):
    x, params, log_total = rows.draw(likelihood, (5, 3, 7))
    make = {
        "[B]": lambda t: t,
        "[B, 1]": lambda t: t[:, None],
        "strided": lambda t: torch.stack([t, t], 1)[:, 0],
        "one for all": lambda t: t[:1].expand(5),
        "float64": lambda t: t.double(),
        "bfloat16": lambda t: t.bfloat16(),
    }
    given = make[form](log_total)
    leaf = given.detach().requires_grad_()
    nll = vk.nll(tuple(params), x, likelihood=likelihood, log_total=leaf, backend=backend)
    true = given.detach().double().requires_grad_()
    expected = rows.truth(likelihood, x, params, true)
    close(nll.double(), expected, rtol=1e-5, atol=1e-5)
    (ours,), (theirs,) = torch.autograd.grad(nll.sum(), leaf), torch.autograd.grad(expected.sum(), true)
    assert ours.shape == leaf.shape and ours.dtype == leaf.dtype
    loose = 1e-2 if form == "bfloat16" else 1e-5
    close(ours.double(), theirs, rtol=loose, atol=loose * theirs.abs().max().item())


@pytest.mark.parametrize("wanted", ["logits", "log_total", "others"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_one_gradient_alone(backend, likelihood, wanted, dtype):
    x, params, log_total = rows.draw(likelihood, (4, 300), (dtype, torch.float32))
    tensors = {"logits": params[:1], "others": params[1:], "log_total": [] if log_total is None else [log_total]}
    if not tensors[wanted]:
        pytest.skip(f"{likelihood} has none")
    settings = {"likelihood": likelihood, "log_total": log_total, "backend": backend}
    for t in (*params, *tensors["log_total"]):
        t.requires_grad_()
    together = torch.autograd.grad(vk.nll(tuple(params), x, **settings).sum(), tensors[wanted])
    for t in (*params, *tensors["log_total"]):
        t.requires_grad_(any(t is one for one in tensors[wanted]))
    alone = torch.autograd.grad(vk.nll(tuple(params), x, **settings).sum(), tensors[wanted])
    assert all(cases.same(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("shape", [(3, 5), (3, 700)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("backend", "likelihood"), [p for p in PAIRS if p[1] in LOG_TOTAL])
def test_a_sample_without_counts(backend, likelihood, shape, weighted):
    """log_total = -inf: value and gradients are 0 for x = 0, and the other samples are as they are without this one."""
    x, params, log_total = rows.draw(likelihood, shape)
    x[1], log_total[1] = 0, -INF
    weight = torch.ones(shape) if weighted else None
    nll, *grads = rows.compare(backend, likelihood, x, params, log_total, weight=weight)
    assert nll[1] == 0 and not any(g[1].any() for g in grads)


@pytest.mark.parametrize("shape", [(3, 6), (3, 700)], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_a_logit_of_minus_infinity_removes_its_element(backend, likelihood, shape):
    """The result is that of the tensors without the element, and the gradient of the logit is 0."""
    x, params, log_total = rows.draw(likelihood, shape)
    cut = slice(3, None)
    whole = [p.clone() for p in params]
    whole[0][:, :3], x[:, :3] = -INF, 0
    nll, *grads = rows.compare(backend, likelihood, x, whole, log_total)
    few, *few_grads = rows.compare(
        backend, likelihood, x[:, cut].contiguous(), [p[:, cut].contiguous() for p in whole], log_total
    )
    close(nll, few, rtol=1e-5, atol=1e-5)
    assert not grads[0][:, :3].any()
    close(grads[0][:, cut], few_grads[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 50), (2, 600)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_of_the_logits_of_poisson_has_no_total_in_it(backend, dtype, shape):
    """It is n share - x, also where the total is 1e12 times the sum of x: no difference of large numbers."""
    x, (logits,), _ = rows.draw("poisson", shape, (dtype, torch.float32))
    logits = logits.nan_to_num(neginf=-3).requires_grad_()
    n = x.double().sum(1, keepdim=True)
    log_total = (n.log().flatten() + math.log(1e12)).float()
    nll = vk.nll(logits, x, likelihood="poisson", log_total=log_total, backend=backend)
    (grad,) = torch.autograd.grad(nll.sum(), logits)
    exact = n * logits.detach().double().softmax(1) - x.double()
    eps = max(torch.finfo(dtype).eps, 3e-6 if dtype != torch.float64 else 1e-13)
    assert ((grad.double() - exact).abs() <= eps * (n * logits.detach().double().softmax(1) + x.double())).all()


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_a_number_that_all_logits_share_changes_nothing(backend, likelihood, offset):
    """The logits are multiples of 1/8, so that the sum is exact in float32."""
    x, params, log_total = rows.draw(likelihood, (3, 600))
    params[0] = (8 * params[0]).round() / 8
    first = rows.compare(backend, likelihood, x, params, log_total)
    second = rows.compare(backend, likelihood, x, [params[0] + offset, *params[1:]], log_total)
    for a, b in zip(first, second, strict=True):
        close(a, b, rtol=1e-6, atol=1e-6 * a.abs().max().item())


@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e4])
@pytest.mark.parametrize("total", [1, 10**7])
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_logits_far_apart(backend, likelihood, scale, total):
    """Shares from 1 down to e^-10000: values and gradients stay finite, and right."""
    x, params, log_total = rows.draw(likelihood, (3, 300), total=total)
    params[0] = params[0].nan_to_num(neginf=-1) * scale / 1.5
    share = params[0].double().softmax(1)
    x = torch.from_numpy(np.random.default_rng(1).poisson((share * total).numpy())).float()
    ours = rows.compare(backend, likelihood, x, params, log_total)
    assert all(t.isfinite().all() for t in ours)


@pytest.mark.parametrize("backend", BACKENDS)
def test_multinomial_against_scipy_in_float32(backend):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(2000, 0.1), size=4) + 1e-12
    shares /= shares.sum(1, keepdims=True)
    x = np.stack([rng.multinomial(n, p) for n, p in zip((1, 30, 5000, 2_000_000), shares, strict=True)])
    exact = -stats.multinomial.logpmf(x, x.sum(1), shares)
    nll = vk.nll(
        torch.from_numpy(np.log(shares)).float(), torch.from_numpy(x), likelihood="multinomial", backend=backend
    )
    close(nll.double(), torch.from_numpy(exact), rtol=2e-6, atol=1e-5)


@compiled
@pytest.mark.parametrize("likelihood", rows.NAMES)
@pytest.mark.parametrize("shape", [(40, 33), (40, 1500)], ids=str)
def test_any_number_of_threads_gives_the_same_bits(likelihood, shape):
    case, before, results = rows.draw(likelihood, shape, form="column"), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            incoming = torch.linspace(1, 2, 40)
            results.append(rows.outcome(rows.fused, likelihood, *case, incoming, backend="cpu"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(cases.same, other, results[0]))
