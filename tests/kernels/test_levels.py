"""The categorical likelihood: its formula against scipy, and its kernels against cross_entropy in float64, in every
type and layout. Further tests give targets that are not a level, and the whole objective with this likelihood."""

import itertools

import fits
import layouts
import levels
import pytest
import torch
from known import BACKENDS, compiled
from levels import CATEGORICAL
from oracles import LEVELS as ORACLES
from torch.autograd import gradcheck, gradgradcheck

import vae_kernels as vk
from vae_kernels.core import layout
from vae_kernels.formulas import categorical

close = torch.testing.assert_close
NAN = float("nan")
KERNELS = [name for name in BACKENDS if name != "torch"]


def few(cases, some):
    """(backend, case) pairs: all cases for the compiled kernels, and some for Triton's interpreter, which is slow."""
    return [(b, c) for b in KERNELS for i, c in enumerate(cases) if b != "triton" or i in some]


# ---------------------------------------------------------------- the formula


@pytest.mark.parametrize("shape", [(5, 7), (3, 256, 4), (2, 1, 3, 2)], ids=str)
def test_the_formula_is_that_of_scipy(shape):
    """The tolerance is scipy's own rounding: its value is a difference of two numbers as large as the logits."""
    logits, x = levels.draw(shape[0], shape[1], shape[2:], torch.float64)
    expected = torch.from_numpy(ORACLES["categorical"](x.numpy(), logits.numpy()))
    largest = logits.nan_to_num(neginf=0).abs().amax(1)
    error = (categorical.nll(x, logits) - expected).abs()
    assert (error <= 4 * torch.finfo(torch.float64).eps * (1 + largest)).all()


def test_the_formula_keeps_small_differences_of_large_logits():
    """In float32, the difference of two large logits is exact, but log sum e^logits has lost its digits. The formula
    must keep the difference."""
    logits, x = torch.tensor([[1e4, 1e4 - 0.5, 1e4 - 3]]), torch.tensor([1])
    close(categorical.nll(x, logits), levels.truth(logits, x).float(), rtol=1e-6, atol=0)


def test_the_mean_is_that_of_the_masses():
    logits, _ = levels.draw(4, 9, (3, 2), torch.float64)
    expected = (torch.softmax(logits, 1) * torch.arange(9).view(9, 1, 1)).sum(1)
    close(categorical.mean(logits), expected)


# ---------------------------------------------------------------- the kernels


@pytest.mark.parametrize(
    ("backend", "case"),
    few([*itertools.product(levels.LEVELS, levels.POSITIONS)], some=(0, 6, 9, 27, 35, 42)),
    ids=str,
)
def test_shapes(backend, case):
    levels.compare(backend, *levels.draw(3, *case))


@pytest.mark.parametrize(
    ("backend", "case"), few([*itertools.product(levels.DTYPES, levels.TARGETS)], some=(1, 4, 11, 14)), ids=str
)
@pytest.mark.parametrize("inner", [False, True])
def test_dtypes(backend, case, inner):
    logits, x = levels.draw(3, 259, (5, 3), *case)
    levels.compare(backend, layouts.LAYOUTS["innermost"](logits) if inner else logits, x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [(1, 2, (70,), 92), (1, 2, (3, 5), 43), (3, 8, (2, 7, 3), 53)], ids=str)
def test_a_gradient_halfway_between_two_16_bit_numbers(backend, case):
    """A gradient exactly between two numbers of 16 bits may be rounded to either of them, and both are right."""
    *shape, seed = case
    levels.compare(backend, *levels.draw(*shape, torch.float16, seed=seed))


@pytest.mark.parametrize(("backend", "name"), few(layouts.LAYOUTS, some=(0, 1, 2, 5)))
@pytest.mark.parametrize("of", ["logits", "x", "both"])
def test_layouts(backend, name, of):
    logits, x = levels.draw(4, 11, (6, 7))
    if of != "x":
        logits = layouts.LAYOUTS[name](logits)
    if of != "logits":
        x = layouts.LAYOUTS[name](x.unsqueeze(1)).squeeze(1)
    levels.compare(backend, logits, x)


COPIED = ("in the middle", "batch last", "every second")


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_dense_samples_are_not_copied(name):
    logits, x = levels.draw(4, 11, (6, 7))
    logits, x = layouts.LAYOUTS[name](logits), layouts.LAYOUTS[name](x.unsqueeze(1)).squeeze(1)
    of_x, (of_logits,) = layout.likelihood(x, (logits,))
    assert (of_logits is logits) == (name not in COPIED)
    assert of_x is x or name in COPIED
    assert torch.equal(of_logits, logits) and torch.equal(of_x, x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0, 3, 4), (0, 3), (3, 2, 0)], ids=str)
def test_nothing_gives_nothing(backend, shape):
    logits = torch.zeros(shape, requires_grad=True)
    nll = vk.nll(logits, torch.zeros(shape[0], *shape[2:], dtype=torch.uint8), **CATEGORICAL, backend=backend)
    assert torch.equal(nll, torch.zeros(shape[0]))
    nll.sum().backward()
    assert logits.grad.shape == shape


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize(
    ("of_x", "wrong"),
    [(torch.uint8, 200), (torch.int16, -1), (torch.int32, -(2**31)), (torch.int64, 2**32 + 1), (torch.int64, -(2**40))],
    ids=str,
)
def test_what_is_no_level_is_nan_in_its_own_sample(backend, of_x, wrong, inner):
    logits, x = levels.draw(4, 200, (3,), of_x=of_x)
    if inner:
        logits = layouts.LAYOUTS["innermost"](logits)
    _, grad = levels.outcome(levels.truth, logits, x)
    nll = levels.truth(logits, x)
    x[2, 1], nll[2], grad[2, :, 1] = wrong, NAN, NAN
    ours = levels.outcome(lambda *a: vk.nll(*a, **CATEGORICAL, backend=backend), logits, x)
    close(ours[0], nll.float(), equal_nan=True)
    close(ours[1], grad, equal_nan=True, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [NAN, torch.inf])
@pytest.mark.parametrize("level", [0, 8, 199])
def test_a_logit_that_is_no_number_is_nan_in_its_own_sample(backend, bad, level):
    logits, x = levels.draw(4, 200, (3,))
    clean = vk.nll(logits, x, **CATEGORICAL, backend=backend)
    logits[3, level, 1] = bad
    logits.requires_grad_()
    nll = vk.nll(logits, x, **CATEGORICAL, backend=backend)
    assert nll[3].isnan() and torch.equal(nll[:3], clean[:3])
    nll.sum().backward()
    assert logits.grad[3, :, 1].isnan().any() and logits.grad[:3].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_cannot_be_costs_infinity(backend):
    logits = torch.zeros(2, 9)
    logits[1, 4] = -torch.inf
    nll = vk.nll(logits, torch.tensor([4, 4]), **CATEGORICAL, backend=backend)
    close(nll, torch.tensor([9.0, torch.inf]).log().nan_to_num(posinf=torch.inf))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(2, 9), (2, 9, 1, 4)], ids=str)
def test_what_cannot_be_has_a_gradient_of_zero(backend, shape):
    logits = torch.zeros(shape)
    logits[:, 4] = -torch.inf
    logits.requires_grad_()
    x = torch.zeros(shape[0], *shape[2:], dtype=torch.uint8)
    nll = vk.nll(logits, x, **CATEGORICAL, backend=backend)
    (1e6 * nll).sum().backward()  # a small wrong gradient times 1e6 is not flushed to 0
    assert not logits.grad[:, 4].any() and logits.grad[:, 5].all()


@compiled
def test_any_number_of_threads_gives_the_same_bits():
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for inner in (False, True):
                logits, x = levels.draw(5, 37, (1030,))
                logits = layouts.LAYOUTS["innermost"](logits) if inner else logits
                results.append(levels.outcome(lambda *a: vk.nll(*a, **CATEGORICAL, backend="cpu"), logits, x))
    finally:
        torch.set_num_threads(before)
    for (nll, grad), (first, first_grad) in zip(results[2:], results[:2] * 2, strict=True):
        assert torch.equal(nll, first) and torch.equal(grad, first_grad)


# ---------------------------------------------------------------- the objective


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("latent", ["posterior", "prior", "kl", "kl by dim"])
def test_the_objective(backend, reduction, latent):
    """The terms and all gradients of the objective are those of the sum of nll and KL, written by hand."""
    g = torch.Generator().manual_seed(1)
    logits, x = levels.draw(3, 20, (5,), torch.float64)
    mu, logvar, prior_mu, prior_logvar = torch.randn(4, 3, 4, generator=g, dtype=torch.float64).unbind()
    beta, rec_weight = torch.rand(4, generator=g, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    inputs = [logits, rec_weight, beta, mu, logvar, prior_mu, prior_logvar]
    inputs = [t.detach().requires_grad_() for t in inputs]
    logits, rec_weight, beta, mu, logvar, prior_mu, prior_logvar = inputs
    prior = (prior_mu, prior_logvar) if latent == "prior" else None
    kl_bd = vk.formulas.kl.gaussian_kl(mu, logvar, *(prior or ()))
    if latent == "kl":
        beta = beta[0]
    loss = rec_weight * levels.truth(logits, x) + (beta * kl_bd).sum(1)
    given = {"kl": kl_bd.sum(1)} if latent == "kl" else {"kl": kl_bd} if latent == "kl by dim" else {}
    pair = () if given else (mu, logvar)
    terms = vk.fused_elbo(logits, x, *pair, **given, **CATEGORICAL, prior=prior, beta=beta, rec_weight=rec_weight,
                          reduction=reduction, return_terms=True, backend=backend)  # fmt: skip
    expected = loss if reduction == "none" else getattr(loss, reduction)()
    close(terms.loss, expected)
    close(terms.nll, levels.truth(logits, x).detach())
    close(terms.kl, kl_bd.sum(1).detach())
    if latent == "kl":
        assert terms.kl_per_dim is None
    else:
        close(terms.kl_per_dim, kl_bd.mean(0).detach())
    incoming = torch.randn(expected.shape, generator=g, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(t, inputs, incoming, True, allow_unused=True) for t in (terms.loss, expected))
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            close(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_float64_posterior_makes_a_float64_loss(backend):
    logits, x = levels.draw(3, 5, (2,))
    mu = torch.randn(3, 2, dtype=torch.float64)
    terms = vk.fused_elbo(logits, x, mu, mu, **CATEGORICAL, return_terms=True, backend=backend)
    assert terms.loss.dtype == terms.nll.dtype == torch.float64


@pytest.mark.full("triton")
@pytest.mark.parametrize("backend", BACKENDS)
def test_to_second_order(backend):
    x = torch.tensor([[0, 2], [3, 1]])
    logits = torch.randn(2, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    f = lambda t: vk.nll(t, x, **CATEGORICAL, backend=backend)  # noqa: E731
    assert gradcheck(f, logits) and gradgradcheck(f, logits)


def test_torch_func():
    logits, x = levels.draw(3, 5, (2,), torch.float64)
    f = lambda logits, x: vk.nll(logits, x, **CATEGORICAL)  # noqa: E731
    each = torch.func.vmap(torch.func.grad(lambda logits, x: f(logits[None], x[None])[0]))(logits, x)
    expected = logits.clone().requires_grad_()
    levels.truth(expected, x).sum().backward()
    close(each, expected.grad)
    close(torch.func.jacrev(f)(logits, x).sum(0), expected.grad)


@pytest.mark.parametrize("backend", KERNELS)
def test_backward_twice(backend):
    logits, x = levels.draw(3, 12, (4,))
    logits.requires_grad_()
    nll = vk.nll(logits, x, **CATEGORICAL, backend=backend)
    first, second = (torch.autograd.grad(nll, logits, w * torch.ones(3), retain_graph=True)[0] for w in (1.0, -2.0))
    close(second, -2 * first)


@pytest.mark.full
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("inner", [False, True])
def test_compiled_whole_for_any_batch(backend, inner):
    torch._dynamo.reset()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def step(logits, x, mu, logvar):
        return vk.fused_elbo(logits, x, mu, logvar, **CATEGORICAL, beta=0.5, backend=backend)

    compiled_step = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager" if inner else count)
    for batch in (4, 3, 6):
        logits, x = levels.draw(batch, 7, (5, 2), seed=batch)
        logits = layouts.LAYOUTS["innermost"](logits) if inner else logits
        mu, logvar = torch.randn(2, batch, 3).unbind()
        inputs = [t.requires_grad_() for t in (logits.detach(), mu.clone(), logvar.clone())]
        ours, theirs = (f(inputs[0], x, *inputs[1:]) for f in (compiled_step, step))
        close(ours, theirs)
        for a, b in zip(*(torch.autograd.grad(t, inputs) for t in (ours, theirs)), strict=True):
            close(a, b)
    assert len(graphs) <= 1


def test_a_vae_of_levels_trains_and_reconstructs():
    torch.manual_seed(0)
    x = torch.randint(0, 4, (8, 1, 3, 3), dtype=torch.uint8)
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 36), torch.nn.Unflatten(1, (4, 1, 3, 3)))
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 4))
    model = vk.VAE(encoder, decoder, **CATEGORICAL, latent_shape=2)
    losses = fits.losses_of(model, x, 40, lr=0.1)
    assert losses[-1] < losses[0] - 1
    for means in (model.reconstruct(x), model.sample(5)):
        assert means.shape[1:] == x.shape[1:] and means.min() >= 0 and means.max() <= 3
    with pytest.raises(ValueError, match="likelihood: 'categorical' needs a decoder with levels along dimension 1"):
        vk.mlp_vae((3, 3), likelihood="categorical")
