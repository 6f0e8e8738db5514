"""The op of kl_decomposition: the densities of the aggregate posterior and their gradients, against the formula in
float64 and against mpmath."""

import functools
import math
import resource

import instruction_sets
import mpmath
import pytest
import torch
from known import BACKENDS, compiled
from tiers import every
from torch.autograd import gradcheck, gradgradcheck

import vae_kernels as vk
from vae_kernels.backends import compiled as ops
from vae_kernels.formulas import decomposition, gaussian

pytestmark = pytest.mark.usefixtures("poisoned")
close = torch.testing.assert_close
N = 50_000  # the size of the data set
NAMES = "information", "correlation", "kl of a dimension", "z", "mu", "logvar"


def draw(batch, dims, dtype=torch.float32, spread=1.0, logvar=-1.0):
    """z, mu and logvar, which require grad."""
    g = torch.Generator().manual_seed(0)
    mu, v, eps = (torch.randn(batch, dims, generator=g, dtype=torch.float64) for _ in range(3))
    mu, v = spread * mu, logvar + 0.5 * v
    return [t.to(dtype).requires_grad_() for t in (mu + torch.exp(v / 2) * eps, mu, v)]


def outcome(inputs, backend, dtype=None, **settings):
    """The parts and the gradients by name, under random incoming gradients."""
    inputs = [t.detach().to(dtype or t.dtype).requires_grad_() for t in inputs]
    parts = vk.kl_decomposition(*inputs, backend=backend, **{"dataset_size": N, **settings})
    parts = [parts.mutual_information, parts.total_correlation, parts.dimension_wise_kl]
    grads = torch.autograd.grad(parts, inputs, [t.to(parts[0]) for t in incoming(inputs[0])])
    for t, g in zip(inputs, grads, strict=True):
        assert g.dtype == t.dtype and g.shape == t.shape
    return dict(zip(NAMES, (*parts, *grads), strict=True))


def incoming(z):
    g = torch.Generator().manual_seed(7)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for shape in (z.shape[:1], z.shape[:1], z.shape)]


def score_of(inputs):
    """The largest |log q(z|x)|, of all dimensions together. The rounding of a score is relative to the score, and is a
    relative error of the responsibilities."""
    return gaussian.nll(*(t.detach().double() for t in inputs)).sum(1).abs().max()


def lost(inputs, n=N):
    """The weight of every other posterior over the weight of the own one. Where the own posterior makes up the sum of a
    mixture, the correction of its weight makes the relative error of the sum larger by this factor."""
    return (n - 1) / (len(inputs[0]) - 1)


def compare(inputs, backend="cpu", factor=1.0, **settings):
    """Compares with the formula in float64. The bound is twice torch's own error in the dtype, plus the rounding of a
    score and of the stored result, because torch may have no error by chance. In float64 the truth is rounded too: its
    sums have up to 32 terms in a row. `factor` multiplies the rounding of float64."""
    dtype = inputs[0].dtype
    ours, theirs = (outcome(inputs, who, **settings) for who in (backend, "torch"))
    truth = outcome(inputs, "torch", torch.float64, **settings)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    rounding = torch.finfo(compute).eps * (1 + score_of(inputs)) * (32 * factor if dtype == torch.float64 else 1)
    for name, value in truth.items():
        stored = torch.finfo(dtype).eps if name in NAMES[3:] else 0
        error, torchs = ((o[name].double() - value).abs().max() for o in (ours, theirs))
        bound = 2 * torchs + (rounding + stored) * max(value.abs().max(), 1)
        assert error <= bound, f"{name}: {error:.1e}, torch {torchs:.1e}, bound {bound:.1e}"


# One sample in a vector and many, one dimension and more than a chain; more samples and posteriors than fit into a run
# or a task
SIZES = [
    (2, 1), (3, 2), (5, 3), (8, 4), (9, 1), (16, 33), (17, 5), (33, 70), (64, 10), (100, 16), (257, 3), (3, 300),
    (600, 2), (1100, 1),
]  # fmt: skip


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(size, dtype):
    compare(draw(*size, dtype))


@compiled
@pytest.mark.parametrize("estimator", ["stratified", "weighted"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype_and_estimator(estimator, dtype):
    compare(draw(21, 6, dtype), estimator=estimator)


@pytest.mark.skipif("triton" not in BACKENDS, reason="triton cannot be run here")
def test_by_the_mixtures_of_triton():
    compare(draw(5, 2), "triton")


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(2, 1), (17, 5), (70, 3)], ids=str)
def test_by_mixtures(size, dtype, monkeypatch):
    """The way of a GPU, which has no op for the whole, with the mixture's kernel of the CPU."""
    by_mixtures = functools.partial(decomposition.by_mixtures, mixture=functools.partial(ops.mixture, ahead=False))
    monkeypatch.setattr(ops, "decomposition", by_mixtures)
    inputs = draw(*size, dtype)
    compare(inputs, factor=lost(inputs))
    compare(inputs, estimator="weighted")


def exact(inputs):
    """The parts and the gradients of the stratified estimate, for a standard normal prior, with 40 digits."""
    z, mu, logvar = (t.detach().double().tolist() for t in inputs)
    batch, dims = range(len(z)), range(len(z[0]))
    a, t, e = (weight.tolist() for weight in incoming(inputs[0]))
    with mpmath.workdps(40):
        own_weight, half = mpmath.mpf(1) / N, mpmath.mpf(1) / 2
        other = (1 - own_weight) / (len(z) - 1)
        w = [[own_weight if i == j else other for j in batch] for i in batch]
        r = [[[z[i][d] - mpmath.mpf(mu[j][d]) for d in dims] for j in batch] for i in batch]
        p = [[mpmath.exp(-mpmath.mpf(logvar[j][d])) for d in dims] for j in batch]
        log_normal = lambda r, p: -half * (r * r * p - mpmath.log(p) + mpmath.log(2 * mpmath.pi))  # noqa: E731
        s = [[[log_normal(r[i][j][d], p[j][d]) for d in dims] for j in batch] for i in batch]
        q_each = [[sum(w[i][j] * mpmath.exp(s[i][j][d]) for j in batch) for d in dims] for i in batch]
        q = [sum(w[i][j] * mpmath.exp(sum(s[i][j])) for j in batch) for i in batch]
        information = [sum(s[i][i]) - mpmath.log(q[i]) for i in batch]
        correlation = [mpmath.log(q[i]) - sum(map(mpmath.log, q_each[i])) for i in batch]
        kl = [[mpmath.log(q_each[i][d]) - log_normal(mpmath.mpf(z[i][d]), 1) for d in dims] for i in batch]
        by_z = [[e[i][d] * mpmath.mpf(z[i][d]) for d in dims] for i in batch]
        by_mu, by_logvar = ([[mpmath.mpf(0) for _ in dims] for _ in batch] for _ in range(2))
        for i in batch:
            for j in batch:
                joint = (t[i] - a[i]) * w[i][j] * mpmath.exp(sum(s[i][j])) / q[i] + (a[i] if i == j else 0)
                for d in dims:
                    g = joint + (e[i][d] - t[i]) * w[i][j] * mpmath.exp(s[i][j][d]) / q_each[i][d]
                    by_z[i][d] -= g * r[i][j][d] * p[j][d]
                    by_mu[j][d] += g * r[i][j][d] * p[j][d]
                    by_logvar[j][d] += g * half * (r[i][j][d] ** 2 * p[j][d] - 1)
        tables = information, correlation, kl, by_z, by_mu, by_logvar
        as_float = lambda x: [as_float(y) for y in x] if isinstance(x, list) else float(x)  # noqa: E731
        return {n: torch.tensor(as_float(t), dtype=torch.float64) for n, t in zip(NAMES, tables, strict=True)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread, logvar", [(1.0, 0.0), (1.0, -3.0), (30.0, -4.0), (0.0, 0.0)])
def test_against_mpmath(backend, dtype, spread, logvar):
    """Posteriors that overlap, posteriors that are so far apart that e^s underflows, and posteriors with one mean."""
    inputs = draw(4, 2, dtype, spread, logvar)
    truth, ours = exact(inputs), outcome(inputs, backend)
    worst = (4 + 2) * (1 + score_of(inputs)) * torch.finfo(dtype).eps  # sums over 4 posteriors and 2 dimensions
    if backend == "triton" and dtype == torch.float64:
        worst *= lost(inputs)
    for name, value in truth.items():
        error = (ours[name].double() - value).abs().max() / max(value.abs().max(), 1)
        assert error <= worst, f"{name}: {error:.1e}, allowed {worst:.1e}"


@compiled
def test_information_of_posteriors_apart_is_exact():
    """Each z tells from which x it came. The scores are so large that float32 rounds them to 1e-4, but the mutual
    information, log N, has all digits."""
    inputs = draw(40, 16, spread=1e4, logvar=-20.0)
    assert score_of(inputs) > 1e3
    information = vk.kl_decomposition(*inputs, dataset_size=N).mutual_information
    close(information, torch.full((40,), math.log(N)), rtol=torch.finfo(torch.float32).eps, atol=0)


@compiled
@pytest.mark.parametrize("logvar", [-200.0, -85.0, 79.0, 200.0])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e3, 1e18])
def test_what_float32_can_hold(logvar, scale):
    """float32 cannot hold some squares and precisions here. The results agree with float64 where float32 can hold the
    result."""
    inputs = [scale * t.detach() for t in draw(6, 3)[:2]]
    inputs[0][:3] = inputs[1][:3]  # three samples at their means
    inputs.append(draw(6, 3, logvar=logvar)[2].detach())
    ours, truth = outcome(inputs, "cpu"), outcome(inputs, "torch", torch.float64)
    for name, value in truth.items():
        expected = value.float()
        keep = expected.isfinite() & (expected.abs() > torch.finfo(torch.float32).tiny)
        assert not ours[name].isnan().any(), name
        close(ours[name][keep], expected[keep], rtol=1e-4, atol=0, msg=name)


def test_a_nan_stays_with_its_sample(backend):
    inputs = [t.detach() for t in draw(9, 3)]
    inputs[0][4, 1] = math.nan
    parts = vk.kl_decomposition(*inputs, dataset_size=20, backend=backend)
    assert parts.mutual_information.isnan().tolist() == [i == 4 for i in range(9)]
    assert parts.total_correlation.isnan().tolist() == [i == 4 for i in range(9)]
    assert parts.dimension_wise_kl.isnan().flatten().tolist() == [i == 4 * 3 + 1 for i in range(27)]


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "triton"])  # too slow in the interpreter
def test_every_input_to_second_order(backend):
    def f(*inputs):
        weights = incoming(inputs[0])
        parts = vk.kl_decomposition(*inputs, dataset_size=7, backend=backend)
        parts = parts.mutual_information, parts.total_correlation, parts.dimension_wise_kl
        return sum((w * part**2).sum() for w, part in zip(weights, parts, strict=True))

    inputs = draw(3, 2, torch.float64)
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)


@pytest.mark.full("triton")
def test_only_the_gradients_that_are_needed(backend):
    inputs = draw(6, 3)
    kl = lambda inputs: vk.kl_decomposition(*inputs, dataset_size=20, backend=backend).kl.sum()  # noqa: E731
    every = torch.autograd.grad(kl(inputs), inputs)
    for i, t in enumerate(inputs):
        (grad,) = torch.autograd.grad(kl([u if u is t else u.detach() for u in inputs]), t)
        close(grad, every[i])


@pytest.mark.full("triton")
def test_one_part_alone(backend):
    """The incoming gradients of the other two parts are missing."""
    inputs = draw(6, 3, torch.float64)
    parts = vk.kl_decomposition(*inputs, dataset_size=20, backend=backend)
    parts = parts.mutual_information.sum(), parts.total_correlation.sum(), parts.dimension_wise_kl.sum()
    alone = [torch.autograd.grad(part, inputs, retain_graph=True) for part in parts]
    for together, *each in zip(torch.autograd.grad(sum(parts), inputs), *alone, strict=True):
        close(together, sum(each))


@pytest.mark.full("triton")
def test_two_backward_passes(backend):
    inputs = draw(6, 3)
    kl = vk.kl_decomposition(*inputs, dataset_size=20, backend=backend).total_correlation
    first = torch.autograd.grad(kl.sum(), inputs, retain_graph=True)
    second = torch.autograd.grad(2 * kl.sum(), inputs)
    for a, b in zip(first, second, strict=True):
        close(2 * a, b)


def test_functional_transforms():
    z, mu, logvar = (t.detach() for t in draw(5, 3, torch.float64))
    kl = lambda z: vk.kl_decomposition(z, mu, logvar, dataset_size=20).total_correlation.square().sum()  # noqa: E731
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(kl(leaf), leaf)
    close(torch.func.grad(kl)(z), grad)
    close(torch.func.jvp(kl, (z,), (mu,))[1], (grad * mu).sum())
    close(torch.func.vmap(kl)(torch.stack([z, mu])), torch.stack([kl(z), kl(mu)]))


@compiled
def test_threads_give_the_same_bits():
    inputs, threads = draw(150, 12), torch.get_num_threads()
    try:
        results = []
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(outcome(inputs, "cpu"))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(results[0][name], other[name]) for name in other)


@compiled
def test_memory():
    """One tensor of batch x batch x dims would have 270 MB."""
    inputs = draw(2048, 16)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # noqa: E731 - megabytes
    before = peak()
    outcome(inputs, "cpu")
    assert peak() - before < 100


@pytest.mark.full
@pytest.mark.parametrize("dynamic", every(2, [False, True]))
@pytest.mark.parametrize("dtype", every(2, [torch.float32, torch.float64]))
def test_compile(dtype, dynamic):
    torch._dynamo.reset()
    f = lambda *inputs: vk.kl_decomposition(*inputs, dataset_size=20).kl.mean()  # noqa: E731
    compiled_f = torch.compile(f, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for batch in (9, 6):
        inputs = draw(batch, 3, dtype)
        results = [[g(*inputs), *torch.autograd.grad(g(*inputs), inputs)] for g in (f, compiled_f)]
        for a, b in zip(*results, strict=True):
            close(a, b)


@pytest.mark.full
@compiled
@pytest.mark.parametrize("isa", instruction_sets.CASES)
def test_every_instruction_set(isa, request):
    some = "test_sizes or (test_against_mpmath and cpu) or exact"
    instruction_sets.run(isa, request.config, __file__, "-k", some)
