"""Tables of mixed columns: the formula against scipy and torch.distributions, the kernels against the formula in
float64, and everything that a table has to do with: missing cells, codes, the objective, autograd and compilers."""

import cases
import oracles
import pytest
import tables
import torch
from known import BACKENDS, compiled
from tables import NUMBERS, ROWS, TABLES, WEIGHTS, Mixed
from torch import distributions as D
from torch.autograd import gradcheck, gradgradcheck

import vae_kernels as vk

close = torch.testing.assert_close
NAN = float("nan")
KERNELS = [name for name in BACKENDS if name == "cpu"]
OURS = [name for name in BACKENDS if name != "triton"]  # Triton's interpreter is slow, and runs fewer tests
INTERPRETED = [*KERNELS, *[name for name in BACKENDS if name == "triton"]]
pytestmark = pytest.mark.usefixtures("poisoned")


# ---------------------------------------------------------------- the formula


@pytest.mark.parametrize("name", ["gaussian", "laplace", "poisson", "negative_binomial", "bernoulli"])
def test_a_column_has_the_formula_of_scipy(name):
    """Each column of one number, at the extreme points of the oracles. A gaussian column has half the log-variance."""
    oracle = oracles.ORACLES[name]
    x, params = oracle["sample_params"](oracles.np.random.default_rng(0), (40, 3))
    truth = torch.from_numpy(oracle["nll"](x, *params))
    packed, *scale = (torch.from_numpy(p) for p in params)
    scale = scale[0] / 2 if name == "gaussian" else scale[0] if scale else torch.zeros(())
    ours = vk.log_prob((packed, scale), torch.from_numpy(x), likelihood=Mixed([name] * 3), backend="torch")
    close(-ours, truth, rtol=1e-12, atol=1e-13)


def by_torch(likelihood, x, packed, logscale):
    """log p of each column by torch.distributions, in float64."""
    each, at, at_x = [], 0, 0
    for c, column in enumerate(likelihood.columns):
        name, option = column if isinstance(column, tuple) else (column, None)
        width = option if name == "categorical" else 1
        of_x = 1 if likelihood.codes else width
        p, v, s = packed[:, at : at + width], x[:, at_x : at_x + of_x], logscale[..., c]
        loc = p[:, 0].tanh() if option == "tanh" else p[:, 0]
        if name == "categorical":
            each.append(D.Categorical(logits=p).log_prob(v[:, 0] if likelihood.codes else v.argmax(1)))
        else:
            made = {
                "gaussian": lambda loc=loc, s=s: D.Normal(loc, s.exp()),
                "laplace": lambda loc=loc, s=s: D.Laplace(loc, s.exp()),
                "poisson": lambda loc=loc: D.Poisson(loc.exp()),
                "negative_binomial": lambda loc=loc, s=s: D.NegativeBinomial(s.exp(), logits=loc - s),
                "bernoulli": lambda loc=loc: D.Bernoulli(logits=loc),
            }[name]()
            each.append(made.log_prob(v[:, 0]))
        at, at_x = at + width, at_x + of_x
    return torch.stack(each, 1)


@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("form", ["column", "cell"])
def test_a_table_has_the_densities_of_torch(backend, codes, form):
    likelihood, x, params = tables.draw(TABLES["all"], 50, codes, torch.float64, form)
    expected = by_torch(likelihood, x, *params)
    close(vk.log_prob(params, x, likelihood=likelihood, backend=backend), expected, rtol=1e-10, atol=1e-11)
    close(vk.nll(params, x, likelihood=likelihood, backend=backend), -expected.sum(1), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("codes", [False, True])
def test_samples_have_the_means(codes):
    columns = TABLES["all"]
    likelihood, _, (packed, logscale) = tables.draw(columns, 1, codes, torch.float64)
    recon = (packed.expand(40_000, -1) * 0.5, logscale * 0.5)
    x = likelihood.sample(recon, generator=torch.Generator().manual_seed(3))
    mean = likelihood.mean(recon)
    assert x.shape == mean.shape == (40_000, likelihood.plan.x_width)
    assert vk.nll(recon, x, likelihood=likelihood).isfinite().all()
    numbers = [i for i, c in enumerate(likelihood.plan.column_of_x) if not (codes and "categorical" in columns[c])]
    error = (x.mean(0) - mean[0])[numbers] / (x.std(0) / 200)[numbers]
    assert error.abs().max() < 5  # standard errors, of 48 means at most
    if codes:
        for i in set(range(x.shape[1])) - set(numbers):
            assert x[:, i].mode().values == mean[0, i]


def test_one_seed_gives_one_sample():
    likelihood, _, recon = tables.draw(TABLES["all"], 9)
    one, two = (likelihood.sample(recon, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two) and not one.requires_grad


@pytest.mark.parametrize("backend", OURS)
def test_an_empty_table_of_any_strides(backend):
    likelihood = Mixed(["gaussian", ("categorical", 3)])
    packed, x = (torch.zeros(4, 0).T.requires_grad_() for _ in "ab")
    weight = torch.ones(2, 0).T
    nll = vk.nll((packed, torch.zeros(2)), x.detach(), likelihood=likelihood, weight=weight, backend=backend)
    assert nll.shape == (0,) and torch.autograd.grad(nll.sum(), packed)[0].shape == (0, 4)


@pytest.mark.parametrize("codes", [False, True])
def test_no_row_has_a_sample_and_means(codes):
    likelihood = Mixed(TABLES["all"], codes=codes)
    recon = torch.zeros(0, likelihood.width)
    assert likelihood.sample(recon).shape == likelihood.mean(recon).shape == (0, likelihood.plan.x_width)


# ---------------------------------------------------------------- the kernels


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_tables(backend, name, codes, rows):
    tables.compare(backend, *tables.draw(TABLES[name], min(rows, 40) if name == "many" else rows, codes))


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("name", ["all", "wide"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", tables.FORMS)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_types_and_forms(backend, name, dtype, form, reduction):
    likelihood, x, params = tables.draw(TABLES[name], 37, False, dtype, form)
    tables.compare(backend, likelihood, x.to(dtype), params, reduction=reduction)


SOME = [
    ("all", 33, False, torch.float32, "column", None), ("all", 5, True, torch.float64, "cell", "cell"),
    ("all", 3, False, torch.bfloat16, "number", "column"), ("one", 130, False, torch.float32, "sample", "sample"),
    ("categorical", 129, True, torch.float16, "none", "number"), ("long", 2, False, torch.float32, "one row", None),
    ("long", 2, True, torch.float32, "column", "cell"), ("all", 0, False, torch.float32, "column", None),
]  # fmt: skip


@pytest.mark.skipif("triton" not in BACKENDS, reason="Triton's interpreter does not run")
@pytest.mark.parametrize("case", SOME, ids=str)
def test_some_tables_in_the_interpreter(case):
    name, rows, codes, dtype, form, weight = case
    likelihood, x, params = tables.draw(TABLES[name], rows, codes, dtype, form)
    shape = None if weight is None else WEIGHTS[weight](rows, len(TABLES[name]))
    weight = None if shape is None else cases.weight(shape, torch.bool if codes else torch.float32)
    tables.compare("triton", likelihood, x.to(dtype), params, weight)


INTEGERS = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint64]


@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("of_x", INTEGERS, ids=str)
def test_integers_are_read_as_they_are(backend, of_x):
    columns = ("bernoulli", ("categorical", 2)) if of_x == torch.bool else ("poisson", ("categorical", 4), "bernoulli")
    for codes in (False, True):
        likelihood, x, params = tables.draw(columns, 40, codes)
        ours, expected = (vk.nll(params, v, likelihood=likelihood, backend=backend) for v in (x.to(of_x), x.float()))
        close(ours, expected, rtol=0, atol=0)


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("of", ["x", "packed", "both"])
@pytest.mark.parametrize("how", ["rows apart", "transposed", "expanded", "shifted"])
def test_layouts(backend, how, of):
    make = {
        "rows apart": lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
        "transposed": lambda t: t.T.contiguous().T,
        "expanded": lambda t: t[:1].expand(t.shape),
        "shifted": lambda t: torch.cat([t.flatten()[:1], t.flatten()])[1:].view(t.shape),
    }[how]
    likelihood, x, (packed, logscale) = tables.draw(TABLES["all"], 40, form="cell")
    x = x.float() if of == "packed" else make(x.float())
    packed = packed if of == "x" else make(packed)
    tables.compare(backend, likelihood, x, (packed, logscale if of == "x" else make(logscale)))


@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize("dtype", cases.WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("name", ["all", "wide"])
def test_weights(backend, form, dtype, codes, name):
    """Where the weight is 0, x and the parameters hold anything, and change no bit."""
    likelihood, x, params = tables.draw(TABLES[name], 37, codes, form="cell")
    weight = cases.weight(WEIGHTS[form](37, len(TABLES[name])), dtype)
    keep = (weight != 0).expand(37, len(TABLES[name]))
    widths = [w for _, w, _ in likelihood.plan.rows]
    of_packed = keep.repeat_interleave(torch.tensor(widths), 1)
    given = (
        cases.poisoned(x, keep if codes else of_packed),
        (cases.poisoned(params[0], of_packed), cases.poisoned(params[1], keep)),
    )
    clean = tables.compare(backend, likelihood, x, params, weight)
    ours = tables.compare(backend, likelihood, x, params, weight, given=given)
    for a, b in zip(clean, ours, strict=True):
        assert torch.equal(a, b)
    assert not ours[1][~of_packed].any() and not ours[2][~keep].any()


@pytest.mark.parametrize("backend", OURS)
def test_a_weight_has_its_gradient(backend):
    likelihood, x, params = tables.draw(TABLES["all"], 7, dtype=torch.float64)
    weight = torch.rand(7, len(TABLES["all"]), dtype=torch.float64)
    weight[:, ::3] = 0
    weight.requires_grad_()
    nll = vk.nll(params, x, likelihood=likelihood, weight=weight, backend=backend)
    (grad,) = torch.autograd.grad(nll.sum(), weight)
    truth = -vk.log_prob(params, x, likelihood=likelihood, backend="torch")
    close(grad, torch.where(weight == 0, 0, truth))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [3, 200])
@pytest.mark.parametrize("wrong", ["none", "two", "half", NAN, 3.0, -1.0, 0.5, 1e9])
def test_what_is_no_category_is_nan_in_its_own_cell(backend, width, wrong):
    codes = not isinstance(wrong, str)
    likelihood, x, params = tables.draw(("gaussian", ("categorical", width), "poisson"), 40, codes)
    x = x.float()
    clean = vk.log_prob(params, x, likelihood=likelihood, backend="torch")
    if codes:
        x[33, 1] = width if wrong == 3.0 else wrong
    else:
        x[33, 1 : 1 + width] = 0
        hot = {"none": {}, "two": {0: 1, 2: 1}, "half": {0: 0.5, 1: 0.5}}[wrong]
        for k, value in hot.items():
            x[33, 1 + k] = value
    packed = params[0].requires_grad_()
    ours = vk.log_prob((packed, params[1]), x, likelihood=likelihood, backend=backend)
    clean[33, 1] = NAN
    close(ours.detach(), clean, equal_nan=True)
    nll = vk.nll((packed, params[1]), x, likelihood=likelihood, backend=backend)
    for terms in (ours.sum(), nll.sum()):
        (grad,) = torch.autograd.grad(terms, packed)
        bad = torch.zeros_like(grad, dtype=torch.bool)
        bad[33, 1 : 1 + width] = True
        assert torch.equal(grad.isnan(), bad)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [3, 200])
def test_a_logit_of_minus_infinity_is_a_category_that_cannot_be(backend, width):
    likelihood = Mixed([("categorical", width)], codes=True)
    packed = torch.zeros(2, width)
    packed[:, 1] = -torch.inf
    packed.requires_grad_()
    nll = vk.nll(packed, torch.tensor([[0.0], [1.0]]), likelihood=likelihood, backend=backend)
    close(nll, torch.tensor([width - 1.0, torch.inf]).log())
    (grad,) = torch.autograd.grad(nll[0], packed)
    assert grad[0, 1] == 0 and grad[0, 2] > 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [3, 200])
def test_small_differences_of_large_logits(backend, width):
    """log sum e^logits of logits near 1e4 has no digit of the difference left; the value must keep the difference."""
    likelihood = Mixed([("categorical", width)], codes=True)
    packed = torch.full((1, width), -1e4)
    packed[0, :2] = torch.tensor([1e4, 1e4 - 0.5])
    truth = torch.tensor([0.5]).double().exp().log1p() - 0.0
    close(vk.nll(packed, torch.ones(1, 1), likelihood=likelihood, backend=backend), truth.float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("backend", INTERPRETED)
@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_tanh_keeps_its_digits(backend, name):
    """Near 0 the tanh is its argument, and far out its derivative is 4 e^-2|p|. Each row is compared by itself."""
    p = torch.tensor([0.0, 1e-30, -1e-20, 3e-8, -1e-4, 0.01, -0.3, 1.0, -5.0, 12.0, -20.0, 40.0])
    packed = p.unsqueeze(1).requires_grad_()
    wide = p.double().unsqueeze(1).requires_grad_()
    x = torch.full_like(p, 0.5).unsqueeze(1)
    likelihood = Mixed([(name, "tanh")])
    ours = vk.nll(packed, x, likelihood=likelihood, backend=backend)
    truth = vk.nll(wide, x.double(), likelihood=likelihood, backend="torch")
    close(ours, truth.float(), rtol=1e-6, atol=0)
    (grad,) = torch.autograd.grad(ours.sum(), packed)
    location = p.double().tanh()
    slope = 4 * (-2 * p.double().abs()).exp() / (1 + (-2 * p.double().abs()).exp()) ** 2
    by_location = location - 0.5 if name == "gaussian" else (location - 0.5).sign()
    close(grad[:, 0], (by_location * slope).float(), rtol=2e-6, atol=1e-37)


@compiled
@pytest.mark.parametrize("name", ["all", "many", "wide"])
def test_any_number_of_threads_gives_the_same_bits(name):
    likelihood, x, params = tables.draw(TABLES[name], 300 if name != "many" else 40)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(tables.outcome(likelihood, x, params, torch.linspace(1, 2, len(x)), backend="cpu"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(cases.same, other, results[0]))


# ---------------------------------------------------------------- log p of each column


@pytest.mark.parametrize("backend", INTERPRETED)
@pytest.mark.parametrize("incoming", ["each", "by row", "one", "some 0"])
def test_log_prob_has_the_gradients_of_each_column(backend, incoming):
    likelihood, x, params = tables.draw(TABLES["all"], 40, dtype=torch.float64)
    columns = len(TABLES["all"])
    g = {
        "each": torch.randn(40, columns, dtype=torch.float64),
        "by row": torch.randn(40, 1, dtype=torch.float64).expand(40, columns),
        "one": torch.ones((), dtype=torch.float64).expand(40, columns),
        "some 0": torch.randn(40, columns, dtype=torch.float64) * (torch.arange(columns) % 2),
    }[incoming]
    results = []
    for b in (backend, "torch"):
        leaves = [p.detach().requires_grad_() for p in params]
        terms = vk.log_prob(tuple(leaves), x, likelihood=likelihood, backend=b)
        results.append([terms, *torch.autograd.grad(terms, leaves, g)])
    for a, b in zip(*results, strict=True):
        close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", INTERPRETED)
def test_a_column_without_an_incoming_gradient_has_none(backend):
    likelihood, x, (packed, logscale) = tables.draw(("gaussian", ("categorical", 3), "poisson"), 4)
    packed[:, 0], packed[:, 2] = NAN, NAN
    packed.requires_grad_()
    terms = vk.log_prob((packed, logscale), x, likelihood=likelihood, backend=backend)
    (grad,) = torch.autograd.grad(terms[:, 2].sum(), packed)
    assert not grad[:, :4].any() and grad[:, 4].all()


# ---------------------------------------------------------------- the objective


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("latent", ["posterior", "prior", "kl", "free bits"])
def test_the_objective(backend, reduction, latent):
    """The terms and all gradients are those of the sum of nll and KL, written by hand."""
    g = torch.Generator().manual_seed(1)
    likelihood, x, (packed, logscale) = tables.draw(TABLES["all"], 5, dtype=torch.float64)
    mu, logvar, prior_mu, prior_logvar = torch.randn(4, 5, 4, generator=g, dtype=torch.float64).unbind()
    beta, rec_weight = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    weight = cases.weight((5, len(TABLES["all"])), torch.float64)
    inputs = [t.detach().requires_grad_() for t in (packed, logscale, x, rec_weight, beta, mu, logvar)]
    packed, logscale, x, rec_weight, beta, mu, logvar = inputs
    prior = (prior_mu, prior_logvar) if latent == "prior" else None
    kl_bd = vk.formulas.kl.gaussian_kl(mu, logvar, *(prior or ()))
    costs = kl_bd.clamp(min=0.2).sum(1) if latent == "free bits" else kl_bd.sum(1)
    if latent == "free bits":
        costs = kl_bd.sum(1).clamp(min=1.5)
    each = vk.nll((packed, logscale), x, likelihood=likelihood, weight=weight, backend="torch")
    loss = rec_weight * each + beta * costs
    pair, given = ((), {"kl": kl_bd.sum(1)}) if latent == "kl" else ((mu, logvar), {"prior": prior})
    given |= {"free_bits": (1.5, "per_sample")} if latent == "free bits" else {}
    terms = vk.fused_elbo((packed, logscale), x, *pair, **given, likelihood=likelihood, beta=beta, weight=weight,
                          rec_weight=rec_weight, reduction=reduction, return_terms=True, backend=backend)  # fmt: skip
    expected = loss if reduction == "none" else getattr(loss, reduction)()
    close(terms.loss, expected)
    close(terms.nll, each.detach())
    close(terms.kl, kl_bd.sum(1).detach())
    by_column = -weight * vk.log_prob((packed, logscale), x, likelihood=likelihood, backend="torch")
    close(terms.nll_per_column, by_column.detach().mean(0))
    assert not terms.nll_per_column.requires_grad
    incoming = torch.randn(expected.shape, generator=g, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(t, inputs, incoming, True, allow_unused=True) for t in (terms.loss, expected))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b)


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("rec_weight", [1.0, 0.37])
def test_the_gradient_is_the_same_whether_it_was_expected_or_not(backend, rec_weight):
    """The forward pass computes the gradient for the incoming gradient that came last. The bits are those of a backward
    pass for the one that came."""
    likelihood, x, params = tables.draw(TABLES["all"], 41)
    results = []
    for _ in range(3):
        leaves = [p.detach().requires_grad_() for p in params]
        kl = torch.zeros(41)
        loss = vk.fused_elbo(tuple(leaves), x, kl=kl, likelihood=likelihood, rec_weight=rec_weight, backend=backend)
        results.append(torch.autograd.grad(loss, leaves))
    leaves = [p.detach().requires_grad_() for p in params]
    nll = vk.nll(tuple(leaves), x, likelihood=likelihood, backend=backend)
    results.append(torch.autograd.grad(nll, leaves, torch.full((41,), 1 / 41) * rec_weight))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("backend", INTERPRETED)
def test_backward_twice(backend):
    likelihood, x, params = tables.draw(TABLES["all"], 12)
    leaves = [p.detach().requires_grad_() for p in params]
    nll = vk.nll(tuple(leaves), x, likelihood=likelihood, backend=backend)
    pairs = [torch.autograd.grad(nll, leaves, w * torch.ones(12), retain_graph=True) for w in (1 / 12, -2.0, 1 / 12)]
    for first, second, third in zip(*pairs, strict=True):
        close(second, -24 * first)
        assert torch.equal(third, first)


@pytest.mark.parametrize("backend", OURS)
def test_to_second_order(backend):
    columns = ("gaussian", ("laplace", "tanh"), ("categorical", 3), "negative_binomial", "bernoulli", "poisson")
    likelihood, x, params = tables.draw(columns, 2, dtype=torch.float64)
    leaves = [p.requires_grad_() for p in params]
    f = lambda *params: vk.nll(params, x, likelihood=likelihood, backend=backend)  # noqa: E731
    assert gradcheck(f, leaves) and gradgradcheck(f, leaves)


def test_torch_func():
    likelihood, x, (packed, logscale) = tables.draw(TABLES["all"], 3, dtype=torch.float64)
    f = lambda p, x: vk.nll((p, logscale), x, likelihood=likelihood)  # noqa: E731
    each = torch.func.vmap(torch.func.grad(lambda p, x: f(p[None], x[None])[0]))(packed, x)
    leaf = packed.clone().requires_grad_()
    (expected,) = torch.autograd.grad(vk.nll((leaf, logscale), x, likelihood=likelihood, backend="torch").sum(), leaf)
    close(each, expected)
    close(torch.func.jacrev(f)(packed, x).sum(0), expected)


@pytest.mark.full
@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("what", ["fused_elbo", "terms", "log_prob"])
def test_compiled_whole_for_any_batch(backend, what):
    torch._dynamo.reset()
    graphs = []
    likelihood = Mixed(TABLES["all"])

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def step(packed, logscale, x, mu, logvar):
        recon, settings = (packed, logscale), {"likelihood": likelihood, "backend": backend}
        if what == "log_prob":
            return vk.log_prob(recon, x, **settings).sum() + mu.sum() + logvar.sum()
        terms = vk.fused_elbo(recon, x, mu, logvar, beta=0.5, return_terms=what == "terms", **settings)
        return terms.loss + terms.nll_per_column.sum() if what == "terms" else terms

    compiled_step = torch.compile(step, fullgraph=True, dynamic=True, backend=count)
    for batch in (4, 3, 6):
        _, x, params = tables.draw(TABLES["all"], batch, seed=batch)
        inputs = [t.detach().requires_grad_() for t in (*params, *torch.randn(2, batch, 3).unbind())]
        ours, theirs = (f(*inputs[:2], x, *inputs[2:]) for f in (compiled_step, step))
        close(ours, theirs)
        for a, b in zip(*(torch.autograd.grad(t, inputs) for t in (ours, theirs)), strict=True):
            close(a, b)
    assert len(graphs) <= 1


@pytest.mark.full
@pytest.mark.parametrize("backend", OURS)
def test_export(backend):
    likelihood, x, params = tables.draw(TABLES["all"], 4)

    class Loss(torch.nn.Module):
        def forward(self, packed, logscale, x, weight):
            settings = {"likelihood": likelihood, "weight": weight, "reduction": "mean", "backend": backend}
            return vk.nll((packed, logscale), x, **settings)

    weight, rows = torch.ones(4, len(likelihood.columns)), torch.export.Dim("rows", min=2)
    shapes = {0: rows}, None, {0: rows}, {0: rows}
    program = torch.export.export(Loss(), (*params, x, weight), dynamic_shapes=shapes)
    assert ("vae_kernels.segments.default" in {str(node.target) for node in program.graph.nodes}) == (backend == "cpu")
    for n in (4, 9):
        _, x, params = tables.draw(TABLES["all"], n, seed=n)
        weight = torch.rand(n, weight.shape[1])
        close(program.module()(*params, x, weight), Loss()(*params, x, weight))


# ---------------------------------------------------------------- backends and models


def test_a_vae_of_a_table_trains_fills_in_and_samples():
    torch.manual_seed(0)
    columns = ("gaussian", ("categorical", 4), ("gaussian", "tanh"), "bernoulli", "poisson")
    for codes in (False, True):
        likelihood = Mixed(columns, codes=codes)
        x = likelihood.sample((2 * torch.randn(64, likelihood.width), torch.full((5,), -1.0)))

        class Decoder(torch.nn.Linear):
            def __init__(self, likelihood):
                super().__init__(2, likelihood.width)
                self.logscale = torch.nn.Parameter(torch.zeros(5))

            def forward(self, z):
                return {"packed": super().forward(z), "logscale": self.logscale}

        model = vk.VAE(torch.nn.Linear(x.shape[1], 4), Decoder(likelihood), likelihood=likelihood, latent_shape=2)
        mask = torch.rand(64, 5) > 0.2
        holes = cases.poisoned(x, mask[:, likelihood.plan.column_of_x])
        step = torch.optim.Adam(model.parameters(), lr=0.05)
        losses = []
        for _ in range(60):
            step.zero_grad()
            terms = model.loss(holes, weight=mask, return_terms=True)
            terms.loss.backward()
            step.step()
            losses.append(terms.loss.item())
        assert losses[-1] < losses[0] - 1 and terms.nll_per_column.shape == (5,)
        for means in (model.reconstruct(holes, weight=mask), model.sample(7)):
            assert means.shape[1:] == x.shape[1:] and means.isfinite().all()
        value = vk.log_marginal_likelihood(model, holes, 20, weight=mask).value
        assert value.isfinite().all()
        loss = vk.iwae(model.decoder, x, torch.zeros(64, 2), torch.zeros(64, 2), n_samples=3, likelihood=likelihood)
        assert loss.isfinite()


def test_an_order_of_columns_changes_nothing():
    likelihood, x, (packed, logscale) = tables.draw(NUMBERS, 9, dtype=torch.float64)
    order = [4, 2, 6, 0, 5, 1, 3]
    other = Mixed([NUMBERS[i] for i in order])
    recon = packed[:, order], logscale[order]
    close(
        vk.log_prob(recon, x[:, order], likelihood=other),
        vk.log_prob((packed, logscale), x, likelihood=likelihood)[:, order],
    )
