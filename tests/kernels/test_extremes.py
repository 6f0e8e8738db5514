"""Results are right for the smallest and largest numbers of every type. A NaN or an infinity affects only its own
sample."""

import functools

import cases
import pytest
import torch
from known import BACKENDS
from test_objective import outcome, posterior

import vae_kernels as vk
from vae_kernels.formulas import LIKELIHOODS

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
KERNELS = [name for name in BACKENDS if name != "torch"]
# Logarithms of variances, scales, rates and dispersions. float32 can hold e^88; no type can hold e^-1000 or e^1000.
LOGS = [-1e3, -88.0, -1.0, 0.0, 1.0, 10.0, 88.0]


def ends(dtype):
    """0, the smallest denormal and normal numbers, 1, 1e4 and the largest number of a type, with both signs."""
    info = torch.finfo(dtype)
    sizes = torch.tensor([0.0, info.smallest_normal * info.eps, info.tiny, 1.0, 1e4, info.max], dtype=torch.float64)
    return torch.cat([sizes, -sizes]).to(dtype)


def values(likelihood, name, dtype):
    """The values that the test gives to a parameter of this name."""
    if name not in ("logits", "loc", "dropout_logits", "mixture_logits"):
        return torch.tensor(LOGS).to(dtype)
    if likelihood in ("continuous_bernoulli", "discretized_logistic"):  # docs/reliability.md, "Known limits"
        return ends(dtype)[ends(dtype).abs() <= 1e4]
    return ends(dtype)


def targets(likelihood, dtype):
    info = torch.finfo(dtype)
    if likelihood in cases.COUNTS:
        return torch.tensor([0.0, 1.0, 2.0, 200.0, 60_000.0]).to(dtype)
    if LIKELIHOODS[likelihood].SUPPORT is None:
        return ends(dtype)
    return torch.tensor([0.0, info.smallest_normal * info.eps, info.tiny, 0.5, 1.0], dtype=torch.float64).to(dtype)


def computed(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def as_read_by(backend, t):
    """The number that the kernels read, in float64. The kernels of the CPU read a number as 0 if it is denormal in the
    type of the computation. Triton's interpreter does the same when it reads bfloat16."""
    wide = t.to(computed(t.dtype))
    tiny = torch.finfo(wide.dtype).tiny if backend == "cpu" or (backend, t.dtype) == ("triton", torch.bfloat16) else 0
    return torch.where(wide.abs() < tiny, 0, wide).double()


def check(ours, truth, dtype, likelihood, what, doubled=False):
    """`ours` must agree with `truth` (float64) where its type can hold the truth, be infinite where the truth is too
    large, and never be NaN.

    The allowed error is a few roundings of the type of the computation (in float64 the truth is rounded as often), and
    one rounding of the storage type. e^x is never below the smallest normal number, and a large factor can multiply
    this error. A value is a sum of terms of about a nat, so its error is relative to a nat. So is a gradient that is a
    difference of two terms.

    doubled: `ours` may be infinite where twice the truth is too large (docs/lean.md).
    """
    wide = computed(dtype)
    few = 64 if likelihood in cases.COUNTS or dtype == torch.float64 else 16
    terms = what == "nll" or likelihood in (*cases.COUNTS, "bernoulli_product")
    nat = few * torch.finfo(wide).eps if terms else 0
    tolerance = few * torch.finfo(wide).eps + torch.finfo(ours.dtype).eps
    tiny = torch.finfo(ours.dtype).smallest_normal * torch.finfo(ours.dtype).eps
    ours, largest = ours.double(), torch.finfo(ours.dtype).max
    assert not ours.isnan().any(), f"{what}: NaN at {ours.isnan().nonzero()[:3].tolist()}"
    wrong = (ours - truth).abs() > tolerance * truth.abs() + 1e6 * torch.finfo(wide).tiny + tiny + nat
    beyond = truth.abs() * (1 + tolerance) * (2 if doubled else 1) >= largest
    wrong &= ~(beyond & (ours.abs() >= largest * (1 - tolerance)) & (ours.sign() == truth.sign()))
    at = wrong.nonzero()[:3].flatten().tolist()
    assert not at, f"{what}: got {ours[at].tolist()}, expected {truth[at].tolist()} at {at}"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("backend", "likelihood"), cases.pairs(KERNELS))
def test_likelihoods_at_the_ends(backend, likelihood, dtype):
    """Every combination of a target and a value of each parameter, one in each sample, has a right nll and gradient."""
    names = LIKELIHOODS[likelihood].PARAMETERS
    grid = torch.cartesian_prod(targets(likelihood, dtype), *(values(likelihood, name, dtype) for name in names))
    x, *params = (t.contiguous() for t in grid.unbind(1))
    results = []
    for who, read in ((backend, torch.clone), ("torch", functools.partial(as_read_by, backend))):
        leaves = [read(p).requires_grad_() for p in params]
        nll = vk.nll(tuple(leaves), read(x), likelihood=likelihood, backend=who)
        results.append([nll.detach(), *torch.autograd.grad(nll.sum(), leaves)])
    fits = (x.to(computed(dtype)) - params[0].to(computed(dtype))).isfinite()
    for what, ours, truth in zip(("nll", *names), *results, strict=True):
        known = ~truth.isnan() & fits  # docs/reliability.md, "Known limits"
        doubled = (backend, likelihood) == ("lean", "gaussian") and what in ("nll", "logvar")
        check(ours[known], truth[known], dtype, likelihood, what, doubled)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("backend", KERNELS)
def test_the_sample_and_its_kl_at_the_ends(backend, dtype):
    mu, logvar = (t.contiguous() for t in torch.cartesian_prod(ends(dtype), torch.tensor(LOGS).to(dtype)).unbind(1))
    results = []
    for who, read in ((backend, torch.clone), ("torch", functools.partial(as_read_by, backend))):
        leaves = [read(t).requires_grad_() for t in (mu, logvar)]
        z, kl = vk.sample_kl(*leaves, generator=torch.Generator().manual_seed(0), backend=who)
        of_z, of_kl = (torch.autograd.grad(out.sum(), leaves, retain_graph=True) for out in (z, kl))
        results.append([z.detach(), kl.detach(), *of_z, *of_kl])
    for what, ours, truth in zip(("z", "kl", *["gradient"] * 4), *results, strict=True):
        check(ours, truth, dtype, None, what)


BAD = [float("nan"), float("inf"), float("-inf")]
ROW, COL = 3, 30  # the place where a test plants a bad number


def planted(t, value):
    t = t.clone()
    t.view(len(t), -1)[ROW, COL % t[0].numel()] = value
    return t


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(("backend", "likelihood"), cases.pairs(KERNELS))
def test_what_is_not_finite_stays_in_its_sample(backend, likelihood, bad):
    """A bad number is planted in each input in turn. The other samples keep their bits. The loss of this sample is not
    finite where the true loss is infinite. The gradient of an input with a NaN is NaN at that element and nowhere
    else."""
    x, params = cases.draw(likelihood, (5, 37))
    latent = posterior(5, (7,), torch.float32)
    latent += [t.clone() for t in posterior(5, (7,), torch.float32, seed=2)]  # a prior for each sample
    inputs = [x, *params, *latent]
    names = ["x", *(f"param{i}" for i in range(len(params))), "mu", "logvar", "prior_mu", "prior_logvar"]

    def result(who, to, x, *rest):
        params, latent = ([t.to(to) for t in group] for group in (rest[:-4], rest[-4:]))
        return outcome(who, likelihood, x.to(to), params, latent, "none")

    before = result(backend, torch.float32, *inputs)
    others = torch.arange(5) != ROW
    for i, name in enumerate(names):
        changed = [planted(t, bad) if j == i else t for j, t in enumerate(inputs)]
        after = result(backend, torch.float32, *changed)
        truth = result("torch", torch.float64, *changed)
        term = "nll" if i <= len(params) else "kl"
        for what in before:
            if what != "kl_per_dim":
                assert cases.same(after[what][others], before[what][others]), f"{what} of others, of {bad} in {name}"
        for what in ("loss", term):
            assert not (truth[what][ROW].isinf() and after[what][ROW].isfinite()), f"{what}, of {bad} in {name}"
        if bad == bad:
            continue
        assert after["loss"][ROW].isnan() and after[term][ROW].isnan(), f"NaN in {name}"
        grad = after["param0" if name == "x" else name][ROW]
        at = torch.arange(grad.numel()) == COL % grad.numel()
        assert grad[at].isnan().all() and not grad[~at].isnan().any(), f"gradient of NaN in {name}"
        if term == "kl":
            at = torch.arange(7) == COL % 7
            assert after["kl_per_dim"][at].isnan() and not after["kl_per_dim"][~at].isnan().any()


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("backend", KERNELS)
def test_what_is_shared_is_in_every_sample(backend, bad):
    """If a weight or a parameter that all samples share is bad, no loss may be finite. The user then sees the error."""
    x, (loc, logvar) = cases.draw("gaussian", (5, 37))
    shared = torch.tensor(bad)
    settings = {"likelihood": "gaussian", "reduction": "none", "backend": backend}
    mu, lv = posterior(5, (7,), torch.float32)
    assert not vk.fused_elbo((loc, shared), x, mu, lv, **settings).isfinite().any()
    assert not vk.fused_elbo((loc, logvar), x, mu, lv, rec_weight=shared, **settings).isfinite().any()
    assert not vk.fused_elbo((loc, logvar), x, mu, lv, beta=shared, **settings).isfinite().any()
    assert not vk.fused_elbo(
        (loc, planted(logvar, float("nan"))), x, mu, lv, **settings | {"reduction": "mean"}
    ).isfinite()


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("which", [0, 1])
def test_samples_of_what_is_not_finite(backend, which, bad):
    """If mu or logvar is bad at an element, only z of this element is not finite. If the incoming gradient is bad at an
    element, only the gradients of this element are."""
    inputs = posterior(5, (37,), torch.float32)

    def result(inputs, incoming):
        leaves = [t.clone().requires_grad_() for t in inputs]
        z, kl = vk.sample_kl(*leaves, generator=torch.Generator().manual_seed(0), backend=backend)
        return [z, kl[:, None], *torch.autograd.grad(z, leaves, incoming)]

    ones, at = torch.ones(5, 37), torch.zeros(5, 37, dtype=torch.bool)
    at[ROW, COL] = True
    before = result(inputs, ones)
    after = result([planted(t, bad) if i == which else t for i, t in enumerate(inputs)], ones)
    vanished = which == 1 and bad < 0  # with a variance of 0, z is mu
    assert after[0][at].isfinite() == vanished and after[1][ROW].isfinite() == False  # noqa: E712
    incoming = result(inputs, planted(ones, bad))
    assert not incoming[2][at].isfinite() and not incoming[3][at].isfinite()
    for results in (after, incoming):
        for a, b in zip(results, before, strict=True):
            keep = ~at if a.shape == at.shape else ~at.any(1)
            assert cases.same(a[keep], b[keep])


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("backend", KERNELS)
def test_levels_of_what_is_not_finite(backend, bad):
    generator = torch.Generator().manual_seed(0)
    logits, x = torch.randn(5, 9, 4, generator=generator), torch.randint(0, 9, (5, 4), generator=generator)
    results = []
    for t in (logits, planted(logits, bad)):
        leaf = t.clone().requires_grad_()
        nll = vk.nll(leaf, x, likelihood="categorical", backend=backend)
        results.append([nll, *torch.autograd.grad(nll.sum(), leaf)])
    others = torch.arange(5) != ROW
    for a, b in zip(*results, strict=True):
        assert cases.same(a[others], b[others])
    level_alone = bad < 0 and x[ROW, COL % 4] != COL // 4 % 9  # a logit of -inf only gives its level no mass
    assert results[1][0][ROW].isfinite() == level_alone


def test_the_ends_are_what_they_say():
    for dtype in FLOATS:
        sizes = ends(dtype)[:6]
        assert 0 < sizes[1] < sizes[2] <= torch.finfo(dtype).smallest_normal and sizes[1] / 2 == 0
        assert sizes[5] == torch.finfo(dtype).max and (sizes[5] * 2).isinf()
