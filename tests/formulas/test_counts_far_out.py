"""negative_binomial and zinb where log_mean and log_inverse_dispersion are far out, against mpmath.

The exponential of such a logarithm leaves the range of float32, or that of float64.

A value has a relative error of 1e-6 in float32 and 1e-12 in float64, with the rounding of the parameters. A gradient
has the same error relative to the larger gradient, or to a nat: beyond that, a gradient that is 1e-9 of the other one
may be 0.
"""

import itertools

import mpmath as mp
import numpy as np
import pytest
import torch
from known import BACKENDS
from test_counts import TOLERANCE, negative_binomial

import vae_kernels as vk
from vae_kernels.formulas import LIKELIHOODS

FAR = (-1000.0, -88.0, -70.0, -41.0, -10.0, 1.0, 41.0, 61.0, 86.0, 300.0)
APART = (-21.0, -3.0, 0.0, 3.0, 21.0)  # log_mean - log_inverse_dispersion, where both are about as large
PAIRS = [*itertools.product(FAR, FAR), *((t + d, t) for t in (-320.0, -160.0, -75.0, 50.0, 75.0, 400.0) for d in APART)]
COUNTS = (0.0, 1.0, 123457.0)
DROPOUT = -1.5
HOLDERS = {np.float32: torch.float32, np.float64: torch.float64}


@pytest.fixture(scope="module")
def truth():
    """(x, log_mean, log_inverse_dispersion) and the value and both gradients of negative_binomial, float64."""
    arguments, results = [], []
    for x, (a, t) in itertools.product(COUNTS, PAIRS):
        # log Gamma(x + s) - log Gamma(s) loses as many digits as s has
        with mp.workdps(60 + int(max(a, t, 0) / 2)):
            value, grads, _ = negative_binomial(*map(mp.mpf, (x, a, t)))
        arguments.append((x, a, t))
        results.append([float(v) for v in (value, *grads)])
    return np.array(arguments).T, np.array(results).T


def assert_right(dtype, results, arguments, expected):
    """No result is NaN. A result that the type cannot hold is infinite."""
    largest, tolerance = np.finfo(dtype).max, TOLERANCE[dtype]
    value, *grads = expected
    holds = np.abs(expected).max(0) < largest  # a gradient may be anything beside a value that is infinite
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.maximum(1, np.abs(grads).max(0))
        rounded = sum(np.abs(p * g) for p, g in zip(arguments[1:], grads, strict=True))
        bounds = [np.maximum(1, np.abs(value)) + rounded, *[size + rounded] * 2]
        for what, ours, exact, bound in zip(("value", "log_mean", "t"), results, expected, bounds, strict=True):
            error = np.abs(np.asarray(ours, np.float64) - exact)
            wrong = holds & ~(error <= tolerance * bound)
            assert not wrong.any(), f"{what}: {np.asarray(ours)[wrong][:4]}, expected {exact[wrong][:4]}: " + str(
                arguments[:, wrong][:, :4].T
            )
    assert (np.asarray(results[0])[value > largest] == np.inf).all()
    assert not np.isnan(results[0]).any()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_formula(cpp, dtype, truth):
    arguments, expected = truth
    module, inputs = getattr(cpp, dtype.__name__), arguments.astype(dtype)
    results = [module.negative_binomial(*inputs)]
    results += [module.negative_binomial_grad(k, *inputs) for k in range(2)]
    assert_right(dtype, results, arguments, expected)


# In float32 the backend "torch" has NaN in some of these gradients: docs/reliability.md, "Known limits".
LOOPS = [(b, dtype) for b in BACKENDS for dtype in TOLERANCE if (b, dtype) != ("torch", np.float32)]


@pytest.mark.parametrize("backend, dtype", LOOPS)
@pytest.mark.parametrize("name", ["negative_binomial", "zinb"])
def test_loop(name, backend, dtype, truth):
    """One element in each sample. zinb has the results of negative_binomial for x > 0, and the cost of no dropout."""
    arguments, expected = truth
    if name == "zinb":
        kept = arguments[0] > 0
        arguments, expected = arguments[:, kept], expected[:, kept] + [[np.log1p(np.exp(DROPOUT))], [0], [0]]
    x, *params = (torch.tensor(a, dtype=HOLDERS[dtype]).view(-1, 1) for a in arguments)
    params = [p.requires_grad_() for p in params]
    dropout = (torch.full_like(x, DROPOUT),) * (name == "zinb")
    nll = vk.nll((*params, *dropout), x, likelihood=name, backend=backend)
    grads = torch.autograd.grad(nll.sum(), params)
    assert_right(dtype, [t.detach().flatten().numpy() for t in (nll, *grads)], arguments, expected)


def test_second_derivatives():
    """The derivatives of the reference's gradients, where one of the logarithms is far out, by finite differences."""
    x = torch.tensor([1.0, 30.0, 30.0, 7.0, 7.0], dtype=torch.float64)
    a = torch.tensor([-400.0, 3.0, 600.0, -400.0, 5.0], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([-401.0, -700.0, 2.0, 1.0, 700.0], dtype=torch.float64, requires_grad=True)
    nll = lambda a, t: LIKELIHOODS["negative_binomial"].nll(x, a, t)  # noqa: E731
    assert torch.autograd.gradcheck(nll, (a, t))
    assert torch.autograd.gradgradcheck(nll, (a, t))
