"""The log density of a mixture and its gradients: the formula against scipy, and the kernels against the formula in
float64."""

import importlib
import math
import resource

import instruction_sets
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from known import BACKENDS, compiled
from tiers import every
from torch.autograd import gradcheck, gradgradcheck

import vae_kernels as vk

KERNELS = [name for name in BACKENDS if name != "torch"]
NAMES = "z", "loc", "logvar", "logits"


pytestmark = pytest.mark.usefixtures("poisoned")


def draw(n, k, d, dtype=torch.float32, spread=1.0, seed=0):
    """z, loc, logvar and logits, which require grad."""
    g = torch.Generator().manual_seed(seed)
    z, loc, logvar, logits = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((n, d), (k, d), (k, d), (k,)))
    return [t.to(dtype).requires_grad_() for t in (z * spread, loc * spread, logvar, logits)]


def incoming(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def outcome(inputs, backend, dtype=None, uniform=False):
    """log p and the gradients by name, under a random incoming gradient or (uniform) one number for all samples."""
    inputs = [t.detach().to(dtype or t.dtype).requires_grad_() for t in inputs]
    log_p = vk.mixture_log_prob(*inputs, backend=backend)
    weight = torch.full_like(log_p, 0.7) if uniform else incoming(*log_p.shape).to(log_p)
    grads = torch.autograd.grad(log_p, inputs, weight)
    for t, g in zip(inputs, grads, strict=True):
        assert g.dtype == t.dtype and g.shape == t.shape
    return dict(zip(("log_p", *NAMES), (log_p, *grads), strict=True))


def magnitudes(inputs, uniform):
    """For each gradient of the mixture: the largest element of the sum over samples of |the gradient of one sample|.

    The rounding error of a sum is relative to this number. It is not relative to the sum itself, which is small where
    terms cancel.
    """
    z, *mixture = (t.detach().double() for t in inputs)
    weight = torch.full(z.shape[:1], 0.7, dtype=torch.float64) if uniform else incoming(*z.shape[:1])
    of_one = torch.func.grad(lambda m, z, w: w * vk.mixture_log_prob(z[None], *m, backend="torch")[0])
    grads = torch.func.vmap(of_one, (None, 0, 0))(tuple(mixture), z, weight)
    return {name: grad.abs().sum(0).max() for name, grad in zip(NAMES[1:], grads, strict=True)}


def compare(inputs, uniform=False, backend="cpu"):
    """Compares with the formula in float64. The bound in float32 is twice torch's own error plus a few roundings,
    because torch may have no error by chance: the rounding of a score s, which is a relative error of the
    responsibilities e^s, and the rounding of the stored result. In float64 the truth itself is rounded, so the bound is
    the largest rounding error of the sum over the dims of a score and of the sum over the samples."""
    dtype, dims = inputs[0].dtype, inputs[0].shape[-1]
    ours, theirs = (outcome(inputs, who, uniform=uniform) for who in (backend, "torch"))
    truth = outcome(inputs, "torch", torch.float64, uniform)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    assert ours["log_p"].dtype == compute
    of_score = torch.finfo(compute).eps * (3 + min(dims, 32) if dtype == torch.float64 else 1)
    sums = magnitudes(inputs, uniform) if dtype == torch.float64 else {}
    for name, value in truth.items():
        scale = max(value.abs().max(), sums.get(name, 0))
        error, torchs = ((o[name].double() - value).abs().max() for o in (ours, theirs))
        rounding = of_score
        if name != "log_p":
            rounding = of_score * (1 + truth["log_p"].abs().max()) + torch.finfo(dtype).eps
        assert error <= 2 * torchs + rounding * scale, f"{name}: {error / scale:.1e}, torch {torchs / scale:.1e}"


# One and many samples, components and dims. Some sizes are multiples of a vector's length, and some are not. Some sizes
# have more components and samples than fit into one tile, one task or one wave.
SIZES = [
    (1, 1, 1), (1, 5, 3), (3, 1, 7), (5, 3, 2), (9, 16, 1), (17, 33, 5), (100, 70, 40), (64, 512, 64), (9, 600, 70),
    (130, 17, 300), (2500, 9, 3), (700, 1300, 4), (1, 10_000, 2), (520, 2100, 2), (3, 40, 1100),
]  # fmt: skip


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(size, dtype):
    compare(draw(*size, dtype))


@compiled
@pytest.mark.parametrize("size, seed", [((33, 1, 1), 84), ((70, 1, 1), 51)], ids=str)
def test_a_sum_over_samples_that_cancels(size, seed):
    compare(draw(*size, torch.float64, seed=seed))


# as many as one program takes, and other sizes; several programs; more dims than one chain of sums. The interpreter is
# slow, so the sizes are few.
@pytest.mark.full
@pytest.mark.skipif("triton" not in KERNELS, reason="triton cannot be run here")
@pytest.mark.parametrize("size", every(3, [(1, 1, 1), (32, 64, 2), (3, 2, 37), (33, 70, 3), (2, 130, 1)]), ids=str)
def test_sizes_of_triton(size):
    compare(draw(*size), backend="triton")


@pytest.mark.skipif("triton" not in KERNELS, reason="triton cannot be run here")
def test_triton_in_float64():
    compare(draw(33, 35, 3, torch.float64), backend="triton")


@pytest.mark.full
@pytest.mark.skipif("triton" not in KERNELS, reason="triton cannot be run here")
def test_a_program_of_triton_with_many_tiles(monkeypatch):
    """With many samples and components, a program takes several tiles one after another. The test has one program, so a
    few samples are enough."""
    pack, forward, backward = (
        importlib.import_module(f"vae_kernels.backends.triton.mixture_{name}")
        for name in ("pack", "forward", "backward")
    )
    launches = forward._forward, backward._backward
    monkeypatch.setattr(pack, "PROGRAMS", 1)
    for kept in launches:
        kept.cache_clear()
    compare(draw(130, 140, 2), backend="triton")
    for kept in launches:
        kept.cache_clear()


@compiled
@pytest.mark.parametrize("size", [s for s in SIZES if s[1] <= 600], ids=str)
def test_one_incoming_gradient_for_all(size):
    """For a small number of components, the forward pass also computes the gradients. With one incoming gradient for
    all samples, the backward pass uses these gradients."""
    compare(draw(*size), uniform=True)


@compiled
def test_gradients_ahead_are_those_of_the_backward_pass():
    inputs = draw(30, 20, 4)
    log_p = vk.mixture_log_prob(*inputs)
    by_hand = vk.mixture_log_prob(inputs[0][None], *inputs[1:])[0]  # [1, N] points: no gradients in the forward pass
    assert torch.equal(log_p, by_hand)
    for reduce in (torch.sum, torch.mean, lambda p: 3 * p.sum(), lambda p: (p * p).sum()):
        grads = [torch.autograd.grad(reduce(p), inputs, retain_graph=True) for p in (log_p, by_hand, log_p)]
        for a, b, c in zip(*grads, strict=True):
            torch.testing.assert_close(a, b)
            assert torch.equal(a, c)  # a second backward pass gives the same


@compiled
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half(dtype):
    compare(draw(33, 40, 6, dtype))


def test_formula():
    """The formula agrees with the normal densities and the softmax of scipy."""
    inputs = draw(6, 5, 3, torch.float64)
    z, loc, logvar, logits = (t.detach().numpy() for t in inputs)
    log_normal = scipy.stats.norm.logpdf(z[:, None], loc, np.exp(logvar / 2)).sum(-1)
    expected = scipy.special.logsumexp(log_normal, 1, scipy.special.softmax(logits))
    np.testing.assert_allclose(vk.mixture_log_prob(*inputs, backend="torch").detach(), expected, rtol=1e-13)


@pytest.mark.full("triton")
def test_every_input_to_second_order(backend):
    f = lambda *inputs: vk.mixture_log_prob(*inputs, backend=backend)  # noqa: E731
    inputs = draw(*((1, 2, 1) if backend == "triton" else (4, 3, 2)), torch.float64)
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)


@pytest.mark.full("triton")
def test_only_the_gradients_that_are_needed(backend):
    inputs = draw(20, 9, 3)
    log_p = vk.mixture_log_prob(*inputs, backend=backend).sum()
    every = torch.autograd.grad(log_p, inputs, retain_graph=True)
    for i, t in enumerate(inputs):
        alone = [u if u is t else u.detach() for u in inputs]
        (grad,) = torch.autograd.grad(vk.mixture_log_prob(*alone, backend=backend).sum(), t)
        torch.testing.assert_close(grad, every[i])


@pytest.mark.parametrize("away", [0.0, 1e3, 1e6])
def test_far_from_the_origin(backend, away):
    """z and loc are whole numbers, so their differences stay exact far from the origin, and log p must not change at
    all. The expanded square z^2 - 2 z m + m^2 would lose all digits there."""
    z, loc, logvar, logits = (t.detach() for t in draw(20, 30, 8))
    near = vk.mixture_log_prob(z.round(), loc.round(), logvar, logits, backend=backend)
    far = vk.mixture_log_prob(z.round() + away, loc.round() + away, logvar, logits, backend=backend)
    assert torch.equal(near, far)


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("deviations", [30.0, 1e3, 1e5])
def test_far_from_all_components(backend, deviations):
    """Far from all components, log p is so large that it has no digits after the point, but the responsibilities must
    still sum to 1. The mixture has the same component twice, so each has half of the gradient. (The plain-torch formula
    in float32, exp(score - log p), is wrong by a factor here.)"""
    z, loc, logvar, _ = (t.detach().double() for t in draw(11, 1, 5))
    direction = torch.nn.functional.normalize(z, dim=1)
    z = (loc + deviations * direction * torch.exp(logvar / 2)).float()
    inputs = [z, loc.float().expand(2, 5), logvar.float().expand(2, 5), torch.zeros(2)]
    results = outcome(inputs, backend)
    z, loc, precision = z.double(), loc.float().double(), torch.exp(-logvar.float().double())
    pull = -incoming(11)[:, None] * (z - loc) * precision
    torch.testing.assert_close(results["z"], pull.float())
    torch.testing.assert_close(results["loc"], -pull.float().sum(0).expand(2, 5) / 2)
    log_p = scipy.stats.norm.logpdf(z, loc, 1 / precision.sqrt()).sum(1)
    torch.testing.assert_close(results["log_p"].double(), torch.from_numpy(log_p), rtol=1e-6, atol=0)


def extreme(logvar, scale):
    """Six points; three of these are exactly at the mean of a component."""
    z, loc, logvars, logits = (t.detach() for t in draw(6, 4, 3))
    return [torch.cat([loc[:3], z[3:]]) * scale, loc * scale, logvars + logvar, logits]


LOGVARS, SCALES = [-200.0, -85.0, -39.0, 79.0, 200.0], [1e-30, 1.0, 1e3, 1e18]


def compare_extremes(logvar, scale, backend):
    """A kernel that stays in float32 is right for the points whose log p is in the range of float32, and gives -inf for
    the other points."""
    inputs = extreme(logvar, scale)
    z, *mixture = inputs
    log_p = outcome(inputs, "torch", torch.float64)["log_p"].float()
    assert (vk.mixture_log_prob(*inputs, backend=backend).isneginf() == log_p.isneginf()).all()
    inside = [z[log_p.isfinite()], *mixture]
    ours, truth = outcome(inside, backend), outcome(inside, "torch", torch.float64)
    for name, value in truth.items():
        keep = (value.abs() > torch.finfo(torch.float32).tiny) & value.float().isfinite()
        torch.testing.assert_close(ours[name][keep], value.float()[keep], rtol=1e-4, atol=0, msg=name)
        assert not ours[name].isnan().any(), name


@pytest.mark.full
@pytest.mark.skipif("triton" not in KERNELS, reason="triton cannot be run here")
@pytest.mark.parametrize("logvar", every(3, (-200.0, -39.0, 200.0)))
def test_what_triton_can_hold(logvar):
    for scale in (1e-30, 1.0, 1e18):
        compare_extremes(logvar, scale, "triton")


@compiled
@pytest.mark.parametrize("logvar", LOGVARS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("uniform", [False, True])
def test_what_float32_can_hold(logvar, scale, uniform):
    """float32 cannot hold some squares and precisions here. The CPU's results must still agree with float64 wherever
    float32 can hold the result."""
    inputs = extreme(logvar, scale)
    ours, truth = outcome(inputs, "cpu", None, uniform), outcome(inputs, "torch", torch.float64, uniform)
    assert torch.isfinite(truth["log_p"]).all()
    for name, value in truth.items():
        expected = value.float()
        assert not ours[name].isnan().any(), name
        keep = expected.abs() > torch.finfo(torch.float32).tiny
        torch.testing.assert_close(ours[name][keep], expected[keep], rtol=1e-4, atol=0, msg=name)


def test_components_of_no_weight_and_nan(backend):
    z, loc, logvar, logits = (t.detach() for t in draw(9, 4, 2))
    logits[1] = -math.inf
    keep = [0, 2, 3]
    expected = vk.mixture_log_prob(z, loc[keep], logvar[keep], logits[keep], backend=backend)
    inputs = [t.requires_grad_() for t in (z, loc, logvar)]
    log_p = vk.mixture_log_prob(*inputs, logits, backend=backend)
    torch.testing.assert_close(log_p, expected)
    grads = torch.autograd.grad(log_p.sum(), inputs)
    assert (grads[1][1] == 0).all() and (grads[2][1] == 0).all() and (grads[1][0] != 0).all()
    spoilt = z.detach().clone()
    spoilt[4, 1] = math.nan
    assert vk.mixture_log_prob(spoilt, loc, logvar, logits, backend=backend).isnan().tolist() == [
        i == 4 for i in range(9)
    ]


def test_whole_tiles_of_no_weight(backend):
    z, loc, logvar, logits = (t.detach() for t in draw(5, 600, 2))
    logits[:580] = -math.inf
    expected = vk.mixture_log_prob(z, loc[580:], logvar[580:], logits[580:], backend=backend)
    torch.testing.assert_close(vk.mixture_log_prob(z, loc, logvar, logits, backend=backend), expected)


@pytest.mark.full("triton")
def test_shapes_that_broadcast_and_strides(backend):
    z, loc, logvar, logits = draw(12, 5, 4)
    expected = vk.mixture_log_prob(z, loc, logvar[:1].expand(5, 4).contiguous(), backend=backend)
    for one in (logvar[0], logvar[:1]):
        torch.testing.assert_close(vk.mixture_log_prob(z, loc, one, torch.zeros(5), backend=backend), expected)
    points = z.reshape(2, 6, 4).transpose(0, 1)  # [6, 2, 4]
    log_p = vk.mixture_log_prob(points, loc, logvar[0], backend=backend)
    torch.testing.assert_close(log_p, expected.reshape(2, 6).t())
    (grad,) = torch.autograd.grad(log_p.sum(), z, retain_graph=True)  # the incoming gradient has strides of 0
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), z)[0])
    empty = vk.mixture_log_prob(z[:0], loc, logvar, logits, backend=backend)
    assert empty.shape == (0,) and (torch.autograd.grad(empty.sum(), loc)[0] == 0).all()
    assert vk.mixture_log_prob(z[0], loc, logvar, logits, backend=backend).shape == ()


def test_it_is_a_density():
    """The density sums to 1 over a grid that covers the whole mixture."""
    _, loc, logvar, logits = (t.detach().double() for t in draw(1, 3, 1))
    z = torch.linspace(-40, 40, 20_001, dtype=torch.float64)
    total = torch.exp(vk.mixture_log_prob(z[:, None], loc, logvar, logits)).sum() * (z[1] - z[0])
    torch.testing.assert_close(total, torch.tensor(1.0, dtype=torch.float64))


def test_torch_func():
    z, loc, logvar, logits = (t.detach() for t in draw(5, 3, 2, torch.float64))
    score = torch.func.grad(lambda z: vk.mixture_log_prob(z, loc, logvar, logits).sum())(z)
    torch.testing.assert_close(
        torch.func.vmap(torch.func.grad(lambda z: vk.mixture_log_prob(z, loc, logvar, logits)))(z), score
    )
    z.requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(vk.mixture_log_prob(z, loc, logvar, logits).sum(), z)[0], score)


@compiled
def test_threads_give_the_same_bits():
    inputs, threads = draw(2500, 700, 5), torch.get_num_threads()
    try:
        results = []
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(outcome(inputs, "cpu"))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(results[0][name], other[name]) for name in other)


def test_two_backward_passes(backend):
    inputs = draw(30, 7, 3)
    log_p = vk.mixture_log_prob(*inputs, backend=backend)
    first = torch.autograd.grad(log_p.sum(), inputs, retain_graph=True)
    second = torch.autograd.grad(log_p.sum() * 2, inputs)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(2 * a, b)


@compiled
def test_memory():
    """20 000 points and 20 000 components need little memory: a matrix of points x components would have 1.6 GB."""
    inputs = draw(20_000, 20_000, 1)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # noqa: E731 - megabytes
    before = peak()
    outcome(inputs, "cpu")
    assert peak() - before < 200


@pytest.mark.full
@pytest.mark.parametrize(
    "backend, dtype", [("auto", torch.float32), ("auto", torch.float64), *[(b, torch.float32) for b in BACKENDS[2:]]]
)
def test_compile(backend, dtype):
    torch._dynamo.reset()
    f = lambda *inputs: vk.mixture_log_prob(*inputs, backend=backend).mean()  # noqa: E731
    inputs = draw(9, 5, 3, dtype)
    compiled_f = torch.compile(f, fullgraph=True, backend="aot_eager")
    results = [[g(*inputs), *torch.autograd.grad(g(*inputs), inputs)] for g in (f, compiled_f)]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.full
@compiled
@pytest.mark.parametrize("isa", instruction_sets.CASES)
def test_every_instruction_set(isa, request):
    some = "(test_sizes and not triton) or (cpu and (far_from_all or no_weight))"
    instruction_sets.run(isa, request.config, __file__, "-k", some)


Z, LOC, T, V = torch.zeros(4, 3), torch.zeros(5, 3), TypeError, ValueError
ERRORS = [
    ((None, LOC, LOC), T, "z: got NoneType, expected a tensor"),
    ((Z, LOC.int(), LOC), T, "loc: got dtype torch.int32"),
    ((Z[0, 0], LOC, LOC), V, "z: got a 0-d tensor, expected [..., D]"),
    ((Z, LOC[0], LOC), V, "loc: got shape (3,), expected [K, 3]"),
    ((Z[:, :2], LOC, LOC), V, "loc: got shape (5, 3), expected [K, 2]"),
    ((Z, LOC[:0], LOC[:0]), V, "loc: got shape (0, 3), expected [K, 3], with K and D at least 1"),
    ((Z, LOC, LOC[:4]), V, "logvar: got shape (4, 3), expected one that broadcasts to loc, (5, 3)"),
    ((Z, LOC, LOC, LOC), V, "logits: got shape (5, 3), expected [5], one a component"),
    ((Z, LOC.to("meta"), LOC), V, "loc: is on meta, but z is on cpu"),
]


@pytest.mark.parametrize("arguments, error, words", ERRORS, ids=[e[2][:30] for e in ERRORS])
def test_errors(arguments, error, words):
    with pytest.raises(error) as raised:
        vk.mixture_log_prob(*arguments)
    assert words in str(raised.value)
