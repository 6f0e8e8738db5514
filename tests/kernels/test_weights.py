"""weight and latent_weight on every compiled backend against the float64 reference: layouts, types, poison where the
weight is 0. Also parameters with one number for each sample, and the types of targets."""

import cases
import layouts
import levels
import pytest
import torch
from known import BACKENDS
from test_objective import compare, outcome, posterior

import vae_kernels as vk
from vae_kernels import backends
from vae_kernels.backends import reference
from vae_kernels.core.objective import Draw

pytestmark = pytest.mark.usefixtures("poisoned")

SHAPE, LATENT = (7, 3, 6, 5), (4, 9)
PAIRS = cases.pairs(BACKENDS)


def latent(prior=False, dtype=torch.float32):
    return posterior(SHAPE[0], LATENT, dtype, prior)


# ---------------------------------------------------------------- the likelihood


@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_forms(backend, likelihood, form, dtype):
    x, params = cases.draw(likelihood, SHAPE)
    compare(backend, likelihood, x, params, latent(), weight=cases.weight(cases.WEIGHTS[form](SHAPE), dtype))


@pytest.mark.parametrize("dtype, reduction", [(torch.bool, "mean"), (torch.float32, "none")], ids=str)
@pytest.mark.parametrize("shape", [s for s in cases.SHAPES if len(s) > 1], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_shapes(backend, likelihood, shape, dtype, reduction):
    x, params = cases.draw(likelihood, shape)
    weight = cases.weight(shape, dtype)
    compare(backend, likelihood, x, params, posterior(shape[0], (5,), torch.float32), reduction, weight=weight)


@pytest.mark.parametrize("of_weight", cases.WEIGHT_DTYPES, ids=str)
@pytest.mark.parametrize("dtypes", cases.DTYPES, ids=str)
def test_dtypes(backend, of_weight, dtypes):
    """The weight decides no dtype of a result."""
    x, params = cases.draw("gaussian", (5, 1037), dtypes)
    compare(backend, "gaussian", x, params, posterior(5, (3,), dtypes[0]), weight=cases.weight((5, 1037), of_weight))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("of", ["x and recon", "weight", "all"])
def test_layouts(backend, layout, of):
    x, params = cases.draw("gaussian", SHAPE)
    weight, lay = cases.weight(SHAPE, torch.float32), cases.LAYOUTS[layout]
    if of != "weight":
        x, params = lay(x), [lay(p) for p in params]
    compare(backend, "gaussian", x, params, latent(), weight=weight if of == "x and recon" else lay(weight))


@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("of_weight", ["element", "sample", "row"])
@pytest.mark.parametrize(
    ("backend", "likelihood"), [p for p in PAIRS if len(vk.formulas.LIKELIHOODS[p[1]].PARAMETERS) > 1]
)
def test_the_gradient_of_a_shared_parameter_counts_weights(backend, likelihood, form, of_weight):
    shape = (67, 3, 6, 7)
    x, params = cases.draw(likelihood, shape, form=form)
    weight = cases.weight(cases.WEIGHTS[of_weight](shape), torch.float32)
    compare(backend, likelihood, x, params, posterior(67, (3,), torch.float32), weight=weight)


POISON = [("both", form) for form in ("element", "sample", "row", "pixel")] + [
    ("x", "element"),
    ("parameters", "element"),
]


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("poison, form", POISON, ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_poison_where_the_weight_is_0(backend, likelihood, poison, form, dtype):
    """The result is that of a 0 in the place of the poison, and the gradients there are exactly 0."""
    x, params = cases.draw(likelihood, SHAPE)
    weight = cases.weight(cases.WEIGHTS[form](SHAPE), dtype)
    keep = (weight != 0).expand(SHAPE)
    bad_x = cases.poisoned(x, keep) if poison != "parameters" else x
    bad_params = [cases.poisoned(p, keep) for p in params] if poison != "x" else params
    bad = bad_x, bad_params, latent()
    ours = compare(backend, likelihood, x, params, latent(), "none", poisoned=bad, weight=weight)
    for name, value in ours.items():
        assert not name.startswith("param") or not value[~keep].any(), name


@pytest.mark.parametrize("likelihood", [name for name, f in vk.formulas.LIKELIHOODS.items() if len(f.PARAMETERS) > 1])
@pytest.mark.parametrize("form", ["number", "column", "sample"])
def test_poison_beside_shared_parameters(backend, likelihood, form):
    """No gradient of a parameter that several elements share is poisoned by one of the elements."""
    if backend == "triton" and likelihood not in cases.INTERPRETED:
        pytest.skip("Triton's interpreter is slow: one likelihood of several parameters stands for all")
    x, params = cases.draw(likelihood, SHAPE, form=form)
    weight = cases.weight(SHAPE, torch.bool)
    bad = cases.poisoned(x, weight), [cases.poisoned(params[0], weight), *params[1:]], latent()
    compare(backend, likelihood, x, params, latent(), poisoned=bad, weight=weight)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_a_batch_without_observed_elements(backend, likelihood, dtype):
    """The nll is 0, the gradients are zeros and not None, and the KL is kept."""
    x, params = cases.draw(likelihood, SHAPE)
    none = torch.zeros(SHAPE, dtype=dtype)
    nan = torch.full_like(x, float("nan"))
    ours = outcome(backend, likelihood, nan, params, latent(), "mean", weight=none)
    alone = vk.gaussian_kl(*latent(), reduction="mean", backend=backend)
    assert not ours["nll"].any()
    torch.testing.assert_close(ours["loss"], alone)
    for name in ("param0", "param1", "param2"):
        assert name not in ours or (ours[name].shape == SHAPE and not ours[name].any())


@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_a_mask_of_all_elements_changes_nothing(backend, likelihood):
    x, params = cases.draw(likelihood, (5, 1031))
    settings = {"likelihood": likelihood, "backend": backend}
    alone = vk.nll(params, x, **settings)
    close = torch.testing.assert_close
    close(vk.nll(params, x, weight=torch.ones(5, 1031, dtype=torch.bool), **settings), alone, rtol=1e-6, atol=0)
    close(vk.nll(params, x, weight=torch.full((5, 1031), 2.0), **settings), 2 * alone, rtol=1e-6, atol=0)


@pytest.mark.parametrize("form", cases.WEIGHTS)
def test_the_gradient_of_a_weight(backend, form):
    """It is rec_weight times the incoming gradient times -log p, and 0 where the weight is 0."""
    x, params = cases.draw("bernoulli", SHAPE)
    weight = cases.weight(cases.WEIGHTS[form](SHAPE), torch.float32).requires_grad_()
    incoming = torch.arange(1.0, 1 + SHAPE[0])
    loss = vk.fused_elbo(
        params, x, *latent(), weight=weight, rec_weight=1.5, reduction="none", backend=backend, return_terms=True
    )
    (grad,) = torch.autograd.grad(loss.loss, weight, incoming)
    each = vk.nll(params[0].reshape(-1), x.reshape(-1), backend="torch").view(SHAPE)
    expected = (1.5 * incoming.view(-1, 1, 1, 1) * each * (weight != 0)).sum_to_size(weight.shape)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_second_derivative(backend, n):
    x, params = cases.draw("gaussian", (3, 5), (torch.float64, torch.float64))
    keep = cases.weight((3, 5), torch.bool)
    params = [cases.poisoned(p, keep).requires_grad_() for p in params]
    weight = cases.weight((3, 5), torch.float64).requires_grad_()
    inputs = [*params, weight][:n]
    loss = vk.nll(tuple(params), cases.poisoned(x, keep), likelihood="gaussian", weight=weight, backend=backend)
    grads = torch.autograd.grad(loss.pow(2).sum(), inputs, create_graph=True)
    again = torch.autograd.grad(sum(g.pow(2).sum() for g in grads), inputs)
    for g in (*grads, *again):
        assert g.isfinite().all() and not g[~keep].any()
    assert any(g.any() for g in again)


# ---------------------------------------------------------------- positions


@pytest.mark.parametrize("dtype", [torch.bool, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("form", cases.WEIGHTS)
@pytest.mark.parametrize("inner", [False, True])
def test_positions(backend, form, dtype, inner):
    logits, x = levels.draw(5, 11, (3, 6, 4))
    logits = layouts.LAYOUTS["innermost"](logits) if inner else logits
    weight = cases.weight(cases.WEIGHTS[form](x.shape), dtype)
    compare(backend, "categorical", x, [logits], posterior(5, (3,), torch.float32), weight=weight)


# (levels, positions): more than one run of levels, and more than one block of positions
@pytest.mark.parametrize("count, positions", [(1, ()), (8, (1,)), (259, (3,)), (8, (701,))], ids=str)
def test_sizes_of_positions(backend, count, positions):
    logits, x = levels.draw(4, count, positions)
    weight = cases.weight(x.shape, torch.float32)
    compare(backend, "categorical", x, [logits], posterior(4, (3,), torch.float32), "none", weight=weight)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
def test_padded_levels(backend, dtype):
    """-100 is no level; where its weight is 0, the position costs nothing, and its logits may be NaN."""
    logits, x = levels.draw(4, 9, (13,))
    keep = cases.weight(x.shape, torch.bool)
    weight = keep if dtype == torch.bool else keep.to(dtype) * 1.5
    x = cases.poisoned(x, keep)
    logits = torch.where(keep[:, None], logits, float("nan")).requires_grad_()
    nll = vk.nll(logits, x, likelihood="categorical", weight=weight, backend=backend)
    (grad,) = torch.autograd.grad(nll.sum(), logits)
    clean = torch.where(keep[:, None], logits.detach().double(), 0.0).requires_grad_()
    truth = torch.nn.functional.cross_entropy(clean, x, reduction="none", ignore_index=-100) * weight
    (true_grad,) = torch.autograd.grad(truth.sum(), clean)
    torch.testing.assert_close(nll, truth.sum(1).float())
    torch.testing.assert_close(grad, true_grad.float())
    assert not grad.transpose(1, 2)[~keep].any()


# ---------------------------------------------------------------- the KL


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("form", [*cases.WEIGHTS])
@pytest.mark.parametrize("prior, beta", [(False, 0.6), (True, "per_dim")], ids=str)
def test_forms_of_latent_weights(backend, form, prior, dtype, beta):
    x, params = cases.draw("bernoulli", (SHAPE[0], 9))
    weight = cases.weight(cases.WEIGHTS[form]((SHAPE[0], *LATENT)), dtype)
    beta = torch.linspace(0, 2, 36).view(LATENT) if beta == "per_dim" else beta
    compare(backend, "bernoulli", x, params, latent(prior), beta=beta, latent_weight=weight)


@pytest.mark.parametrize("dims", [(1,), (20,), (3, 2, 5), (1031,), (0,)], ids=str)
@pytest.mark.parametrize(
    "dtypes, reduction", [(torch.float32, "mean"), (torch.float64, "none"), (torch.bfloat16, "none")], ids=str
)
def test_latent_dims(backend, dims, reduction, dtypes):
    rows = 5 if dims == (1031,) else 23  # more than a block of latents; Triton's interpreter is slow
    x, params = cases.draw("bernoulli", (rows, 9), (dtypes, dtypes))
    weight = cases.weight((rows, *dims), torch.float32)
    compare(backend, "bernoulli", x, params, posterior(rows, dims, dtypes), reduction, latent_weight=weight)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("form", ["element", "sample", "row", "pixel"])
@pytest.mark.parametrize("prior", [False, True])
def test_poison_where_the_latent_weight_is_0(backend, prior, form, dtype):
    x, params = cases.draw("bernoulli", (SHAPE[0], 9))
    shape = (SHAPE[0], *LATENT)
    weight = cases.weight(cases.WEIGHTS[form](shape), dtype)
    keep = (weight != 0).expand(shape)
    bad = x, params, [*(cases.poisoned(t, keep) for t in latent()), *latent(prior)[2:]]
    ours = compare(backend, "bernoulli", x, params, latent(prior), "none", poisoned=bad, latent_weight=weight)
    assert not ours["mu"][~keep].any() and not ours["logvar"][~keep].any()


@pytest.mark.parametrize("prior", [False, True])
def test_the_kl_of_each_dimension(backend, prior):
    mu, logvar, *priors = latent(prior)
    weight = cases.weight(mu.shape, torch.float32)
    settings = {"prior": priors or None, "backend": backend}
    each = vk.gaussian_kl(mu, logvar, per_dim=True, latent_weight=weight, **settings)
    torch.testing.assert_close(each, vk.gaussian_kl(mu, logvar, per_dim=True, **settings) * weight)
    whole = vk.gaussian_kl(mu, logvar, latent_weight=weight, **settings)
    torch.testing.assert_close(whole, each.flatten(1).sum(1))
    torch.manual_seed(0)
    z, kl = vk.sample_kl(mu, logvar, latent_weight=weight, per_dim=True, **settings)
    torch.manual_seed(0)
    same_z, same_kl = vk.sample_kl(mu, logvar, latent_weight=weight, **settings)
    assert torch.equal(z, same_z) and torch.equal(kl, each)
    torch.testing.assert_close(same_kl, whole)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32], ids=str)
@pytest.mark.parametrize("form", ["number", "row", "sample", "element"])
@pytest.mark.parametrize("layout", ["apart", "packed"])
@pytest.mark.parametrize("prior", [False, True])
def test_the_kl_of_a_sample(backend, form, dtype, layout, prior):
    module = backends.choose(backend, ())
    g = torch.Generator().manual_seed(5)
    both, priors = torch.randn(6, 18, generator=g), [torch.randn(6, 9, generator=g) for _ in range(2 * prior)]
    weight = cases.weight(cases.WEIGHTS[form]((6, 9)), dtype)
    incoming = torch.randn(3, 6, 9, generator=g), torch.rand(6, generator=g)
    results = []
    for who, to in ((reference, torch.float64), (reference, torch.float32), (module, torch.float32)):
        moments = (both,) if layout == "packed" else both.chunk(2, 1)
        inputs = [t.clone().to(to).requires_grad_() for t in (*moments, *priors)]
        mu, logvar = inputs[:2] if layout == "apart" else (inputs[0], None)
        draw = Draw(mu, logvar, tuple(inputs[len(moments) :]), torch.tensor((3, 4)), 3, True, weight)
        out = who.sample_kl(draw)
        grads = torch.autograd.grad(out, inputs, [w.to(to) for w in incoming])
        results.append([*out, *grads])
    for truth, theirs, ours in zip(*results, strict=True):
        cases.check(ours, theirs, truth, torch.float32, "sample")


def test_poison_beside_a_sample(backend):
    """A padded frame may have any mu and logvar: the KL is that of the others, and so are the gradients by the KL."""
    mu, logvar = latent()
    keep = cases.weight(mu.shape, torch.bool)
    bad = [cases.poisoned(t, keep).requires_grad_() for t in (mu, logvar)]
    kl = vk.sample_kl(*bad, latent_weight=keep, backend=backend)[1]
    grads = torch.autograd.grad(kl.sum(), bad)
    torch.testing.assert_close(kl, vk.gaussian_kl(mu, logvar, latent_weight=keep, backend="torch"))
    for g in grads:
        assert g.isfinite().all() and not g[~keep].any() and g[keep].any()


# ---------------------------------------------------------------- the types of targets

INTEGERS = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64]


@pytest.mark.parametrize("dtype", [torch.bool, *INTEGERS], ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), PAIRS)
def test_targets(backend, likelihood, dtype):
    """Integers and bool are read as they are."""
    x = torch.arange(2 * 1031).view(2, 1031) % 2
    _, params = cases.draw(likelihood, x.shape)
    compare(backend, likelihood, x.to(dtype), params, posterior(2, (3,), torch.float32))
    settings = {"likelihood": likelihood, "backend": backend}
    torch.testing.assert_close(vk.nll(params, x.to(dtype), **settings), vk.nll(params, x.float(), **settings))


@pytest.mark.parametrize("dtype", [torch.bool, *INTEGERS], ids=str)
def test_levels(backend, dtype):
    logits, x = levels.draw(4, 2, (5, 3))
    levels.compare(backend, logits, x.to(dtype))
