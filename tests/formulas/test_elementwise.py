"""csrc/formulas element by element, without our loops (conftest.py), with and without hardware fma, against the
plain-torch reference in float64, scipy, and mpmath.

The bound of an error is a small number of roundings. One rounding of the value f costs eps |f|. One rounding of an
intermediate result costs at most as much as a rounding of a parameter p, eps |p df/dp|, whatever f is. STEPS counts
these roundings. A target of 0 or 1 multiplies and subtracts exactly, so the bound has no rounding of such an x.
"""

from itertools import product

import mpmath
import numpy as np
import oracles
import pytest
import torch

from vae_kernels.formulas import LIKELIHOODS, kl, reparameterize

DTYPES = {"float32": np.float32, "float64": np.float64}
# The errors of the longest computation, in ulps: the square of a difference times two exponentials (2 ulps each), and a
# sum.
STEPS = 12  # 2 (3 / 2 + 2 * 2) + 1


def tensors(arrays):
    return [torch.tensor(np.asarray(a, dtype=np.float64)).requires_grad_() for a in arrays]


def reference(f, *arguments):
    """(value, grads, hessian) of an element-wise f in float64, as numpy arrays."""
    inputs = tensors(np.broadcast_arrays(*arguments))
    value = f(*inputs)
    grads = torch.autograd.grad(value.sum(), inputs, create_graph=True)
    zero = torch.zeros_like(value)
    hessian = [
        torch.autograd.grad(g.sum(), inputs, retain_graph=True, allow_unused=True, materialize_grads=True)
        if g.requires_grad
        else [zero] * len(inputs)
        for g in grads
    ]
    return (
        value.detach().numpy(),
        [g.detach().numpy() for g in grads],
        [[h.numpy(force=True) for h in row] for row in hessian],
    )


def amplified(f, derivatives, arguments, exact):
    """|f| + sum |p df/dp|: the error, in eps, from one rounding of the result and of each argument that is not
    exact."""
    terms = zip(derivatives, arguments, exact, strict=True)
    return np.abs(f) + sum(np.where(e, 0, np.abs(np.asarray(a, dtype=np.float64) * d)) for d, a, e in terms)


def assert_close(actual, expected, scale, dtype, steps=STEPS):
    info = np.finfo(dtype)
    with np.errstate(over="ignore"):
        infinite = np.isinf(expected.astype(dtype))
    assert np.isfinite(expected).all() and actual.size
    assert (actual[infinite] == np.sign(expected[infinite]) * np.inf).all()
    error = np.abs(actual.astype(np.float64) - expected)[~infinite]
    # where the true result is below the smallest normal number, exp gives 0 or a little more than that number
    bound = (steps * info.eps * scale)[~infinite] + 2 * info.tiny
    worst = np.argmax(error / bound)
    assert (error <= bound).all(), f"{error[worst] / bound[worst]:.3g} times the bound, {expected[~infinite][worst]}"


def check(cpp, name, dtype, f, arguments, first=0, oracle=None, gradients=None):
    """Compares the C++ of a formula with f in float64. `oracle` replaces f for the value, and `gradients` replaces its
    derivatives. The first gradient is the derivative by argument number `first`."""
    arguments = [np.asarray(a).astype(DTYPES[dtype]) for a in np.broadcast_arrays(*arguments)]
    # for counts only 0 is exact: a count of 1 is subtracted from a mean that was rounded
    whole = (0,) if name in LIKELIHOODS and LIKELIHOODS[name].SUPPORT == "counts" else (0, 1)
    exact = [np.isin(a, whole) & (i < first) for i, a in enumerate(arguments)]
    module = getattr(cpp, dtype)
    value, grads, hessian = reference(f, *arguments)
    if oracle is not None:
        value = oracle(*(a.astype(np.float64) for a in arguments))
    if gradients is not None:
        grads = gradients(*(a.astype(np.float64) for a in arguments))
    left_out = no_options(name, dtype)
    actual = getattr(module, name)(*arguments, *left_out)
    assert actual.dtype == DTYPES[dtype]
    assert_close(actual, value, amplified(value, grads, arguments, exact), DTYPES[dtype])
    for k, (grad, row) in enumerate(zip(grads[first:], hessian[first:], strict=True)):
        actual = getattr(module, f"{name}_grad")(k, *arguments, *left_out)
        assert_close(actual, grad, amplified(grad, row, arguments, exact), DTYPES[dtype])


def no_options(name, dtype):
    """An option, such as the number of levels, is a further parameter of the C++, and has its default where it is 0."""
    return [np.zeros(1, DTYPES[dtype])] * len(getattr(LIKELIHOODS.get(name), "OPTIONS", ()))


# --- likelihoods: x, then the parameters


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihood(cpp, name, dtype):
    x, params = oracles.ORACLES[name]["sample_params"](np.random.default_rng(0), (20000,))
    nll = oracles.ORACLES[name]["nll"]
    check(cpp, name, dtype, LIKELIHOODS[name].nll, (x, *params), first=1)
    few = [a[:4000] for a in (x, *params)]  # mpmath takes 0.1 ms for an element
    check(cpp, name, dtype, LIKELIHOODS[name].nll, few, first=1, oracle=nll)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli_at_the_edges(cpp, dtype):
    sizes = (0.0, 1e-38, 1e-30, 1e-8, 0.5, 20.0, 86.0, 87.0, 88.0, 89.0, 100.0, 709.0, 710.0, 1e4, 1e30)
    logits = [s * a for a in sizes for s in (1, -1)]
    x, logits = np.array(list(product((0.0, 1.0, 0.5, 1 / 3, 1e-30, 1 - 2**-24), logits))).T
    check(cpp, "bernoulli", dtype, LIKELIHOODS["bernoulli"].nll, (x, logits), first=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_at_the_edges(cpp, dtype):
    """For logvar = -300 the value is finite where the residual is 0 or small enough. Elsewhere the true value is too
    large for the type, and the result must be infinite."""
    logvar = (
        -400.0,
        -300.0,
        -250.0,
        -180.0,
        -170.0,
        -87.0,
        -10.0,
        -1.8378770664093453,
        0.0,
        1e-30,
        1.0,
        10.0,
        80.0,
        999.0,
    )
    residual = (0.0, 1e-37, -1e-25, 1e-20, -1e-12, 1.0, -3.0, 1e4, -1e15)
    residual, logvar = np.array(list(product(residual, logvar))).T
    check(cpp, "gaussian", dtype, LIKELIHOODS["gaussian"].nll, (residual, 0 * residual, logvar), first=1)
    check(cpp, "gaussian", dtype, LIKELIHOODS["gaussian"].nll, (0 * residual, residual, logvar), first=1)
    check(
        cpp, "gaussian", dtype, LIKELIHOODS["gaussian"].nll, (np.full(14, 2.0), np.full(14, 2.0), logvar[:14]), first=1
    )


# --- KL and sample


def kl_gradients(mu, logvar, prior_mu, prior_logvar):
    """The gradients written by hand. autograd computes the derivative of expm1 as (e^t - 1) + 1, and near the prior
    this rounding loses all digits of the gradient."""
    ratio, u = np.expm1(logvar - prior_logvar), (mu - prior_mu) * np.exp(-prior_logvar)
    return u, ratio / 2, -u, -(u * (mu - prior_mu) + ratio) / 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl(cpp, dtype):
    rng = np.random.default_rng(1)
    latent = [rng.normal(scale=s, size=3000).astype(DTYPES[dtype]) for s in (1, 2, 1, 2)]
    latent[1][:1000] = latent[3][:1000] + rng.normal(scale=1e-3, size=1000)  # close to the prior
    check(cpp, "gaussian_kl", dtype, kl.gaussian_kl, latent, oracle=oracles.gaussian_kl, gradients=kl_gradients)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_at_the_edges(cpp, dtype):
    mu, prior_mu = (0.0, 1e-25, 1.0, -1e4), (0.0, 1e-20)
    logvar, prior_logvar = (-300.0, -10.0, 0.0, 1e-6, 80.0), (-400.0, -250.0, -180.0, -87.0, 0.0, 60.0)
    latent = np.array(list(product(mu, logvar, prior_mu, prior_logvar))).T
    check(cpp, "gaussian_kl", dtype, kl.gaussian_kl, latent, oracle=oracles.gaussian_kl, gradients=kl_gradients)


NEAR = np.concatenate([np.geomspace(1e-20, 88.7, 4000), np.linspace(0.3, 0.4, 1000), np.linspace(0.019, 0.021, 500)])
NEAR = np.concatenate([NEAR, -NEAR, np.linspace(-1e4, -88.7, 100)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_near_the_prior_to_full_relative_accuracy(cpp, dtype):
    """e^x - 1 - x is x^2 / 2 near 0. An absolute error of eps |x| would there be a relative error of 100 %."""
    info, module = np.finfo(DTYPES[dtype]), getattr(cpp, dtype)
    x = NEAR.astype(DTYPES[dtype])
    exact = np.array([float(mpmath.expm1(mpmath.mpf(float(v))) - mpmath.mpf(float(v))) for v in x])
    # The error is largest at x = 0.35, where e^x = 2 e^r with r of about -1/3. r is rounded twice by eps / 8, which the
    # factor 2 doubles, and 1 - x once by eps / 8. The sum is 5/8 eps, and e^x - 1 - x = 0.068.
    steps = 10
    error = np.abs(module.expm1_minus_x(x).astype(np.float64) - exact)
    assert (error <= steps * info.eps * exact + info.smallest_subnormal).all(), np.max(error / exact) / info.eps
    value = module.gaussian_kl(0 * x, x, 0 * x, 0 * x)
    assert (np.abs(2 * value.astype(np.float64) - exact) <= steps * info.eps * exact + info.tiny).all()
    assert (value >= 0).all() and (value[np.abs(x) > 1e-15] > 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_reparameterize(cpp, dtype):
    rng = np.random.default_rng(2)
    mu, logvar, eps = rng.normal(size=(3, 5000))
    logvar[:8] = -300, -100, -1e-30, 0, 1e-30, 10, 80, 160
    info, module = np.finfo(DTYPES[dtype]), getattr(cpp, dtype)
    mu, logvar, eps = (a.astype(DTYPES[dtype]) for a in (mu, logvar, eps))
    z = reparameterize.reparameterize(*map(torch.tensor, map(np.float64, (mu, logvar, eps)))).numpy()
    noise = z - mu  # the derivative by logvar is half of this; the roundings: exp (2 ulp), a product, a sum
    assert_close(module.reparameterize(mu, logvar, eps), z, np.abs(z) + np.abs(noise), info.dtype, 3)
    noise = np.exp(logvar.astype(np.float64) / 2) * eps
    assert_close(module.reparameterize_grad(0, mu, logvar, eps), noise / 2, np.abs(noise), info.dtype, 3)


# --- NaN


FORMULAS = {name: (formula.nll, 1 + len(formula.PARAMETERS), 1) for name, formula in LIKELIHOODS.items()}
FORMULAS["gaussian_kl"] = kl.gaussian_kl, 4, 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMULAS)
def test_formula_of_nan(cpp, name, dtype):
    """If an argument is NaN, the value is NaN, and so is each gradient that depends on this argument."""
    f, n, first = FORMULAS[name]
    arguments = np.full((n, n), 0.25)
    np.fill_diagonal(arguments, np.nan)
    _, grads, _ = reference(f, *arguments)
    arguments = arguments.astype(DTYPES[dtype])
    module, left_out = getattr(cpp, dtype), no_options(name, dtype)
    assert np.isnan(getattr(module, name)(*arguments, *left_out)).all()
    for k, grad in enumerate(grads[first:]):
        actual = getattr(module, f"{name}_grad")(k, *arguments, *left_out)
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(grad))
    assert any(np.isnan(g).any() for g in grads)


def test_sample_of_nan(cpp):
    arguments = np.full((3, 3), 0.25, dtype=np.float32)
    np.fill_diagonal(arguments, np.nan)
    assert np.isnan(cpp.float32.reparameterize(*arguments)).all()
    np.testing.assert_array_equal(np.isnan(cpp.float32.reparameterize_grad(0, *arguments)), [False, True, True])
