"""The likelihoods of counts against mpmath with 80 digits, for all counts and dispersions of real cells: counts from 0
to 1e6, inverse dispersions from 1e-6 to 1e8.

A value and a gradient have a relative error of at most 1e-6 in float32, and 1e-12 in float64. Two errors are allowed in
addition. First, the parameters are rounded before the computation, and no arithmetic on rounded inputs can undo this.
Second, a gradient can be a difference of two terms that are nearly equal (mean - count; the part of the deviance and
Stirling's part), and each term is rounded. `scale` has both errors. They come from the formulas in closed form, not
from the code under test.
"""

import mpmath as mp
import numpy as np
import pytest
import torch
from known import BACKENDS, compiled
from oracles import ORACLES
from scipy import stats

import vae_kernels as vk
from vae_kernels.formulas import LIKELIHOODS

NAMES = ("poisson", "negative_binomial", "zinb", "negative_binomial_mixture")
COUNTS = (0, 0, 0, 1, 1, 2, 3, 7, 30, 255, 4097, 123457, 1000000)
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-12}


def sample(name, n=400):
    """(x, *params). Half of the means are near the count, and some of these very near; the other half are anywhere."""
    rng = np.random.default_rng(11)
    x = rng.choice(COUNTS, n).astype(float)
    near = np.log(np.maximum(x, 0.5)) + rng.normal(size=n) * rng.choice([1e-5, 1e-2, 0.5], n)
    log_mean = np.where(rng.uniform(size=n) < 0.5, near, rng.uniform(-12, 14, n))
    log_size = rng.uniform(np.log(1e-6), np.log(1e8), n)
    log_size[: 2 * len(COUNTS)] = np.repeat(np.log([1e-6, 1e8]), len(COUNTS))  # both extremes, with every count
    x[: 2 * len(COUNTS)] = np.tile(COUNTS, 2)
    dropout = rng.normal(size=n) * rng.choice([1, 8, 30], n)
    if name == "negative_binomial_mixture":
        apart = rng.normal(size=n) * rng.choice([1e-5, 1e-2, 1, 5], n)
        logits = rng.normal(size=n) * rng.choice([1, 30, 1e4], n)
        return x, log_mean, np.where(rng.uniform(size=n) < 0.5, log_mean + apart, near), log_size, logits
    return x, *(log_mean, log_size, dropout)[: len(LIKELIHOODS[name].PARAMETERS)]


def negative_binomial(x, a, t):
    """(the value, the gradients, for each gradient the size of the terms whose difference it is)"""
    mean, s = mp.exp(a), mp.exp(t)
    value = (
        mp.loggamma(x + 1) + mp.loggamma(s) - mp.loggamma(x + s) + x * mp.log(1 + s / mean) + s * mp.log(1 + mean / s)
    )
    by_a = (mean - x) * s / (s + mean)
    f = (x - mean) / (s + mean)
    deviance = s * (f - mp.log(1 + f))
    by_t = s * (mp.digamma(s) - mp.digamma(x + s) + mp.log(1 + mean / s)) + (x - mean) * s / (s + mean)
    return value, (by_a, by_t), ((mean + x) * s / (s + mean), deviance + abs(by_t - deviance))


def poisson(x, a):
    mean = mp.exp(a)
    return mean - x * a + mp.loggamma(x + 1), (mean - x,), (mean + x,)


def zinb(x, a, t, d):
    n, (by_a, by_t), (size_a, size_t) = negative_binomial(x, a, t)
    kept = 1 / (1 + mp.exp(d))
    if x:
        return n - mp.log(kept), (by_a, by_t, 1 - kept), (size_a, size_t, 1 - kept)
    value = -mp.log(1 - kept + kept * mp.exp(-n))
    share = kept * mp.exp(-n + value)
    by_d = -(1 - mp.exp(-n)) * (1 - kept) * mp.exp(value) * kept
    return value, (share * by_a, share * by_t, by_d), (share * size_a, share * size_t, -by_d)


def negative_binomial_mixture(x, a, b, t, d):
    """A responsibility has the error of the difference of both components' -log p, times its derivative."""
    both = [negative_binomial(x, mean, t) for mean in (a, b)]
    weights = 1 / (1 + mp.exp(-d)), 1 / (1 + mp.exp(d))
    masses = [w * mp.exp(-n) for w, (n, _, _) in zip(weights, both, strict=True)]
    shares = [m / sum(masses) for m in masses]
    moved = shares[0] * shares[1] * (both[0][0] + both[1][0])
    by_mean = [share * grads[0] for share, (_, grads, _) in zip(shares, both, strict=True)]
    by_t = sum(share * grads[1] for share, (_, grads, _) in zip(shares, both, strict=True))
    by_d = (weights[0] * masses[1] - weights[1] * masses[0]) / sum(masses)
    sizes = [share * s[0] + moved * abs(g[0]) for share, (_, g, s) in zip(shares, both, strict=True)]
    size_t = sum(share * s[1] + moved * abs(g[1]) for share, (_, g, s) in zip(shares, both, strict=True))
    return -mp.log(sum(masses)), (*by_mean, by_t, by_d), (*sizes, size_t, abs(by_d) + moved)


def truth(name, arguments):
    """(the value and the gradients, the scale of each): float64 arrays. An error is compared with the scale."""
    f = globals()[name]
    out = []
    with mp.workdps(80):
        step = mp.mpf(10) ** -35
        for row in zip(*arguments, strict=True):
            x, *p = (mp.mpf(float(v)) for v in row)
            value, grads, sizes = f(x, *p)
            moved = [f(x, *p[:k], p[k] + step, *p[k + 1 :])[1] for k in range(len(p))]
            rounded = [abs(value) + sum(abs(a * g) for a, g in zip(p, grads, strict=True))]
            for j, size in enumerate(sizes):
                rounded.append(
                    abs(size) + sum(abs(a * (m[j] - grads[j]) / step) for a, m in zip(p, moved, strict=True))
                )
            out.append([float(v) for v in (value, *grads, *rounded)])
    columns = np.array(out).T
    half = len(columns) // 2
    return columns[:half], columns[half:]


def assert_right(name, dtype, results, expected, scales):
    """A result below the smallest normal number may be 0. So may be a share of a component, of a derivative of 1e6."""
    tiny = 4 * np.finfo(dtype).tiny * (1e6 if name == "negative_binomial_mixture" else 1)
    for what, ours, exact, scale in zip(
        ("value", *LIKELIHOODS[name].PARAMETERS), results, expected, scales, strict=True
    ):
        error = np.abs(np.asarray(ours, dtype=np.float64) - exact)
        bound = TOLERANCE[dtype] * scale + tiny
        worst = np.argmax(error / bound)
        assert (error <= bound).all(), f"{what}: {error[worst] / bound[worst]:.3g} times the bound at {worst}"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES)
def test_formula(cpp, name, dtype):
    arguments = [a.astype(dtype) for a in sample(name)]
    module = getattr(cpp, dtype.__name__)
    results = [getattr(module, name)(*arguments)]
    results += [getattr(module, f"{name}_grad")(k, *arguments) for k in range(len(arguments) - 1)]
    assert_right(name, dtype, results, *truth(name, arguments))


def close_components(dtype, n=200):
    """(x, *params) of mixtures whose means differ by a factor of 1.000001 to 1.3."""
    rng = np.random.default_rng(5)
    x = rng.choice([0, 0, 1, 3, 12, 300, 5000], n).astype(float)
    log_mean = rng.normal(size=n) * 2 + np.log(np.maximum(x, 0.5)) * rng.choice([0, 1], n)
    other = log_mean + rng.normal(size=n) * rng.choice([1e-6, 1e-3, 0.03, 0.3], n)
    return [
        a.astype(dtype) for a in (x, log_mean, other, rng.normal(size=n) * rng.choice([1, 4], n), rng.normal(size=n))
    ]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_logits_of_a_mixture_of_close_components(backend, dtype):
    """The gradient by the logits is the difference of both components' log p, times weights. It has the error of two
    terms: one is linear in the difference of the means, and one is quadratic."""
    x, *params = close_components(dtype)
    with mp.workdps(80):
        rows = [[mp.mpf(float(v)) for v in row] for row in zip(x, *params, strict=True)]
        exact = [negative_binomial_mixture(*row) for row in rows]
        shares = [1 / (1 + mp.exp(-row[4])) - e[1][3] for row, e in zip(rows, exact, strict=True)]
        sizes = []
        for (count, a, b, t, _), r, e in zip(rows, shares, exact, strict=True):
            mean, s = mp.exp(a), mp.exp(t)
            linear, bent = abs(mean - count) * s / (s + mean), (count + s) * mean * s / (s + mean) ** 2
            # a rounding of log_mean moves the slope by `bent`
            moved = abs(b - a) * (linear + bent * (abs(b - a) + abs(a) + abs(t) + 1))
            sizes.append(float(abs(e[1][3]) + r * (1 - r) * moved))
    x, *leaves = (torch.tensor(a).view(-1, 1) for a in (x, *params))
    leaves = [p.requires_grad_() for p in leaves]
    nll = vk.nll(tuple(leaves), x, likelihood="negative_binomial_mixture", backend=backend)
    grad = torch.autograd.grad(nll.sum(), leaves[3])[0].flatten().double().numpy()
    error = np.abs(grad - [float(e[1][3]) for e in exact])
    bound = 16 * np.finfo(dtype).eps * np.array(sizes) + 4 * np.finfo(dtype).tiny
    worst = np.argmax(error / bound)
    assert (error <= bound).all(), f"{error[worst] / bound[worst]:.3g} times the bound at {worst}"


@pytest.mark.parametrize("name", NAMES)
def test_reference(name):
    arguments = sample(name)
    x, *params = (torch.tensor(a) for a in arguments)
    params = [p.requires_grad_() for p in params]
    value = LIKELIHOODS[name].nll(x, *params)
    results = [value.detach(), *torch.autograd.grad(value.sum(), params)]
    assert_right(name, np.float64, results, *truth(name, arguments))


@compiled
@pytest.mark.parametrize("x_dtype", [torch.float32, torch.int32], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_loop(name, x_dtype):
    """The loop sorts counts into zeros and others, and must write each result to the right place. The shapes have one
    element in each sample, and all elements in one sample."""
    arguments = [a.astype(np.float32) for a in sample(name)]
    expected, scales = truth(name, arguments)
    for shape in ((-1, 1), (1, -1)):
        x, *params = (torch.tensor(a).view(shape) for a in arguments)
        params = [p.requires_grad_() for p in params]
        nll = vk.nll(tuple(params), x.to(x_dtype), likelihood=name, backend="cpu")
        grads = [g.flatten() for g in torch.autograd.grad(nll.sum(), params)]
        rows = shape == (-1, 1)
        results = [nll.detach().numpy() if rows else [nll.item()], *grads]
        value = (expected[0], scales[0]) if rows else (expected[:1].sum(1), scales[:1].sum(1))
        assert_right(name, np.float32, results, [value[0], *expected[1:]], [value[1], *scales[1:]])


@pytest.mark.full
@compiled
@pytest.mark.parametrize("far", [(), (700,)], ids=["none", "one"])
def test_zeros_that_nothing_explains(far):
    """For zinb, a block in which one element has p(0) below e^-60 takes a loop of its own. All elements of the block
    must be right there."""
    x, *params = (a.astype(np.float32) for a in sample("zinb", 1100))
    params[0], params[2] = params[0].clip(max=4), params[2].clip(-20, 20)  # so p(0) of the others is a normal number
    for i in far:
        x[i], params[0][i], params[1][i], params[2][i] = 0, 5, 5, -100  # NB(0) = 2^-e^5 = e^-103
    expected, scales = truth("zinb", (x, *params))
    x, *params = (torch.tensor(a).view(1, -1).requires_grad_(a is not x) for a in (x, *params))
    nll = vk.nll(tuple(params), x, likelihood="zinb", backend="cpu")
    results = [nll.detach().numpy(), *(g.flatten() for g in torch.autograd.grad(nll.sum(), params))]
    assert_right("zinb", np.float32, results, [expected[:1].sum(1), *expected[1:]], [scales[:1].sum(1), *scales[1:]])


@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
def test_oracles_are_scipys(name):
    x, params = ORACLES[name]["sample_params"](np.random.default_rng(0), (2000,))
    mean = np.exp(params[0])
    theirs = (
        stats.poisson(mean)
        if len(params) == 1
        else stats.nbinom(np.exp(params[1]), 1 / (1 + np.exp(params[0] - params[1])))
    )
    np.testing.assert_allclose(ORACLES[name]["nll"](x, *params), -theirs.logpmf(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("extreme", [-300.0, -90.0, 90.0, 300.0])
@pytest.mark.parametrize("name", NAMES)
@compiled
def test_extreme_parameters_are_finite(name, extreme):
    """No result is NaN. A result is infinite only where float32 cannot hold the mean."""
    n = len(LIKELIHOODS[name].PARAMETERS)
    x = torch.tensor([0.0, 1.0, 1000.0]).repeat(n, 1)
    params = [torch.zeros(n, 3) for _ in range(n)]
    for k, p in enumerate(params):
        p[k] = extreme
        p.requires_grad_()
    value = vk.nll(tuple(params), x, likelihood=name, backend="cpu")
    results = [value, *torch.autograd.grad(value.sum(), params)]
    assert not any(r.isnan().any() for r in results)
    if n > 1 or extreme < 0:
        assert all(r.isfinite().all() for r in results)
